package config

import (
	"cmp"
	"fmt"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

var (
	nameForm     = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$`)
	versionForm  = regexp.MustCompile(`^[A-Za-z0-9_][-A-Za-z0-9._+]{0,127}$`)
	envForm      = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)
	tagForm      = regexp.MustCompile(`^[A-Za-z0-9_.]+$`)
	stampForm    = regexp.MustCompile(`^[^\s=]+\.[A-Za-z_][A-Za-z0-9_]*$`)
	registryForm = regexp.MustCompile(`^[a-zA-Z0-9.-]+(:[0-9]+)?(/[a-z0-9]+([._-]+[a-z0-9]+)*)+$`)
)

// CheckVersion returns an error if a version cannot name a folder and an image. Whether it is SemVer and newer than
// what runs is for the policy to say.
func CheckVersion(version string) error {
	if !versionForm.MatchString(version) {
		return fmt.Errorf("%q cannot be a version (write v1.2.3)", version)
	}
	return nil
}

// check finds what the types and tags of single fields cannot say. It expects paths as they were written.
func (c *Config) check(p *problems) {
	fault := func(wrong bool, path, format string, args ...any) {
		if wrong {
			p.add(c.placeOf(path), path, format, args...)
		}
	}
	c.checkBuild(fault)
	c.checkService(fault)
	c.checkSupplyChain(fault, p)
	c.checkCanary(fault, p)
	c.checkKubernetes(fault, p)
	c.checkArgoCD(fault, p)
}

type faultFunc func(wrong bool, path, format string, args ...any)

func (c *Config) checkBuild(fault faultFunc) {
	b := &c.Build
	fault(!nameForm.MatchString(c.Name), "name", "%q is not a DNS label: 1 to 63 of a-z, 0-9 and \"-\", with a letter or digit at both ends", c.Name)
	if _, given := c.position["version"]; given {
		err := CheckVersion(c.Version)
		fault(err != nil, "version", "%v", err)
	}
	fault(b.Main == "" || strings.HasPrefix(b.Main, "-") || strings.ContainsAny(b.Main, " \t\n*") || strings.Contains(b.Main, "..."),
		"build.main", "%q does not name one package (write ./cmd/%s)", b.Main, cmpName(c.Name))
	fault(strings.HasSuffix(b.Main, ".go"), "build.main", "%q is a file; name its folder: %s", b.Main, dotted(filepath.Dir(b.Main)))
	b.Main = packagePattern(b.Main)
	fault(!stampForm.MatchString(b.Stamp), "build.stamp", "%q is not a variable (write main.version)", b.Stamp)
	for i, t := range b.Tags {
		fault(!tagForm.MatchString(t), fmt.Sprintf("build.tags[%d]", i), "%q is not a build tag: letters, digits, \"_\" and \".\" only", t)
	}
	fault(len(b.Platforms) == 0, "build.platforms", "names no platform (leave it out for the usual eight)")
	linux := false
	for i, name := range b.Platforms {
		path := fmt.Sprintf("build.platforms[%d]", i)
		fault(!slices.Contains(platforms, name), path, "%q is not a platform%s", name, platformHint(name))
		fault(slices.Index(b.Platforms, name) < i, path, "%s is given twice", name)
		linux = linux || strings.HasPrefix(name, "linux/")
	}
	where := map[string]string{"kubernetes": "nodes run Linux"}[c.Deploy.Target]
	fault(!linux, "build.platforms", "has no linux/… platform, but %s", cmp.Or(where, "the target local runs the service on this Linux machine"))
}

func (c *Config) checkService(fault faultFunc) {
	s := &c.Service
	for name, value := range s.Env {
		path := "service.env." + name
		fault(!envForm.MatchString(name), path, "%q is not the name of an environment variable", name)
		fault(strings.ContainsRune(value, 0), path, "contains a NUL byte")
	}
	for i, arg := range s.Args {
		fault(strings.ContainsRune(arg, 0), fmt.Sprintf("service.args[%d]", i), "contains a NUL byte")
	}
	_, given := c.position["service.health"]
	fault(given && (!strings.HasPrefix(s.Health, "/") || strings.ContainsAny(s.Health, " \t\r\n#")),
		"service.health", "%q is not a path (write /healthz)", s.Health)
}

func (c *Config) checkSupplyChain(fault faultFunc, p *problems) {
	fault(!envForm.MatchString(c.Sign.KeyEnv), "sign.key_env", "%q is not the name of an environment variable; the key itself does not belong in this file", c.Sign.KeyEnv)
	fault(!envForm.MatchString(c.Sign.PassphraseEnv), "sign.passphrase_env",
		"%q is not the name of an environment variable; the passphrase itself does not belong in this file", c.Sign.PassphraseEnv)
	c.checkKeyless(fault)
	r := c.Publish.Registry
	_, given := c.position["publish.registry"]
	fault(strings.Contains(r, "://"), "publish.registry", "%q has a scheme: write host/repository%s", r, map[bool]string{true: ", and insecure: true for plain HTTP"}[strings.HasPrefix(r, "http:")])
	fault(given && !registryForm.MatchString(r), "publish.registry", "%q is not host/repository without tag (write registry.example.com/team/%s)", r, cmpName(c.Name))
	fault(c.Publish.Insecure && r == "" && p.fine("publish.registry"), "publish.insecure", "is given, but publish.registry is not")
	fault(c.BPF.Bundle != "" && c.BPF.Object == "", "bpf.bundle", "signs an object, but bpf.object is not given")
	fault(c.BPF.Bundle != "" && c.Sign.PublicKey == "" && c.Sign.Key == "" && !c.Sign.Keyless.Given(), "bpf.bundle", "is verified, but none of sign.public_key, sign.key and sign.keyless is given")
	for _, f := range c.files() {
		_, given := c.position[f.path]
		fault(given && f.name == "", f.path, "is empty: name a file or remove the line")
		fault(strings.HasPrefix(f.name, "~"), f.path, "%q: ~ is not expanded, write the path out", f.name)
	}
	for path, list := range map[string][]string{"policy.denied_packages": c.Policy.DeniedPackages, "policy.denied_licenses": c.Policy.DeniedLicenses} {
		for i, name := range list {
			fault(strings.TrimSpace(name) != name || name == "", fmt.Sprintf("%s[%d]", path, i), "%q is empty or has blanks around it, and would match nothing", name)
		}
	}
}

func (c *Config) checkCanary(fault faultFunc, p *problems) {
	k := &c.Deploy.Canary
	fault(len(k.Steps) == 0, "deploy.canary.steps", "has no step (leave it out for 10%% and 50%%)")
	total, whole := k.Warmup, p.fine("deploy.canary.warmup", "deploy.canary.deadline")
	for i, s := range k.Steps {
		weight, hold := fmt.Sprintf("deploy.canary.steps[%d].weight", i), fmt.Sprintf("deploy.canary.steps[%d].min", i)
		fault(s.Weight == 1, weight, "100%% leaves no traffic to compare with; after the last step the new version gets all of it anyway")
		if i > 0 && p.fine(weight, fmt.Sprintf("deploy.canary.steps[%d].weight", i-1)) {
			fault(s.Weight <= k.Steps[i-1].Weight, weight, "%v is not more than the %v of the step before", s.Weight, k.Steps[i-1].Weight)
		}
		total, whole = total+s.Min, whole && p.fine(hold)
	}
	fault(whole && total >= k.Deadline, "deploy.canary.deadline", "%v is over before warmup and the steps' min are (%v in all)", k.Deadline, total)
	slo := c.Deploy.Gate.SLO
	_, given := c.position["deploy.gate.slo"]
	fault(given && slo == (SLO{}) && p.fine("deploy.gate.slo.latency.threshold", "deploy.gate.slo.latency.ratio", "deploy.gate.slo.errors"),
		"deploy.gate.slo", "names no objective: give latency or errors, or remove it")
}

// packagePattern returns a path as the go command wants it: "cmd/hello" is ./cmd/hello; what looks like an import
// path (a dot in its first element) stays.
func packagePattern(main string) string {
	first, _, _ := strings.Cut(main, "/")
	if main == "" || filepath.IsAbs(main) || strings.Contains(first, ".") {
		return main
	}
	return dotted(main)
}

func dotted(path string) string {
	if path = filepath.Clean(path); path == "." || filepath.IsAbs(path) || strings.HasPrefix(path, "..") {
		return path
	}
	return "./" + path
}

// cmpName returns a name fit for an example.
func cmpName(name string) string {
	if nameForm.MatchString(name) {
		return name
	}
	return "hello"
}
