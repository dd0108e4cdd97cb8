package config

import (
	"os"
	"testing"

	"github.com/open-policy-agent/opa/v1/rego"
	"go.yaml.in/yaml/v3"
)

// TestSchemaAndParserAgree asks an independent validator of JSON Schema about the same files. Relations between
// fields are beyond a schema; patterns are beyond this validator, and TestLeafPatterns looks at them.
func TestSchemaAndParserAgree(t *testing.T) {
	sample, err := os.ReadFile("../../sluice.yaml")
	if err != nil {
		t.Fatal(err)
	}
	schema, err := os.ReadFile(schemaFile)
	if err != nil {
		t.Fatal(err)
	}
	query, err := rego.New(rego.Query("json.match_schema(input.document, input.schema)[0]")).PrepareForEval(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct {
		text     string
		accepted bool
	}{
		"the sample":                       {string(sample), true},
		"the smallest file":                {minimal, true},
		"a share as a number":              {minimal + "  gate: {alpha: 0.02, tolerance: 20%}\n", true},
		"an unknown field":                 {minimal + "  gate: {alfa: 0.02}\n", false},
		"a missing name":                   {"build: {main: x}\ndeploy: {local: {listen: ':80'}}\n", false},
		"a missing main package":           {"name: x\nbuild: {}\ndeploy: {local: {listen: ':80'}}\n", false},
		"a missing section":                {"name: x\nbuild: {main: x}\n", false},
		"a duration without unit":          {minimal + "service: {start: 5}\n", false},
		"a size in no known unit":          {minimal + "  gate: {}\nservice: {}\npack: {upx: sometimes}\n", false},
		"a version that is a number":       {minimal + "version: 1.2\n", false},
		"a number in the environment":      {minimal + "service: {env: {PORT: 8080}}\n", false},
		"a step without weight":            {minimal + "  canary: {steps: [{min: 5s}]}\n", false},
		"a latency objective without time": {minimal + "  gate: {slo: {latency: {ratio: 1%}}}\n", false},
		"the smallest file for a cluster":  {cluster, true},
		"everything about a cluster":       {cluster + everything, true},
		"a cluster without Argo CD's path": {cluster + "  argocd: {repository: 'https://git.example.com/a.git'}\n", false},
		"a cluster without a way to it":    {cluster + "  kubernetes: {traffic: magic}\n", false},
		"a target that does not exist":     {"name: x\nbuild: {main: x}\ndeploy: {target: cloud, local: {listen: ':80'}}\n", false},
		"no place for the target local":    {"name: x\nbuild: {main: x}\ndeploy: {target: local}\n", false},
		"a level out of range":             {minimal + "pack: {level: 11}\n", false},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := Parse([]byte(tt.text), "sluice.yaml"); (err == nil) != tt.accepted {
				t.Errorf("Parse: %v, want accepted %v", err, tt.accepted)
			}
			var document any
			if err := yaml.Unmarshal([]byte(tt.text), &document); err != nil {
				t.Fatal(err)
			}
			results, err := query.Eval(t.Context(), rego.EvalInput(map[string]any{"document": document, "schema": string(schema)}))
			if err != nil || len(results) != 1 {
				t.Fatalf("validating: %v %v", results, err)
			}
			if got := results[0].Expressions[0].Value; got != tt.accepted {
				t.Errorf("schema: %v, want %v", got, tt.accepted)
			}
		})
	}
}
