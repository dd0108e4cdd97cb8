package hook

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"fmt"
	"time"

	core "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/sluice-cd/sluice/deploy/canary"
	"github.com/sluice-cd/sluice/deploy/k8s/apiserver"
	"github.com/sluice-cd/sluice/internal/release"
	"github.com/sluice-cd/sluice/internal/verdict"
)

// Keys of the ConfigMap NAME-verdict.
const (
	keyVerdict   = "verdict.json"     // a Verdict: what the last hook with one came to
	keyRecording = "recording.json"   // a verdict.Recording
	keyLooks     = "samples.jsonl.gz" // its looks
	mostLooks    = 700 << 10          // bytes of them; a ConfigMap holds 1 MiB
)

// handover is what one hook leaves to the next in the ConfigMap NAME-verdict:
// the verdict, and with it all that is needed to come to it again.
type handover struct {
	Verdict   *Verdict
	Recording *verdict.Recording
	Looks     []canary.Look
}

func (h *hook) verdictObject() object {
	return object{configMaps, h.namespace(), h.service() + "-verdict"}
}

func (h *hook) labels() map[string]string {
	return map[string]string{"app.kubernetes.io/managed-by": apiserver.Manager, "app.kubernetes.io/part-of": h.service()}
}

// found reads the verdict that an earlier hook left for this very release; nil if
// there is none.
func (h *hook) found(ctx context.Context) (*Verdict, error) {
	v, err := h.lastVerdict(ctx)
	if v != nil && !same(v.Image, h.Image) {
		return nil, err
	}
	return v, err
}

// lastVerdict reads the verdict that was left last, of whatever release.
func (h *hook) lastVerdict(ctx context.Context) (*Verdict, error) {
	var m core.ConfigMap
	_, err := h.api.get(ctx, h.verdictObject(), &m)
	if apierrors.IsNotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if m.Data[keyVerdict] == "" {
		return nil, nil // made with the manifests, and empty
	}
	var v Verdict
	if err := json.Unmarshal([]byte(m.Data[keyVerdict]), &v); err != nil {
		return nil, fmt.Errorf("reading %s: %w", h.verdictObject(), err)
	}
	return &v, nil
}

// takenBackError means that a person has taken the rollout back, whose word stays.
type takenBackError struct{ Verdict Verdict }

func (e *takenBackError) Error() string { return e.Verdict.Reason }

// leave writes what the next hook will find, in place of what is there. An
// operator's word about the same rollout stays: a *takenBackError.
func (h *hook) leave(ctx context.Context, o handover) error {
	m, err := h.configMap(o)
	if err != nil {
		return err
	}
	for {
		var old core.ConfigMap
		_, err := h.api.get(ctx, h.verdictObject(), &old)
		switch {
		case apierrors.IsNotFound(err):
			err = h.api.create(ctx, h.verdictObject(), m)
		case err == nil:
			var there Verdict
			_ = json.Unmarshal([]byte(old.Data[keyVerdict]), &there) // empty, or of no use to anybody
			if v := o.Verdict; there.Trigger == release.Operator && there.Rollout == v.Rollout && v.Rollout != 0 && v.Trigger != release.Operator {
				return &takenBackError{there}
			}
			m.ResourceVersion = old.ResourceVersion
			err = h.api.update(ctx, h.verdictObject(), m)
		}
		if err == nil || !apierrors.IsConflict(err) && !apierrors.IsAlreadyExists(err) || sleep(ctx, 20*time.Millisecond) != nil {
			return err
		}
	}
}

func (h *hook) configMap(o handover) (*core.ConfigMap, error) {
	m := &core.ConfigMap{
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "ConfigMap"},
		ObjectMeta: metav1.ObjectMeta{Namespace: h.namespace(), Name: h.service() + "-verdict", Labels: h.labels()},
		Data:       map[string]string{}, BinaryData: map[string][]byte{},
	}
	for key, value := range map[string]any{keyVerdict: o.Verdict, keyRecording: o.Recording} {
		raw, err := json.Marshal(value)
		if err != nil {
			return nil, fmt.Errorf("encoding the verdict: %w", err)
		}
		m.Data[key] = string(raw)
	}
	looks, err := squeeze(o.Looks, mostLooks)
	if err != nil {
		return nil, err
	}
	m.BinaryData[keyLooks] = looks
	return m, nil
}

// squeeze packs looks into that many bytes. Of more than fit, the first half is left out again and
// again: the last ones are what decided.
func squeeze(looks []canary.Look, most int) ([]byte, error) {
	for {
		raw, err := verdict.EncodeLooks(looks)
		if err != nil {
			return nil, err
		}
		var packed bytes.Buffer
		z := gzip.NewWriter(&packed)
		_, _ = z.Write(raw) // into memory: it cannot fail
		_ = z.Close()
		if packed.Len() <= most {
			return packed.Bytes(), nil
		}
		looks = looks[len(looks)/2:]
	}
}
