package apiserver

import "testing"

func TestCutKeepsTextValid(t *testing.T) {
	for text, want := range map[string]string{"short": "short", "exactly ten": "exactl…", "äääääää": "äää…"} {
		if got := Cut(text, 9); got != want || len(got) > 9 {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

func TestWordsOfOthersBecomeOneLine(t *testing.T) {
	if got := OneLine(" exceeded quota:\n\tfull \n"); got != "exceeded quota: full" {
		t.Errorf("got %q", got)
	}
}
