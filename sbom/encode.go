package sbom

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"time"

	"github.com/CycloneDX/cyclonedx-go"
	"github.com/anchore/syft/syft/format/common/cyclonedxhelpers"
	"github.com/anchore/syft/syft/format/common/spdxhelpers"
	syftsbom "github.com/anchore/syft/syft/sbom"
	"github.com/anchore/syft/syft/source"
	"github.com/google/uuid"
	"github.com/spdx/tools-golang/spdx"
)

// epoch stands in both documents for a time that is not known: the documents
// say what is inside an artifact, and that does not depend on when they were
// made.
var epoch = time.Unix(0, 0).UTC().Format(time.RFC3339)

// identity is what a document says about its artifact; everything in it that
// has to be unique is derived from here.
type identity struct {
	name, version string
	sha1, sha256  string
}

func (id identity) uuid() uuid.UUID {
	return uuid.NewSHA1(uuid.NameSpaceURL, []byte("sha256:"+id.sha256+" "+id.name+" "+id.version))
}

// encode writes a settled inventory of one file in both formats.
func encode(s syftsbom.SBOM) (*Documents, error) {
	id := identity{name: s.Source.Name, version: s.Source.Version}
	meta, ok := s.Source.Metadata.(source.FileMetadata)
	if !ok {
		return nil, fmt.Errorf("unexpected source %T", s.Source.Metadata)
	}
	for _, d := range meta.Digests {
		switch d.Algorithm {
		case "sha1":
			id.sha1 = d.Value
		case "sha256":
			id.sha256 = d.Value
		}
	}
	if id.sha1 == "" || id.sha256 == "" {
		return nil, errors.New("the file's digests are missing")
	}
	bom := cyclonedxhelpers.ToFormatModel(s)
	subject := bom.Metadata.Component
	subject.Type = cyclonedx.ComponentTypeApplication
	bom.Metadata.Supplier = nil
	doc := spdxhelpers.ToFormatModel(s)
	for _, p := range doc.Packages {
		if p.PrimaryPackagePurpose == "FILE" { // the artifact itself
			p.PrimaryPackagePurpose = "APPLICATION"
		}
	}
	return finish(id, bom, doc)
}

// finish pins every field that would differ from run to run, records the
// artifact's digest and encodes.
func finish(id identity, bom *cyclonedx.BOM, doc *spdx.Document) (*Documents, error) {
	bom.SerialNumber = id.uuid().URN()
	bom.Metadata.Timestamp = epoch
	bom.Metadata.Component.Hashes = &[]cyclonedx.Hash{{Algorithm: cyclonedx.HashAlgoSHA256, Value: id.sha256}}
	doc.DocumentNamespace = "https://sluice.dev/spdx/" + url.PathEscape(id.name+"-"+id.version) + "-" + id.uuid().String()
	doc.CreationInfo.Created = epoch
	doc.CreationInfo.Creators = []spdx.Creator{{CreatorType: "Tool", Creator: "sluice"}, {CreatorType: "Tool", Creator: toolName + "-" + toolVersion}}
	out := &Documents{Components: len(*bom.Components)}
	var b bytes.Buffer
	enc := cyclonedx.NewBOMEncoder(&b, cyclonedx.BOMFileFormatJSON).SetPretty(true).SetEscapeHTML(false)
	if err := enc.EncodeVersion(bom, cyclonedx.SpecVersion1_6); err != nil {
		return nil, fmt.Errorf("encoding CycloneDX: %w", err)
	}
	out.CycloneDX = b.Bytes()
	var s bytes.Buffer
	js := json.NewEncoder(&s)
	js.SetEscapeHTML(false)
	js.SetIndent("", "  ")
	if err := js.Encode(doc); err != nil {
		return nil, fmt.Errorf("encoding SPDX: %w", err)
	}
	out.SPDX = s.Bytes()
	return out, nil
}
