package etcd

import (
	"encoding/json"
	"errors"
)

// The part of etcd's API (etcdserver/api/v3/rpc.proto) that is needed, as its JSON
// gateway writes it: bytes in base64, 64-bit numbers as strings.
type (
	// RangeRequest reads a key, or those up to RangeEnd.
	RangeRequest struct {
		Key               []byte      `json:"key"`
		RangeEnd          []byte      `json:"range_end,omitempty"`
		Limit             int         `json:"limit,omitempty"`
		Revision          json.Number `json:"revision,omitempty"`
		SortOrder         string      `json:"sort_order,omitempty"`
		SortTarget        string      `json:"sort_target,omitempty"`
		MinCreateRevision json.Number `json:"min_create_revision,omitempty"`
	}
	// RangeAnswer holds the keys that were found; More says that Limit cut it short.
	RangeAnswer struct {
		Header struct {
			Revision json.Number `json:"revision"`
		} `json:"header"`
		KVs  []KeyValue `json:"kvs"`
		More bool       `json:"more"`
	}
	// KeyValue is a key with its value.
	KeyValue struct {
		Key            []byte      `json:"key"`
		Value          []byte      `json:"value"`
		CreateRevision json.Number `json:"create_revision,omitempty"`
		ModRevision    json.Number `json:"mod_revision,omitempty"`
	}
	// Comparison is a condition: Target (CREATE, MOD) of a key has Result (EQUAL) to a
	// revision. A key that does not exist has the revision 0.
	Comparison struct {
		Key            []byte      `json:"key"`
		Target         string      `json:"target"`
		Result         string      `json:"result"`
		CreateRevision json.Number `json:"create_revision,omitempty"`
		ModRevision    json.Number `json:"mod_revision,omitempty"`
	}
	// Operation is one of a transaction.
	Operation struct {
		Put   *KeyValue     `json:"request_put,omitempty"`
		Range *RangeRequest `json:"request_range,omitempty"`
		// Delete removes a key, if it is there.
		Delete *DeleteRequest `json:"request_delete_range,omitempty"`
	}
	// DeleteRequest names the key to remove.
	DeleteRequest struct {
		Key []byte `json:"key"`
	}
	// TxnRequest does Success if every comparison holds, and otherwise Failure.
	TxnRequest struct {
		Compare []Comparison `json:"compare"`
		Success []Operation  `json:"success"`
		Failure []Operation  `json:"failure,omitempty"`
	}
	// TxnAnswer says which branch was carried out.
	TxnAnswer struct {
		Succeeded bool `json:"succeeded"`
		Responses []struct {
			Range RangeAnswer `json:"response_range"`
		} `json:"responses"`
	}
)

// Found is the key that the failed branch of a transaction has read.
func (a TxnAnswer) Found() (KeyValue, error) {
	if len(a.Responses) != 1 || len(a.Responses[0].Range.KVs) != 1 {
		return KeyValue{}, errors.New("etcd gave an answer that does not fit the question")
	}
	return a.Responses[0].Range.KVs[0], nil
}

// Create puts a key that must be new; otherwise other operations are done.
func Create(key string, value []byte, otherwise ...Operation) TxnRequest {
	return TxnRequest{
		Compare: []Comparison{{Key: []byte(key), Target: "CREATE", Result: "EQUAL", CreateRevision: "0"}},
		Success: []Operation{{Put: &KeyValue{Key: []byte(key), Value: value}}},
		Failure: otherwise,
	}
}

// PrefixEnd is the end of the range of all keys with a prefix.
func PrefixEnd(prefix string) []byte {
	end := []byte(prefix)
	end[len(end)-1]++
	return end
}
