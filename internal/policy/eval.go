package policy

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/rego"
	"github.com/open-policy-agent/opa/v1/storage"
	"github.com/open-policy-agent/opa/v1/storage/inmem"
	"github.com/open-policy-agent/opa/v1/util"

	"github.com/sluice-cd/sluice/policies"
)

// withheld are the built-ins whose answer does not follow from the input:
// network, environment, chance.
var withheld = []string{"http.send", "net.lookup_ip_addr", "opa.runtime", "rand.intn", "uuid.rfc4122"}

// Capabilities is what rules may use: OPA's built-ins without network,
// environment and randomness. JSON Schema references to other hosts are
// refused too.
func Capabilities() *ast.Capabilities {
	caps := ast.CapabilitiesForThisVersion()
	caps.Builtins = slices.DeleteFunc(caps.Builtins, func(b *ast.Builtin) bool {
		return slices.Contains(withheld, b.Name)
	})
	caps.AllowNet = []string{}
	return caps
}

// Compiler is a Rego compiler with our capabilities that refuses references
// to input fields that do not exist.
func Compiler() (*ast.Compiler, error) {
	text, err := fs.ReadFile(policies.FS, "input.schema.json")
	if err != nil {
		return nil, err
	}
	var schema any
	if err := json.Unmarshal(text, &schema); err != nil {
		return nil, fmt.Errorf("reading the input schema: %w", err)
	}
	schemas := ast.NewSchemaSet()
	schemas.Put(ast.SchemaRootRef, schema)
	return ast.NewCompiler().WithCapabilities(Capabilities()).WithSchemas(schemas).WithDefaultRegoVersion(ast.RegoV1), nil
}

// A runner holds what all rules of one evaluation share.
type runner struct {
	compiler *ast.Compiler
	store    storage.Store
	input    ast.Value
	now      time.Time
}

func prepare(ctx context.Context, set *ruleSet, in Input, opts Options) (*runner, error) {
	compiler, err := Compiler()
	if err != nil {
		return nil, err
	}
	if compiler.Compile(set.modules); compiler.Failed() {
		return nil, loadErrors("policies", compiler.Errors)
	}
	for _, reserved := range []string{"sluice", "lib"} {
		if _, taken := opts.Data[reserved]; taken {
			return nil, fmt.Errorf("policy data: the name %q belongs to the rules", reserved)
		}
	}
	data, err := roundTrip(opts.Data)
	if err != nil {
		return nil, fmt.Errorf("policy data: %w", err)
	}
	document, ok := data.(map[string]any)
	if !ok {
		document = map[string]any{}
	}
	value, err := inputValue(in)
	if err != nil {
		return nil, err
	}
	now := opts.Now
	if now.IsZero() {
		now = time.Now()
	}
	return &runner{compiler: compiler, store: inmem.NewFromObject(document), input: value, now: now}, ctx.Err()
}

// inputValue turns the input into what Rego evaluates, by way of its JSON.
func inputValue(in Input) (ast.Value, error) {
	if in.Artifacts == nil {
		in.Artifacts = []Artifact{}
	}
	document, err := roundTrip(in)
	if err != nil {
		return nil, fmt.Errorf("policy input: %w", err)
	}
	return ast.InterfaceToValue(document)
}

func roundTrip(v any) (any, error) {
	text, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	var out any
	err = util.NewJSONDecoder(bytes.NewReader(text)).Decode(&out)
	return out, err
}

// ask evaluates the deny set of one rule.
func (r *runner) ask(ctx context.Context, rule rule) ([]Denial, error) {
	query, err := rego.New(
		rego.Query(rule.query),
		rego.Compiler(r.compiler),
		rego.Store(r.store),
		rego.StrictBuiltinErrors(true),
	).PrepareForEval(ctx)
	if err != nil {
		return nil, err
	}
	results, err := query.Eval(ctx, rego.EvalParsedInput(r.input), rego.EvalTime(r.now))
	if err != nil {
		return nil, err
	}
	if len(results) != 1 || len(results[0].Expressions) != 1 {
		return nil, errors.New("deny is undefined")
	}
	list, ok := results[0].Expressions[0].Value.([]any)
	if !ok {
		return nil, fmt.Errorf("deny is not a set: write deny contains {...} if {...}")
	}
	var denials []Denial
	for _, item := range list {
		d, err := decode(item)
		if err != nil {
			return nil, err
		}
		if d.Rule == "" {
			d.Rule = rule.name
		}
		denials = append(denials, d)
	}
	return denials, nil
}

// decode reads one element of a deny set.
func decode(item any) (Denial, error) {
	text, err := json.Marshal(item)
	if err != nil {
		return Denial{}, err
	}
	var d Denial
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&d); err != nil {
		return Denial{}, fmt.Errorf("an element of deny is %s; wanted an object with the strings message, input and fix: %w", clip(text), err)
	}
	if d.Message == "" || d.Input == "" || d.Fix == "" {
		return Denial{}, fmt.Errorf("an element of deny is %s; message, input and fix must not be empty", clip(text))
	}
	return d, nil
}

func clip(text []byte) string {
	const most = 200
	if len(text) > most {
		return string(text[:most]) + "…"
	}
	return string(text)
}
