// Package signtest is a Sigstore in memory, for tests: a certificate authority,
// a transparency log and a timestamping authority that exist for one test.
//
// What it makes is real: bundles v0.3 as a signing service would give them, and
// a trusted root that others can verify them against. [Serve] puts the authority
// and the log behind HTTP, for a signer. Only tests import it.
package signtest

import (
	"crypto"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"testing"
	"time"

	protobundle "github.com/sigstore/protobuf-specs/gen/pb-go/bundle/v1"
	protocommon "github.com/sigstore/protobuf-specs/gen/pb-go/common/v1"
	protorekor "github.com/sigstore/protobuf-specs/gen/pb-go/rekor/v1"
	"github.com/sigstore/sigstore-go/pkg/bundle"
	"github.com/sigstore/sigstore-go/pkg/root"
	"github.com/sigstore/sigstore-go/pkg/testing/ca"
	"github.com/sigstore/sigstore-go/pkg/tlog"
	"google.golang.org/protobuf/encoding/protojson"
)

// Service issues certificates to whoever asks.
type Service struct {
	t       testing.TB
	virtual *ca.VirtualSigstore
}

// New makes a service with keys of its own.
func New(t testing.TB) *Service {
	t.Helper()
	virtual, err := ca.NewVirtualSigstore()
	s := &Service{t, virtual}
	s.check(err)
	return s
}

func (s *Service) check(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
}

// TrustedRoot returns trusted_root.json: the certificate authority, the log and
// the timestamping authority. The service has no log of certificates.
func (s *Service) TrustedRoot() []byte { return s.TrustedRootWith(nil) }

// TrustedRootWithCTLog is a trusted root that names a log of certificates, too,
// which none of the service's certificates is in.
func (s *Service) TrustedRootWithCTLog() []byte { return s.TrustedRootWith(s.virtual.CTLogs()) }

// TrustedRootWith is a trusted root with these logs of certificates.
func (s *Service) TrustedRootWith(ctLogs map[string]*root.TransparencyLog) []byte {
	s.t.Helper()
	trusted, err := root.NewTrustedRoot(root.TrustedRootMediaType01, s.virtual.FulcioCertificateAuthorities(),
		s.complete(ctLogs), s.virtual.TimestampingAuthorities(), s.complete(s.virtual.RekorLogs()))
	s.check(err)
	raw, err := json.Marshal(trusted)
	s.check(err)
	return raw
}

// complete sets what sigstore-go leaves out of its logs and a file needs.
func (s *Service) complete(logs map[string]*root.TransparencyLog) map[string]*root.TransparencyLog {
	out := map[string]*root.TransparencyLog{}
	for id, l := range logs {
		c := *l
		raw, err := hex.DecodeString(id)
		s.check(err)
		c.ID, c.BaseURL, c.SignatureHashFunc = raw, "https://log.test", crypto.SHA256
		out[id] = &c
	}
	return out
}

// Sign returns the bundle of a signature over data by somebody for whom the
// issuer vouches.
func (s *Service) Sign(subject, issuer string, data []byte) []byte {
	s.t.Helper()
	entity, err := s.virtual.SignAtTime(subject, issuer, data, time.Now().Add(time.Minute))
	s.check(err)
	content, err := entity.SignatureContent()
	s.check(err)
	verification, err := entity.VerificationContent()
	s.check(err)
	timestamps, err := entity.Timestamps()
	s.check(err)
	entries, err := entity.TlogEntries()
	s.check(err)
	mediaType, err := bundle.MediaTypeString("0.3")
	s.check(err)
	message := content.MessageSignatureContent()
	raw, err := protojson.Marshal(&protobundle.Bundle{
		MediaType: mediaType,
		VerificationMaterial: &protobundle.VerificationMaterial{
			Content: &protobundle.VerificationMaterial_Certificate{
				Certificate: &protocommon.X509Certificate{RawBytes: verification.Certificate().Raw},
			},
			TlogEntries: []*protorekor.TransparencyLogEntry{s.logged(entries[0].TransparencyLogEntry())},
			TimestampVerificationData: &protobundle.TimestampVerificationData{
				Rfc3161Timestamps: []*protocommon.RFC3161SignedTimestamp{{SignedTimestamp: timestamps[0]}},
			},
		},
		Content: &protobundle.Bundle_MessageSignature{MessageSignature: &protocommon.MessageSignature{
			MessageDigest: &protocommon.HashOutput{Algorithm: protocommon.HashAlgorithm_SHA2_256, Digest: message.Digest()},
			Signature:     message.Signature(),
		}},
	})
	s.check(err)
	return raw
}

// logged adds to a log entry what a bundle v0.3 demands: kind, promise and proof
// of inclusion.
func (s *Service) logged(e *protorekor.TransparencyLogEntry) *protorekor.TransparencyLogEntry {
	s.t.Helper()
	e.KindVersion = &protorekor.KindVersion{Kind: "hashedrekord", Version: "0.0.1"}
	set, err := s.virtual.RekorSignPayload(tlog.RekorPayload{
		Body: base64.StdEncoding.EncodeToString(e.CanonicalizedBody), IntegratedTime: e.IntegratedTime,
		LogIndex: e.LogIndex, LogID: hex.EncodeToString(e.LogId.KeyId),
	})
	s.check(err)
	e.InclusionPromise = &protorekor.InclusionPromise{SignedEntryTimestamp: set}
	proof, err := s.virtual.GetInclusionProof(e.CanonicalizedBody)
	s.check(err)
	rootHash, err := hex.DecodeString(*proof.RootHash)
	s.check(err)
	e.InclusionProof = &protorekor.InclusionProof{
		LogIndex: *proof.LogIndex, RootHash: rootHash, TreeSize: *proof.TreeSize,
		Checkpoint: &protorekor.Checkpoint{Envelope: *proof.Checkpoint},
	}
	for _, h := range proof.Hashes {
		hash, err := hex.DecodeString(h)
		s.check(err)
		e.InclusionProof.Hashes = append(e.InclusionProof.Hashes, hash)
	}
	return e
}
