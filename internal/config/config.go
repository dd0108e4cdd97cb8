// Package config reads sluice.yaml into a typed Config.
//
// Reading is strict: an unknown field, a wrong type, a bad unit, a missing or a
// contradictory value is a problem with its line, and all problems of a file are
// reported together in one *Error. What it returns is complete: defaults are
// filled in and paths are absolute. It expands no variables and talks to nothing;
// whether keys open or packages compile is found out by the steps that use them.
//
// The field tags are the rules: json (the name in the file), required (with an
// example), default, min, max, slip (what to say to who exceeds max), enum,
// optional (a section that may be left out as a whole; "unless target=local" means that it may not if the field target
// beside it says so). The JSON Schema in docs/sluice.schema.json is generated from the same
// types, tags and comments.
package config

// Config is everything a sluice.yaml says.
type Config struct {
	// Name of the service: names the binaries, the image and the cgroups. A DNS label: a-z, 0-9 and "-".
	Name string `json:"name" required:"hello"`
	// Version of the release, SemVer 2.0.0, for example v1.2.3. The flag --version overrides it.
	Version string `json:"version,omitempty"`
	// What is compiled, and for which platforms.
	Build Build `json:"build"`
	// Compression of the binaries with UPX.
	Pack Pack `json:"pack"`
	// How the service is run: arguments, environment, health and patience.
	Service Service `json:"service"`
	// The keys that sign binaries, SBOMs, image and eBPF object, or the identity. Without any, a pair is created under out/keys.
	Sign Sign `json:"sign"`
	// Rules of your own, added to the built-in ones. A rule that fails to evaluate denies.
	Policy Policy `json:"policy"`
	// Where the image goes besides the OCI layout in out/oci.
	Publish Publish `json:"publish"`
	// The eBPF probe that measures both versions, if it is not to be the built-in one.
	BPF BPF `json:"bpf"`
	// Where and how a new version is rolled out.
	Deploy Deploy `json:"deploy"`

	file     string
	position map[string]place
}

// Build says what is compiled.
type Build struct {
	// The main package, relative to the module folder, for example ./cmd/hello.
	Main string `json:"main" required:"./cmd/hello"`
	// Folder with the go.mod of the service, relative to this file. Left out: the folder of this file.
	Dir string `json:"dir,omitempty"`
	// Platforms as GOOS/GOARCH.
	Platforms []string `json:"platforms" default:"linux/amd64,linux/arm64,linux/arm,linux/riscv64,darwin/amd64,darwin/arm64,windows/amd64,windows/arm64"`
	// Build tags.
	Tags []string `json:"tags,omitempty"`
	// The string variable that receives the version at link time.
	Stamp string `json:"stamp" default:"main.version"`
	// The largest stripped binary that is accepted, for example 20MiB. Left out: no limit.
	Budget Size `json:"budget,omitzero" min:"1KiB"`
}

// Pack says whether and how hard binaries are compressed.
type Pack struct {
	// "auto" packs what gets smaller and still works, and says why it left the rest. "require" makes it a failure when the binary of this machine cannot be packed. "off" packs nothing.
	UPX string `json:"upx" default:"auto" enum:"auto,off,require"`
	// UPX level. 1 takes half a second for 9 MB; 9 takes minutes and saves little more.
	Level int `json:"level" default:"1" min:"1" max:"9"`
}

// Service says how the compiled service is run.
type Service struct {
	// Arguments of the service.
	Args []string `json:"args,omitempty"`
	// Environment of the service, added to PATH, HOME and TMPDIR. Values are text: quote numbers.
	Env map[string]string `json:"env,omitempty"`
	// The TCP port that takes the traffic. Only needed by a service that listens on several.
	Port int `json:"port,omitzero" min:"1" max:"65535"`
	// Path that answers 2xx when the service is healthy, for example /healthz. Left out: it is healthy once it accepts TCP connections.
	Health string `json:"health,omitempty"`
	// How long the service may take to become healthy.
	Start Duration `json:"start" default:"30s" min:"100ms" max:"1h"`
	// How long it may take to end after SIGTERM, before SIGKILL.
	Stop Duration `json:"stop" default:"10s" min:"0s" max:"1h"`
}

// Sign names the keys.
type Sign struct {
	// Private key (cosign's encrypted PEM), relative to this file.
	Key string `json:"key,omitempty"`
	// Name of the environment variable that holds the private key itself, for machines without files of their own. A file in key comes before it.
	KeyEnv string `json:"key_env" default:"SLUICE_KEY"`
	// Public key (PEM), relative to this file. Left out: the one that belongs to the private key.
	PublicKey string `json:"public_key,omitempty"`
	// Name of the environment variable that holds the passphrase of the private key.
	PassphraseEnv string `json:"passphrase_env" default:"SLUICE_PASSPHRASE"`
	// An identity that signs instead of a key: that of a job in GitHub Actions, or of the token in SIGSTORE_ID_TOKEN. Comes before a key in the environment.
	Keyless Keyless `json:"keyless,omitzero" optional:"true"`
}

// Keyless names an identity, and those whose word makes its signature one.
type Keyless struct {
	// Who signs, as in the certificate, for example https://github.com/team/hello/.github/workflows/release.yml@refs/tags/v1.2.3.
	Identity string `json:"identity,omitempty"`
	// Pattern for who signs, instead of identity, for example https://github\.com/team/hello/\.github/workflows/release\.yml@refs/tags/.*. It has to match all of it.
	IdentityRegexp string `json:"identity_regexp,omitempty"`
	// Who vouches for the identity: the OpenID Connect issuer, as in the certificate.
	Issuer string `json:"issuer" default:"https://token.actions.githubusercontent.com"`
	// Sigstore's trusted_root.json, relative to this file: whose certificates, log and timestamps are believed. Verifying asks nobody else.
	TrustedRoot string `json:"trusted_root" required:"trusted_root.json"`
	// The certificate authority.
	Fulcio string `json:"fulcio" default:"https://fulcio.sigstore.dev"`
	// The transparency log, API v1. "off" asks none, and then timestamp is needed.
	Rekor string `json:"rekor" default:"https://rekor.sigstore.dev"`
	// The timestamping authority (RFC 3161), with its path. Left out: the log says when something was signed.
	Timestamp string `json:"timestamp,omitempty"`
}

// Given reports whether an identity signs.
func (k Keyless) Given() bool { return k != Keyless{} }

// Log is the URL of the transparency log, or "" if there is to be none.
func (k Keyless) Log() string {
	if k.Rekor == "off" {
		return ""
	}
	return k.Rekor
}

// Policy adds rules to the built-in ones.
type Policy struct {
	// Folders with your own Rego, relative to this file.
	Dirs []string `json:"dirs,omitempty"`
	// Go modules or packages that no release may contain, for example github.com/evil/left-pad.
	DeniedPackages []string `json:"denied_packages,omitempty"`
	// SPDX licence identifiers that no release may contain, for example AGPL-3.0-only.
	DeniedLicenses []string `json:"denied_licenses,omitempty"`
}

// Publish names a registry.
type Publish struct {
	// Registry and repository, for example registry.example.com/team/hello. Left out: only the OCI layout is written.
	Registry string `json:"registry,omitempty"`
	// Plain HTTP to the registry.
	Insecure bool `json:"insecure,omitempty"`
}

// BPF names another probe object.
type BPF struct {
	// Compiled probe, relative to this file. Left out: the built-in one.
	Object string `json:"object,omitempty"`
	// Sigstore bundle of the object. With it the object is verified with the public key; without it the object is signed as part of the release.
	Bundle string `json:"bundle,omitempty"`
}
