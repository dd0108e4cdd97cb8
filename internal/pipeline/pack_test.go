package pipeline

import (
	"testing"

	"github.com/sluice-cd/sluice/internal/config"
	"github.com/sluice-cd/sluice/internal/pack"
)

// What has not changed is not packed and tried again.
func TestTheKeyOfPackingIsTheSameEveryTime(t *testing.T) {
	s := &Pack{Job: Job{Config: &config.Config{Service: config.Service{Env: map[string]string{"A": "1", "B": "2", "C": "3"}}}}}
	first := ""
	for range 50 {
		key, err := keyOf(pack.Options{Service: s.service()})
		if err != nil {
			t.Fatal(err)
		}
		if first == "" {
			first = key
		}
		if key != first {
			t.Fatal("the same service has two keys")
		}
	}
}
