package render

import (
	"maps"
	"slices"
	"strings"

	core "k8s.io/api/core/v1"
)

// What the settings hold besides rules, and the mark that stands for a slash in
// their keys, which may have none.
const (
	configFile = "sluice.yaml"
	keyFile    = "cosign.pub"
	rootFile   = "trusted_root.json"
	folderMark = "__"
)

// settings is what releases are judged by. It lies where Argo CD may not write for
// the project, beside the project itself: a commit cannot change what judges it.
func (s *service) settings() core.ConfigMap {
	m := s.meta(s.settingsName(), "hook")
	m.Namespace = s.a.Namespace
	data := map[string]string{configFile: string(s.o.Config)}
	if s.cfg.Sign.Keyless.Given() {
		data[rootFile] = string(s.o.TrustedRoot)
	} else {
		data[keyFile] = string(s.o.PublicKey)
	}
	for _, path := range slices.Sorted(maps.Keys(s.o.Rules)) {
		data[strings.ReplaceAll(path, "/", folderMark)] = string(s.o.Rules[path])
	}
	return core.ConfigMap{TypeMeta: kind("v1", "ConfigMap"), ObjectMeta: m, Data: data}
}

func (s *service) settingsName() string { return s.k.Namespace + "-" + s.account() }

// admitted is where the hooks write which image the canary may have, and which one
// the stable version may have. It says nothing of its own, so that it can be
// applied again at any time.
func (s *service) admitted() core.ConfigMap {
	return core.ConfigMap{TypeMeta: kind("v1", "ConfigMap"), ObjectMeta: s.meta(s.name+"-admitted", "hook")}
}
