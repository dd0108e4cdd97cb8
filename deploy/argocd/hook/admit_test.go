package hook

import (
	"errors"
	"testing"

	"github.com/sluice-cd/sluice/internal/admit"
	"github.com/sluice-cd/sluice/internal/policy"
	"github.com/sluice-cd/sluice/internal/release"
)

func TestOnlyWhatIsWrongWithTheImageIsAVerdict(t *testing.T) {
	denied := &admit.DeniedError{Denials: []policy.Denial{{Rule: "version_newer", Message: "older", Fix: "release a newer one"}}}
	for name, tt := range map[string]struct {
		err     error
		verdict string
		trigger release.Trigger
	}{
		"no signature":              {&admit.Error{Problem: admit.Unsigned, Err: errors.New("there is none")}, "invalid", release.Signature},
		"a rule objects":            {&admit.Error{Problem: admit.Denied, Err: denied}, "fail", ""},
		"the registry is away":      {&admit.RegistryError{Err: errors.New("refused")}, "", ""},
		"rules that do not compile": {&admit.RulesError{Err: errors.New("broken.rego:3")}, "", ""},
	} {
		v, err := refusal(tt.err)
		if v.Verdict != tt.verdict || v.Trigger != tt.trigger || (err == nil) != (tt.verdict != "") {
			t.Errorf("%s: %+v, %v", name, v, err)
		}
	}
}
