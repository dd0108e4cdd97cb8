package outcome

import (
	"strings"
	"testing"
)

func TestWhatCannotBeReadIsNoPass(t *testing.T) {
	for name, text := range map[string]string{
		"nothing":      "",
		"half of it":   `{"version":"v1`,
		"no version":   `{"verdict":"pass"}`,
		"another type": `{"version":1}`,
	} {
		t.Run(name, func(t *testing.T) {
			if r, err := ParseRollout(text); err == nil {
				t.Errorf("read %+v", r)
			}
			if r, err := ParseRelease(text); err == nil {
				t.Errorf("read %+v", r)
			}
		})
	}
}

func TestARolloutIsReadWithItsSteps(t *testing.T) {
	r, err := ParseRollout(`{"version":"v1.1.0","outcome":"promoted","verdict":"pass","trigger":"","steps":[{"step":"gate","status":"done","summary":"pass","seconds":8.5}],"record":{}}`)
	if err != nil || r.Outcome != "promoted" || r.Verdict != "pass" || len(r.Steps) != 1 || r.Steps[0] != (Step{"gate", "done", "pass", 8.5}) {
		t.Errorf("got %+v, %v", r, err)
	}
}

func TestAReleaseIsReadWithItsManifest(t *testing.T) {
	r, err := ParseRelease(`{"result":{"version":"v1.1.0","image":"sha256:aa"},"steps":[{"step":"build"}]}`)
	if err != nil || r.Version != "v1.1.0" || r.Image != "sha256:aa" || !strings.Contains(r.JSON, "sha256:aa") || len(r.Steps) != 1 {
		t.Errorf("got %+v, %v", r, err)
	}
}

func TestEveryStatusHasItsWord(t *testing.T) {
	for status, want := range map[int]string{
		0: "pass", 1: "fail", 2: "broken", 3: "inconclusive", 4: "no-data", 5: "invalid", 6: "broken", 130: "broken", 137: "broken",
	} {
		if got := Verdict(status); got != want {
			t.Errorf("status %d is %s, want %s", status, got, want)
		}
	}
}

func TestAStepSaysWhatItCameTo(t *testing.T) {
	for text, want := range map[string]string{
		`{"steps":[{"step":"build","summary":"reproduced"}],"result":[]}`: "reproduced",
		`{"steps":[{"step":"pack","summary":"packed"}]}`:                  "",
		`{"steps":[{"step":"build"}]}`:                                    "",
		"PLATFORM  STRIPPED":                                              "",
	} {
		if got, err := Summary(text, "build"); got != want || (err == nil) != (want != "") {
			t.Errorf("summary of %q is %q, %v, want %q", text, got, err, want)
		}
	}
}
