package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// maxBytes is far above any real file; what is larger was named by mistake.
const maxBytes = 1 << 20

// NotFoundError says that there is no configuration file.
type NotFoundError struct{ File string }

// Error names the file.
func (e *NotFoundError) Error() string {
	return fmt.Sprintf("reading %s: there is no such file", e.File)
}

// Hint shows the smallest file that would do.
func (e *NotFoundError) Hint() string {
	return "the smallest " + filepath.Base(e.File) + " is:\n" +
		"  name: hello\n  build: {main: ./cmd/hello}\n  deploy: {local: {listen: 127.0.0.1:8080}}"
}

// Load reads, parses and checks a file, and checks that what it names on disk exists: module folder, main package,
// policy folders, probe object and bundle (not the keys, which may come later). What is wrong in the file comes as one *Error; a file
// that is not there as *NotFoundError.
func Load(file string) (*Config, error) {
	data, err := content(file)
	if err != nil {
		return nil, err
	}
	c, p, err := parse(data, file)
	if err != nil {
		return nil, err
	}
	c.checkFiles(p)
	if err := p.err(file); err != nil {
		return nil, err
	}
	return c, nil
}

// Read is Load without looking for what the file names: for places where the file is, but not the source that it
// belongs to, such as a pod or a repository of manifests.
func Read(file string) (*Config, error) {
	data, err := content(file)
	if err != nil {
		return nil, err
	}
	return Parse(data, file)
}

func content(file string) ([]byte, error) {
	f, err := os.Open(file)
	if errors.Is(err, os.ErrNotExist) {
		return nil, &NotFoundError{File: file}
	} else if err != nil {
		return nil, fmt.Errorf("reading the configuration: %w", err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxBytes+1))
	if err != nil {
		return nil, fmt.Errorf("reading the configuration: %w", err)
	}
	return data, nil
}

// Parse parses and checks the content of a file without looking at the disk. The name serves messages, and paths in
// the content are taken relative to its folder. Any error is an *Error.
func Parse(data []byte, file string) (*Config, error) {
	c, p, err := parse(data, file)
	if err != nil {
		return nil, err
	}
	if err := p.err(file); err != nil {
		return nil, err
	}
	return c, nil
}

// parse returns what could be read together with its problems; the error is for a file that is no YAML.
func parse(data []byte, file string) (*Config, *problems, error) {
	d := decoder{position: map[string]place{}}
	if len(data) > maxBytes {
		d.add(place{1, 1}, "", "is larger than 1 MiB: is it the right file?")
		return nil, nil, d.err(file)
	}
	documents, err := split(data)
	if err != nil {
		d.add(place{line: syntaxLine(err)}, "", "%s", syntaxText(err))
		return nil, nil, d.err(file)
	}
	var root *yaml.Node
	if len(documents) > 0 {
		root = resolve(documents[0].Content[0])
	}
	if len(documents) > 1 {
		d.add(placeOf(documents[1]), "", "a second document (---) begins here; one file is one configuration")
	}
	absolute, err := filepath.Abs(file)
	if err != nil {
		return nil, nil, fmt.Errorf("finding the folder of %s: %w", file, err)
	}
	c := &Config{file: file, position: d.position}
	if root != nil && !isNull(root) && root.Kind != yaml.MappingNode {
		d.add(placeOf(root), "", "%s where a section (name: value) belongs", what(root))
		return nil, nil, d.err(file)
	}
	d.section(root, reflect.ValueOf(c).Elem(), "", place{1, 1})
	if _, given := d.position["deploy.canary.steps"]; !given {
		c.Deploy.Canary.Steps = DefaultSteps()
	}
	c.fillKubernetes()
	c.check(&d.problems)
	c.resolvePaths(filepath.Dir(absolute))
	return c, &d.problems, nil
}

// split returns the documents of a YAML stream, without empty ones.
func split(data []byte) (documents []*yaml.Node, err error) {
	defer func() {
		if r := recover(); r != nil { // the parser panics on some malformed input
			err = fmt.Errorf("yaml: %v", r)
		}
	}()
	for dec := yaml.NewDecoder(bytes.NewReader(data)); ; {
		var n yaml.Node
		switch err := dec.Decode(&n); {
		case errors.Is(err, io.EOF):
			return documents, nil
		case err != nil:
			return nil, err
		case len(n.Content) > 0:
			documents = append(documents, &n)
		}
	}
}

var syntaxPrefix = regexp.MustCompile(`^yaml: (?:unmarshal errors:\s*)?(?:line (\d+): )?`)

func syntaxLine(err error) int {
	line, _ := strconv.Atoi(syntaxPrefix.FindStringSubmatch(err.Error() + "yaml: ")[1])
	return line
}

// syntaxText turns the parser's words into advice for the two slips that are common.
func syntaxText(err error) string {
	text := syntaxPrefix.ReplaceAllString(err.Error(), "")
	switch {
	case strings.Contains(text, "found character that cannot start any token"):
		return "not YAML: a tab indents, or a value begins with @, ` or %: indent with spaces, put such values in quotes"
	case strings.Contains(text, "mapping values are not allowed"):
		return "not YAML: a second \": \" in one line: put the value in quotes, or check the indentation"
	}
	return "not YAML: " + text
}

// resolvePaths makes the paths that were given absolute.
func (c *Config) resolvePaths(dir string) {
	absolute := func(p string) string {
		if p == "" || filepath.IsAbs(p) {
			return p
		}
		return filepath.Join(dir, p)
	}
	if c.Build.Dir == "" {
		c.Build.Dir = "."
	}
	for _, p := range []*string{&c.Build.Dir, &c.Sign.Key, &c.Sign.PublicKey, &c.Sign.Keyless.TrustedRoot, &c.BPF.Object, &c.BPF.Bundle} {
		*p = absolute(*p)
	}
	for i := range c.Policy.Dirs {
		c.Policy.Dirs[i] = absolute(c.Policy.Dirs[i])
	}
}

// File returns the name of the file as it was given to Load or Parse.
func (c *Config) File() string { return c.file }

// Complaint returns an *Error about one field, with its line, for a problem that only a later step can see. path is
// as in messages, for example "deploy.local.listen"; a field that was left out has the line of its section.
func (c *Config) Complaint(path, format string, args ...any) error {
	var p problems
	p.add(c.placeOf(path), path, format, args...)
	return p.err(c.file)
}

// placeOf returns where a field stands, or else the innermost section around it.
func (c *Config) placeOf(path string) place {
	for ; path != ""; path = outer(path) {
		if at, ok := c.position[path]; ok {
			return at
		}
	}
	return place{1, 1}
}
