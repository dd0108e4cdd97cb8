package objects

import (
	"cmp"
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/sluice-cd/sluice/bpf"
)

// EtcdConfig says how to reach etcd. Only Endpoints is required.
type EtcdConfig struct {
	Endpoints []string      // https://host:2379; tried in turn
	TLS       *tls.Config   // nil: the certificates of the system
	User      string        // "": no log-in by password
	Password  string        //
	Timeout   time.Duration // of one operation, all endpoints together; 0: 5 s
}

// DefaultEtcdTimeout bounds an operation when EtcdConfig.Timeout is zero.
const DefaultEtcdTimeout = 5 * time.Second

// Keys in etcd. The digest is complete ("sha256:…").
const (
	objectPrefix = "/sluice/objects/" // + digest: bytes of the object
	eventPrefix  = "/sluice/events/"  // + digest + "/" + random: an event
)

// etcd is the backend in etcd. Objects are written once and events under names
// that are used once, each in a transaction that demands that the key is new, so
// no two nodes can overwrite each other. The order of events is that in which
// etcd took them, whatever the clocks of the nodes say.
type etcd struct{ gateway }

// Etcd opens the history in etcd, over its JSON gateway; nothing is sent yet.
// Events are signed with the name by: a node, or a person.
//
// An etcd takes requests of up to 1.5 MiB unless it was started with another
// --max-request-bytes: a larger object is a *TooLargeError. Plain HTTP is refused
// but for etcd on the same machine.
func Etcd(cfg EtcdConfig, by string) (*History, error) {
	if by == "" {
		return nil, errors.New("opening the history of objects in etcd: no name for who writes it")
	}
	g, err := newGateway(cfg)
	if err != nil {
		return nil, fmt.Errorf("opening the history of objects in etcd: %w", err)
	}
	return &History{backend: &etcd{g}, by: by, now: time.Now}, nil
}

func (c *etcd) put(ctx context.Context, digest bpf.Digest, object []byte) error {
	key := objectPrefix + string(digest)
	var answer txnAnswer
	err := c.call(ctx, "/v3/kv/txn", create(key, object, operation{Range: &rangeRequest{Key: []byte(key)}}), &answer)
	if err != nil || answer.Succeeded {
		return err
	}
	have, err := answer.found()
	if err != nil || bpf.DigestOf(have.Value) == digest {
		return err
	}
	// Damaged: mend it, unless somebody else just has.
	mend := txnRequest{
		Compare: []comparison{{Key: []byte(key), Target: "MOD", Result: "EQUAL", ModRevision: have.ModRevision}},
		Success: []operation{{Put: &keyValue{Key: []byte(key), Value: object}}},
	}
	return c.call(ctx, "/v3/kv/txn", mend, &answer)
}

// create puts a key that must be new; otherwise another operation is done.
func create(key string, value []byte, otherwise ...operation) txnRequest {
	return txnRequest{
		Compare: []comparison{{Key: []byte(key), Target: "CREATE", Result: "EQUAL", CreateRevision: "0"}},
		Success: []operation{{Put: &keyValue{Key: []byte(key), Value: value}}},
		Failure: otherwise,
	}
}

func (c *etcd) get(ctx context.Context, digest bpf.Digest) ([]byte, error) {
	var answer rangeAnswer
	if err := c.call(ctx, "/v3/kv/range", rangeRequest{Key: []byte(objectPrefix + string(digest))}, &answer); err != nil {
		return nil, err
	}
	if len(answer.KVs) == 0 {
		return nil, fmt.Errorf("etcd has no key %s%s: %w", objectPrefix, digest, ErrNotFound)
	}
	return answer.KVs[0].Value, nil
}

func (c *etcd) add(ctx context.Context, e Event) error {
	text, err := json.Marshal(e)
	if err != nil {
		return err
	}
	// The name is chosen once: a request that is sent again, because its answer
	// was lost, adds nothing.
	key := eventPrefix + string(e.Digest) + "/" + rand.Text()
	return c.call(ctx, "/v3/kv/txn", create(key, text), new(txnAnswer))
}

// eventPage is how many events are asked for at once.
const eventPage = 1000

func (c *etcd) events(ctx context.Context, digest bpf.Digest) ([]Event, error) {
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	prefix := eventPrefix
	if digest != "" {
		prefix += string(digest) + "/"
	}
	ask := rangeRequest{
		Key: []byte(prefix), RangeEnd: prefixEnd(prefix), Limit: eventPage, SortOrder: "ASCEND", SortTarget: "CREATE",
	}
	var list []Event
	for {
		var answer rangeAnswer
		if err := c.call(ctx, "/v3/kv/range", ask, &answer); err != nil {
			return nil, err
		}
		for _, kv := range answer.KVs {
			e, err := decodeEvent(kv.Value)
			if err != nil {
				return nil, fmt.Errorf("etcd, key %s: %w", kv.Key, err)
			}
			if !strings.HasPrefix(string(kv.Key), eventPrefix+string(e.Digest)+"/") {
				return nil, fmt.Errorf("etcd, key %s: an event of %s", kv.Key, e.Digest)
			}
			list = append(list, e)
		}
		if !answer.More || len(answer.KVs) == 0 {
			return list, nil
		}
		// All pages are of one revision; the next one begins after the last event.
		ask.Revision = cmp.Or(ask.Revision, answer.Header.Revision)
		last, err := answer.KVs[len(answer.KVs)-1].CreateRevision.Int64()
		if err != nil {
			return nil, err
		}
		ask.MinCreateRevision = json.Number(fmt.Sprint(last + 1))
	}
}

// prefixEnd is the end of the range of all keys with a prefix.
func prefixEnd(prefix string) []byte {
	end := []byte(prefix)
	end[len(end)-1]++
	return end
}

func (c *etcd) close() error {
	c.client.CloseIdleConnections()
	return nil
}
