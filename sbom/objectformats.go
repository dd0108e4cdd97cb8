package sbom

import (
	"strings"

	"github.com/CycloneDX/cyclonedx-go"
	"github.com/spdx/tools-golang/spdx"
)

const noAssertion = "NOASSERTION" // SPDX for "not known"

func (o ObjectSpec) cycloneDX(id identity) *cyclonedx.BOM {
	subject := cyclonedx.Component{
		BOMRef: "sha256:" + id.sha256, Type: cyclonedx.ComponentTypeLibrary,
		Name: o.Name, Version: o.Version, Licenses: o.cycloneDXLicences(),
	}
	var properties []cyclonedx.Property
	for _, p := range o.Programs {
		properties = append(properties, cyclonedx.Property{Name: "sluice:bpf:program", Value: p})
	}
	if properties != nil {
		subject.Properties = &properties
	}
	itself := subject
	itself.BOMRef += "#object"
	itself.Hashes = &[]cyclonedx.Hash{{Algorithm: cyclonedx.HashAlgoSHA256, Value: id.sha256}}
	components := []cyclonedx.Component{itself}
	if c := o.compiler(); c != "" {
		components = append(components, cyclonedx.Component{
			BOMRef: "clang@" + c, Type: cyclonedx.ComponentTypeApplication, Scope: cyclonedx.ScopeExcluded,
			Name: "clang", Version: c, Description: "compiler that built the object",
			Licenses: &cyclonedx.Licenses{{Expression: "Apache-2.0 WITH LLVM-exception"}},
		})
	}
	bom := cyclonedx.NewBOM()
	bom.Metadata = &cyclonedx.Metadata{
		Component: &subject,
		Tools:     &cyclonedx.ToolsChoice{Components: &[]cyclonedx.Component{{Type: cyclonedx.ComponentTypeApplication, Name: "sluice"}}},
	}
	bom.Components = &components
	return bom
}

func (o ObjectSpec) cycloneDXLicences() *cyclonedx.Licenses {
	expression, name := o.licence()
	switch {
	case expression != "" && strings.ContainsRune(expression, ' '):
		return &cyclonedx.Licenses{{Expression: expression}}
	case expression != "":
		return &cyclonedx.Licenses{{License: &cyclonedx.License{ID: expression}}}
	case name != "":
		return &cyclonedx.Licenses{{License: &cyclonedx.License{Name: name}}}
	}
	return nil
}

func (o ObjectSpec) spdx(id identity) *spdx.Document {
	declared, other := o.spdxLicence()
	object := &spdx.Package{
		PackageName: o.Name, PackageVersion: o.Version, PackageSPDXIdentifier: "Package-object",
		PackageDownloadLocation: noAssertion, PackageCopyrightText: noAssertion,
		PackageLicenseConcluded: noAssertion, PackageLicenseDeclared: declared, PrimaryPackagePurpose: "LIBRARY",
		PackageChecksums: []spdx.Checksum{{Algorithm: spdx.SHA1, Value: id.sha1}, {Algorithm: spdx.SHA256, Value: id.sha256}},
	}
	if len(o.Programs) > 0 {
		object.PackageComment = "eBPF programs: " + strings.Join(o.Programs, ", ")
	}
	doc := &spdx.Document{
		SPDXVersion: spdx.Version, DataLicense: spdx.DataLicense, SPDXIdentifier: "DOCUMENT", DocumentName: o.Name,
		CreationInfo: &spdx.CreationInfo{}, Packages: []*spdx.Package{object}, OtherLicenses: other,
		Relationships: []*spdx.Relationship{relate("DOCUMENT", spdx.RelationshipDescribes, "Package-object")},
	}
	if c := o.compiler(); c != "" {
		doc.Packages = append(doc.Packages, &spdx.Package{
			PackageName: "clang", PackageVersion: c, PackageSPDXIdentifier: "Package-clang",
			PackageDownloadLocation: noAssertion, PackageCopyrightText: noAssertion,
			PackageLicenseConcluded: noAssertion, PackageLicenseDeclared: "Apache-2.0 WITH LLVM-exception", PrimaryPackagePurpose: "APPLICATION",
		})
		doc.Relationships = append(doc.Relationships, relate("Package-clang", spdx.RelationshipBuildToolOf, "Package-object"))
	}
	return doc
}

func relate(from spdx.ElementID, relationship string, to spdx.ElementID) *spdx.Relationship {
	return &spdx.Relationship{
		RefA: spdx.DocElementID{ElementRefID: from}, Relationship: relationship, RefB: spdx.DocElementID{ElementRefID: to},
	}
}

func (o ObjectSpec) spdxLicence() (string, []*spdx.OtherLicense) {
	expression, name := o.licence()
	switch {
	case expression != "":
		return expression, nil
	case name != "":
		ref := "LicenseRef-kernel-" + strings.Map(idChar, name)
		return ref, []*spdx.OtherLicense{{LicenseIdentifier: ref, LicenseName: name, ExtractedText: name}}
	}
	return noAssertion, nil
}

// idChar keeps what SPDX 2.3, clause 10.1, allows in a LicenseRef.
func idChar(r rune) rune {
	if r == '.' || r == '-' || r >= '0' && r <= '9' || r >= 'A' && r <= 'Z' || r >= 'a' && r <= 'z' {
		return r
	}
	return '-'
}
