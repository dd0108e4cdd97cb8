package image

import (
	"io"
	"sync"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// A meter reports how much of a push is done. Uploads that an error leaves
// running may count on after the push has returned; nothing is reported then.
type meter struct {
	mu          sync.Mutex
	done, total int64
	report      func(done, total int64) // nil for none, and after the end
}

// newMeter knows the total: the layers of all parts, each once.
func newMeter(l *Layout, parts []v1.Descriptor, report func(done, total int64)) (*meter, error) {
	m := &meter{report: report}
	seen := map[v1.Hash]bool{}
	for _, part := range parts {
		err := l.walk(part, func(d v1.Descriptor) error {
			if !d.MediaType.IsIndex() && !d.MediaType.IsImage() && !seen[d.Digest] {
				seen[d.Digest] = true
				m.total += d.Size
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	return m, nil
}

func (m *meter) add(n int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.done = min(m.done+n, m.total) // what is sent twice does not count twice
	if m.report != nil && n > 0 {
		m.report(m.done, m.total)
	}
}

// end reports the total if all went well, and is silent from then on.
func (m *meter) end(ok bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.report != nil && ok {
		m.report(m.total, m.total) // with what the registry had before
	}
	m.report = nil
}

// metered counts what is read.
type metered struct {
	io.ReadCloser
	meter *meter
}

// Read reads and counts.
func (r metered) Read(p []byte) (int, error) {
	n, err := r.ReadCloser.Read(p)
	r.meter.add(int64(n))
	return n, err
}
