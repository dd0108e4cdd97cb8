package render

import (
	"bytes"
	"embed"
	"fmt"
	"text/template"
)

//go:embed readme.tmpl probe.tmpl
var texts embed.FS

var templates = template.Must(template.ParseFS(texts, "*.tmpl"))

// readme says what is done with the files, with the names of this service.
func readme(s *service, name string) ([]byte, error) {
	var out bytes.Buffer
	err := templates.ExecuteTemplate(&out, name, map[string]any{
		"Name": s.name, "Namespace": s.k.Namespace, "Argo": s.a, "Probe": s.k.Probe, "Image": s.k.Image, "Pull": s.k.PullSecret, "Ledger": s.k.Ledger,
		"Route": s.route(), "Seccomp": s.o.Seccomp, "Profile": profile,
	})
	if err != nil {
		return nil, fmt.Errorf("writing a README.md: %w", err)
	}
	return out.Bytes(), nil
}
