package sbom

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/spdx/tools-golang/spdx"
)

var probe = ObjectSpec{
	Name: "probe", Version: "v1.2.3", License: "Dual BSD/GPL", Clang: "Debian clang version 19.1.7 (3)",
	Programs: []string{"probe_ingress", "probe_egress", "probe_sockops"},
}

func object(t testing.TB, raw []byte, spec ObjectSpec) *Documents {
	t.Helper()
	docs, err := Object(context.Background(), raw, spec)
	if err != nil {
		t.Fatal(err)
	}
	return docs
}

func TestObjectSaysWhatItIs(t *testing.T) {
	raw := []byte("\x7fELF not really")
	docs := object(t, raw, probe)
	sum := sha256.Sum256(raw)
	want := hex.EncodeToString(sum[:])
	if got, err := Subject(docs.CycloneDX); err != nil || got != want {
		t.Errorf("Subject = %s, %v; want %s", got, err, want)
	}
	bom, doc := decode(t, docs)
	if got := described(doc); got != want {
		t.Errorf("the SPDX document describes %s, want %s", got, want)
	}
	var programs []string
	for _, p := range *bom.Metadata.Component.Properties {
		programs = append(programs, p.Name+"="+p.Value)
	}
	if d := cmp.Diff([]string{"sluice:bpf:program=probe_egress", "sluice:bpf:program=probe_ingress", "sluice:bpf:program=probe_sockops"}, programs); d != "" {
		t.Error("programs (-want +got):\n" + d)
	}
	clang := (*bom.Components)[1]
	if docs.Components != 2 || clang.Name != "clang" || clang.Version != "19.1.7 (3)" || clang.Scope != "excluded" {
		t.Errorf("compiler: %+v", clang)
	}
	tool := false
	for _, r := range doc.Relationships {
		tool = tool || r.Relationship == spdx.RelationshipBuildToolOf
	}
	if !tool {
		t.Error("the SPDX document does not say that clang is a build tool")
	}
}

func TestObjectIsByteIdentical(t *testing.T) {
	want := object(t, []byte("object"), probe)
	shuffled := probe
	shuffled.Programs = []string{"probe_sockops", "probe_ingress", "probe_egress"}
	same(t, want, object(t, []byte("object"), shuffled))
	if d := cmp.Diff([]string{"probe_sockops", "probe_ingress", "probe_egress"}, shuffled.Programs); d != "" {
		t.Error("the caller's slice was changed:\n" + d)
	}
	if other := object(t, []byte("another object"), probe); bytes.Equal(want.CycloneDX, other.CycloneDX) || bytes.Equal(want.SPDX, other.SPDX) {
		t.Error("two objects share a document")
	}
}

func TestObjectLicence(t *testing.T) {
	for name, tt := range map[string]struct{ license, cycloneDX, spdx string }{
		"the kernel's GPL is version 2":               {"GPL", `"id": "GPL-2.0-only"`, `"licenseDeclared": "GPL-2.0-only"`},
		"an SPDX identifier stays":                    {"MIT", `"id": "MIT"`, `"licenseDeclared": "MIT"`},
		"an SPDX expression stays":                    {"GPL-2.0-only OR BSD-2-Clause", `"expression": "GPL-2.0-only OR BSD-2-Clause"`, `"licenseDeclared": "GPL-2.0-only OR BSD-2-Clause"`},
		"a dual licence of the kernel keeps its name": {"Dual BSD/GPL", `"name": "Dual BSD/GPL"`, `"licenseDeclared": "LicenseRef-kernel-Dual-BSD-GPL"`},
		"no licence is no assertion":                  {"", `"name": "probe"`, `"licenseDeclared": "NOASSERTION"`},
	} {
		t.Run(name, func(t *testing.T) {
			spec := probe
			spec.License = tt.license
			docs := object(t, []byte("object"), spec)
			decode(t, docs)
			if !strings.Contains(string(docs.CycloneDX), tt.cycloneDX) {
				t.Errorf("CycloneDX lacks %s:\n%s", tt.cycloneDX, docs.CycloneDX)
			}
			if !strings.Contains(string(docs.SPDX), tt.spdx) {
				t.Errorf("SPDX lacks %s:\n%s", tt.spdx, docs.SPDX)
			}
		})
	}
}

func TestObjectRefuses(t *testing.T) {
	for name, tt := range map[string]struct {
		raw  []byte
		spec ObjectSpec
	}{
		"an empty object":   {nil, probe},
		"a missing name":    {[]byte("object"), ObjectSpec{Version: "v1"}},
		"a missing version": {[]byte("object"), ObjectSpec{Name: "probe"}},
	} {
		t.Run(name, func(t *testing.T) {
			if docs, err := Object(context.Background(), tt.raw, tt.spec); err == nil {
				t.Errorf("accepted: %s", docs.CycloneDX)
			}
		})
	}
}

func TestObjectWithoutCompilerIsNotEmpty(t *testing.T) {
	docs := object(t, []byte("object"), ObjectSpec{Name: "probe", Version: "v1"})
	decode(t, docs)
	if docs.Components != 1 {
		t.Errorf("%d components, want the object itself", docs.Components)
	}
}
