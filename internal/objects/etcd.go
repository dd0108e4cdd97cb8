package objects

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/sluice-cd/sluice/bpf"
	"github.com/sluice-cd/sluice/internal/etcd"
)

// Keys in etcd. The digest is complete ("sha256:…").
const (
	objectPrefix = "/sluice/objects/" // + digest: bytes of the object
	eventPrefix  = "/sluice/events/"  // + digest + "/" + random: an event
)

// etcd is the backend in etcd. Objects are written once and events under names
// that are used once, each in a transaction that demands that the key is new, so
// no two nodes can overwrite each other. The order of events is that in which
// etcd took them, whatever the clocks of the nodes say.
type inEtcd struct{ *etcd.Client }

// Etcd opens the history in etcd, over its JSON gateway; nothing is sent yet.
// Events are signed with the name by: a node, or a person.
//
// An etcd takes requests of up to 1.5 MiB unless it was started with another
// --max-request-bytes: a larger object is a *TooLargeError. Plain HTTP is refused
// but for etcd on the same machine.
func Etcd(cfg etcd.Config, by string) (*History, error) {
	if by == "" {
		return nil, errors.New("opening the history of objects in etcd: no name for who writes it")
	}
	g, err := etcd.New(cfg)
	if err != nil {
		return nil, fmt.Errorf("opening the history of objects in etcd: %w", err)
	}
	return &History{backend: &inEtcd{g}, by: by, now: time.Now}, nil
}

func (c *inEtcd) put(ctx context.Context, digest bpf.Digest, object []byte) error {
	key := objectPrefix + string(digest)
	answer, err := c.Txn(ctx, etcd.Create(key, object, etcd.Operation{Range: &etcd.RangeRequest{Key: []byte(key)}}))
	if large, ok := errors.AsType[*etcd.TooLargeError](err); ok {
		return &TooLargeError{Err: large}
	}
	if err != nil || answer.Succeeded {
		return err
	}
	have, err := answer.Found()
	if err != nil || bpf.DigestOf(have.Value) == digest {
		return err
	}
	// Damaged: mend it, unless somebody else just has.
	mend := etcd.TxnRequest{
		Compare: []etcd.Comparison{{Key: []byte(key), Target: "MOD", Result: "EQUAL", ModRevision: have.ModRevision}},
		Success: []etcd.Operation{{Put: &etcd.KeyValue{Key: []byte(key), Value: object}}},
	}
	_, err = c.Txn(ctx, mend)
	return err
}

func (c *inEtcd) get(ctx context.Context, digest bpf.Digest) ([]byte, error) {
	answer, err := c.Range(ctx, etcd.RangeRequest{Key: []byte(objectPrefix + string(digest))})
	if err != nil {
		return nil, err
	}
	if len(answer.KVs) == 0 {
		return nil, fmt.Errorf("etcd has no key %s%s: %w", objectPrefix, digest, ErrNotFound)
	}
	return answer.KVs[0].Value, nil
}

func (c *inEtcd) add(ctx context.Context, e Event) error {
	text, err := json.Marshal(e)
	if err != nil {
		return err
	}
	// The name is chosen once: a request that is sent again, because its answer
	// was lost, adds nothing.
	key := eventPrefix + string(e.Digest) + "/" + rand.Text()
	_, err = c.Txn(ctx, etcd.Create(key, text))
	return err
}

// eventPage is how many events are asked for at once, and maxRemoved how many keys
// are removed at once: etcd takes 128 operations in a transaction.
const (
	eventPage  = 1000
	maxRemoved = 100
)

func (c *inEtcd) events(ctx context.Context, digest bpf.Digest) ([]Event, error) {
	list, _, err := c.eventsAndKeys(ctx, digest)
	return list, err
}

// eventsAndKeys lists events, and the key of each.
func (c *inEtcd) eventsAndKeys(ctx context.Context, digest bpf.Digest) (list []Event, keys [][]byte, err error) {
	ctx, cancel := context.WithTimeout(ctx, c.Timeout())
	defer cancel()
	prefix := eventPrefix
	if digest != "" {
		prefix += string(digest) + "/"
	}
	ask := etcd.RangeRequest{
		Key: []byte(prefix), RangeEnd: etcd.PrefixEnd(prefix), Limit: eventPage, SortOrder: "ASCEND", SortTarget: "CREATE",
	}
	for {
		answer, err := c.Range(ctx, ask)
		if err != nil {
			return nil, nil, err
		}
		for _, kv := range answer.KVs {
			e, err := decodeEvent(kv.Value)
			if err != nil {
				return nil, nil, fmt.Errorf("etcd, key %s: %w", kv.Key, err)
			}
			if !strings.HasPrefix(string(kv.Key), eventPrefix+string(e.Digest)+"/") {
				return nil, nil, fmt.Errorf("etcd, key %s: an event of %s", kv.Key, e.Digest)
			}
			list, keys = append(list, e), append(keys, kv.Key)
		}
		if !answer.More || len(answer.KVs) == 0 {
			return list, keys, nil
		}
		// All pages are of one revision; the next one begins after the last event.
		ask.Revision = cmp.Or(ask.Revision, answer.Header.Revision)
		last, err := answer.KVs[len(answer.KVs)-1].CreateRevision.Int64()
		if err != nil {
			return nil, nil, err
		}
		ask.MinCreateRevision = json.Number(fmt.Sprint(last + 1))
	}
}

// prune removes keys. What another node has removed meanwhile is no error, and
// what was stale stays so, whatever is added.
func (c *inEtcd) prune(ctx context.Context, digest bpf.Digest, stale func([]Event) []int) error {
	list, keys, err := c.eventsAndKeys(ctx, digest)
	if err != nil {
		return err
	}
	for some := range slices.Chunk(stale(list), maxRemoved) {
		var remove etcd.TxnRequest
		for _, i := range some {
			remove.Success = append(remove.Success, etcd.Operation{Delete: &etcd.DeleteRequest{Key: keys[i]}})
		}
		if _, err := c.Txn(ctx, remove); err != nil {
			return err
		}
	}
	return nil
}

func (c *inEtcd) close() error { return c.Close() }

// TooLargeError means that etcd does not take an object of this size.
type TooLargeError struct{ Err error }

func (e *TooLargeError) Error() string { return e.Err.Error() }

func (e *TooLargeError) Unwrap() error { return e.Err }

// Hint says what limits it.
func (e *TooLargeError) Hint() string {
	return "etcd takes requests of up to 1.5 MiB (--max-request-bytes); remove debug information with llvm-strip -g, or keep the history in a directory"
}
