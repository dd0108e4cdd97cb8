package objects

import (
	"fmt"
	"strings"

	"github.com/sluice-cd/sluice/internal/etcd"
)

// Options are what [Open] needs besides the place. The zero value will do for a
// directory, and for an etcd that asks for nothing.
type Options struct {
	CAFile   string // PEM: who may vouch for etcd; "": the certificates of the system
	CertFile string // PEM: our certificate, with KeyFile
	KeyFile  string
	User     string // log-in by password
	Password string
}

// Open opens the history at a place, "dir:PATH" or "etcd:URL[,URL…]", for
// somebody with the name by.
func Open(place, by string, opts Options) (*History, error) {
	kind, rest, _ := strings.Cut(place, ":")
	switch {
	case kind == "dir" && rest != "":
		return Dir(rest, by)
	case kind == "etcd" && rest != "":
		conf, err := etcd.Files{CAFile: opts.CAFile, CertFile: opts.CertFile, KeyFile: opts.KeyFile}.TLS()
		if err != nil {
			return nil, fmt.Errorf("opening the history of objects in etcd: %w", err)
		}
		return Etcd(etcd.Config{Endpoints: strings.Split(rest, ","), TLS: conf, User: opts.User, Password: opts.Password}, by)
	}
	return nil, fmt.Errorf("history of objects %q, want dir:PATH or etcd:https://host:2379", place)
}
