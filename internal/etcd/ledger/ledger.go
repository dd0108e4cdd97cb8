// Package ledger keeps the ledger of a service's rollouts in etcd, where every node
// and every pod that may reach etcd can write to it.
//
// Each line is a key of its own, /sluice/ledger/NAME/<number>, made in a
// transaction that demands that the number is new. So two writers can never both
// follow the same line, nothing is ever overwritten, and nothing is cut off.
package ledger

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/sluice-cd/sluice/internal/etcd"
	"github.com/sluice-cd/sluice/internal/release"
)

// Open prepares the ledger of the service name; nothing is sent yet. Errors of its
// methods: *release.CorruptError, *etcd.UnavailableError when etcd stays away.
func Open(client *etcd.Client, name string) (*release.Shared, error) {
	if name == "" || strings.Contains(name, "/") {
		return nil, fmt.Errorf("a ledger in etcd needs the name of a service, without a slash, got %q", name)
	}
	return &release.Shared{Place: &place{client: client, prefix: "/sluice/ledger/" + name + "/"}}, nil
}

// place is the keys below a prefix. Its version is how many there are.
type place struct {
	client *etcd.Client
	prefix string
}

func (p *place) String() string { return "etcd " + p.prefix }

// digits of a line's number: keys are read in the order of their bytes.
const digits = 12

func (p *place) key(line int) string { return fmt.Sprintf("%s%0*d", p.prefix, digits, line) }

// page is how many lines are asked for at once.
const page = 200

// Load reads all lines as they were at one moment.
func (p *place) Load(ctx context.Context) ([]byte, string, error) {
	var text bytes.Buffer
	ask := etcd.RangeRequest{Key: []byte(p.prefix), RangeEnd: etcd.PrefixEnd(p.prefix), Limit: page}
	for n := 0; ; {
		answer, err := p.client.Range(ctx, ask)
		if err != nil {
			return nil, "", err
		}
		for _, kv := range answer.KVs {
			if n++; string(kv.Key) != p.key(n) {
				return nil, "", &release.CorruptError{Path: p.String(), Line: n, Why: fmt.Sprintf("key %s is where %s should be", kv.Key, p.key(n))}
			}
			if bytes.IndexByte(kv.Value, '\n') != len(kv.Value)-1 {
				return nil, "", &release.CorruptError{Path: p.String(), Line: n, Why: "the key does not hold one line"}
			}
			text.Write(kv.Value)
		}
		if !answer.More || len(answer.KVs) == 0 {
			return text.Bytes(), strconv.Itoa(n), nil
		}
		ask.Revision = cmp.Or(ask.Revision, answer.Header.Revision)
		ask.Key = []byte(p.key(n + 1))
	}
}

// Save adds the last line of next behind those of the version.
func (p *place) Save(ctx context.Context, version string, next []byte) error {
	n, err := strconv.Atoi(version)
	if err != nil {
		return fmt.Errorf("%s: version %q: %w", p, version, err)
	}
	if len(next) == 0 || next[len(next)-1] != '\n' {
		return errors.New("a line without an end")
	}
	line := next[bytes.LastIndexByte(next[:len(next)-1], '\n')+1:]
	answer, err := p.client.Txn(ctx, etcd.Create(p.key(n+1), line))
	if err == nil && !answer.Succeeded {
		err = release.ErrConflict
	}
	return err
}
