package pipeline

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/sluice-cd/sluice/deploy/canary"
	"github.com/sluice-cd/sluice/internal/gate"
	"github.com/sluice-cd/sluice/internal/verdict"
)

// Replay judges a recorded rollout again. With the configuration that was
// recorded the verdict is the same; another one says what it would have been.
func Replay(dir string, with *gate.Config) (gate.Verdict, verdict.Recording, error) {
	var rec verdict.Recording
	raw, err := os.ReadFile(filepath.Join(dir, "verdict.json"))
	if err != nil {
		return gate.Verdict{}, rec, fmt.Errorf("reading a recorded rollout: %w", err)
	}
	if err := json.Unmarshal(raw, &rec); err != nil {
		return gate.Verdict{}, rec, fmt.Errorf("reading %s: %w", filepath.Join(dir, "verdict.json"), err)
	}
	looks, err := readLooks(filepath.Join(dir, "samples.jsonl"))
	if err != nil {
		return gate.Verdict{}, rec, err
	}
	cfg := rec.Gate
	if with != nil {
		cfg = *with
	}
	v, err := verdict.Again(cfg, looks)
	return v, rec, err
}

func readLooks(path string) ([]canary.Look, error) {
	raw, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("reading recorded samples: %w", err)
	}
	looks, err := verdict.DecodeLooks(raw)
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", path, err)
	}
	return looks, nil
}

// ErrNoRollout means that the ledger has no such rollout.
var ErrNoRollout = errors.New("no such rollout")

// RolloutDir finds the recording of a rollout: by its number, else the newest
// of a version, else the newest of all.
func RolloutDir(out string, id int, version string) (string, error) {
	records, err := history(out)
	if err != nil {
		return "", err
	}
	for i := len(records) - 1; i >= 0; i-- {
		r := records[i]
		if (id == 0 || r.ID == id) && (version == "" || r.Version == version) && r.Operator == "" {
			return filepath.Join(out, "rollouts", fmt.Sprintf("%04d-%s", r.ID, r.Version)), nil
		}
	}
	return "", fmt.Errorf("%w in %s (number %d, version %q); sluice history lists them", ErrNoRollout, out, id, version)
}
