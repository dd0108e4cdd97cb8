package gitops

import (
	"strings"
	"testing"
)

func TestAURLThatCannotBeReadIsNotRepeated(t *testing.T) {
	for name, raw := range map[string]string{
		"a slash in the password":   "https://bot:hunter2/x@git.example.com:443/shop.git",
		"a number sign in it":       "https://bot:hunter2#x@git.example.com/shop.git",
		"a per cent sign in it":     "https://bot:hunter2%zz@git.example.com/shop.git",
		"one that must not be seen": "https://bot:hunter2@git.example.com/shop.git",
	} {
		repo, err := Repo{URL: raw}.complete()
		if strings.Contains(repo.URL, "hunter2") || err != nil && strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: %q, %v", name, repo.URL, err)
		}
	}
}
