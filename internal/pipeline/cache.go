package pipeline

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
)

// record is what a step left: for which input, and the digests of its files.
type record[T any] struct {
	Key     string            `json:"key"`
	Value   T                 `json:"value"`
	Outputs map[string]string `json:"outputs"` // path below out → hexadecimal SHA-256
}

// cached returns what do returned the last time for the same key, if every file
// that it made is still there, byte for byte; otherwise it does it again.
func cached[T any](j Job, step, key string, files func(T) []string, do func() (T, error)) (value T, hit bool, err error) {
	path := filepath.Join(j.Out, "cache", j.Version, step+".json")
	var old record[T]
	if raw, err := os.ReadFile(path); err == nil && json.Unmarshal(raw, &old) == nil && old.Key == key && j.unchanged(old.Outputs) {
		return old.Value, true, nil
	}
	if value, err = do(); err != nil {
		return value, false, err
	}
	rec := record[T]{Key: key, Value: value, Outputs: map[string]string{}}
	for _, f := range files(value) {
		sum, err := fileSHA256(f)
		if err != nil {
			return value, false, err
		}
		rel, err := filepath.Rel(j.Out, f)
		if err != nil {
			return value, false, fmt.Errorf("remembering what was made: %w", err)
		}
		rec.Outputs[rel] = sum
	}
	raw, err := json.MarshalIndent(rec, "", "  ")
	if err != nil {
		return value, false, fmt.Errorf("remembering what was made: %w", err)
	}
	return value, false, writeFile(path, raw)
}

func (j Job) unchanged(outputs map[string]string) bool {
	for rel, want := range outputs {
		if got, err := fileSHA256(filepath.Join(j.Out, rel)); err != nil || got != want {
			return false
		}
	}
	return len(outputs) > 0
}

// keyOf is the digest of everything a step depends on.
func keyOf(parts ...any) (string, error) {
	h := sha256.New()
	if err := json.NewEncoder(h).Encode(parts); err != nil {
		return "", fmt.Errorf("computing a cache key: %w", err)
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

func fileSHA256(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", fmt.Errorf("reading what was made: %w", err)
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", fmt.Errorf("reading %s: %w", path, err)
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// writeFile makes the file appear whole or not at all.
func writeFile(path string, data []byte) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return fmt.Errorf("writing %s: %w", path, err)
	}
	tmp, err := os.CreateTemp(filepath.Dir(path), ".sluice-*")
	if err != nil {
		return fmt.Errorf("writing %s: %w", path, err)
	}
	defer os.Remove(tmp.Name())
	_, err = tmp.Write(data)
	if err == nil {
		err = tmp.Chmod(0o644)
	}
	if closeErr := tmp.Close(); err == nil {
		err = closeErr
	}
	if err == nil {
		err = os.Rename(tmp.Name(), path)
	}
	if err != nil {
		return fmt.Errorf("writing %s: %w", path, err)
	}
	return nil
}

func bare(digest string) string { return strings.TrimPrefix(digest, "sha256:") }
