package bundle

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
)

// parsed is everything that an accepted bundle says.
type parsed struct {
	keyID     string
	digest    []byte
	signature []byte
}

func parse(raw []byte) (p parsed, err error) {
	switch {
	case len(raw) == 0:
		return p, errors.New("it is empty")
	case len(raw) > maxBundle:
		return p, fmt.Errorf("it has %d bytes, more than %d", len(raw), maxBundle)
	}
	top, err := object(raw, "mediaType", "verificationMaterial", "messageSignature")
	if err != nil {
		return p, err
	}
	if err := constant(top["mediaType"], "mediaType", MediaType); err != nil {
		return p, err
	}
	if p.keyID, err = parseMaterial(top["verificationMaterial"]); err != nil {
		return p, fmt.Errorf("verificationMaterial: %w", err)
	}
	message, err := object(top["messageSignature"], "messageDigest", "signature")
	if err != nil {
		return p, fmt.Errorf("messageSignature: %w", err)
	}
	digest, err := object(message["messageDigest"], "algorithm", "digest")
	if err != nil {
		return p, fmt.Errorf("messageDigest: %w", err)
	}
	if err := constant(digest["algorithm"], "algorithm", "SHA2_256"); err != nil {
		return p, err
	}
	if p.digest, err = octets(digest["digest"]); err != nil {
		return p, fmt.Errorf("digest: %w", err)
	}
	if p.signature, err = octets(message["signature"]); err != nil {
		return p, fmt.Errorf("signature: %w", err)
	}
	return p, nil
}

// parseMaterial returns the name of the key, which has to be all there is.
func parseMaterial(raw json.RawMessage) (keyID string, err error) {
	material, err := object(raw, "publicKey")
	if err != nil {
		return "", err
	}
	key, err := object(material["publicKey"], "hint")
	if err != nil {
		return "", fmt.Errorf("publicKey: %w", err)
	}
	return text(key["hint"])
}

// object reads a JSON object that has exactly these fields, each once.
// encoding/json alone would take the last of two, and any spelling.
func object(raw []byte, fields ...string) (map[string]json.RawMessage, error) {
	dec := json.NewDecoder(bytes.NewReader(raw))
	begin, err := dec.Token()
	if err != nil {
		return nil, err
	}
	if begin != json.Delim('{') {
		return nil, fmt.Errorf("%v, want an object", begin)
	}
	found := map[string]json.RawMessage{}
	for dec.More() {
		token, err := dec.Token()
		if err != nil {
			return nil, err
		}
		name, _ := token.(string) // the decoder takes nothing else for a name
		if !slices.Contains(fields, name) {
			return nil, fmt.Errorf("unknown field %q (known: %s)", name, strings.Join(fields, ", "))
		}
		if _, twice := found[name]; twice {
			return nil, fmt.Errorf("the field %q is there twice", name)
		}
		var value json.RawMessage
		if err := dec.Decode(&value); err != nil {
			return nil, err
		}
		found[name] = value
	}
	if _, err := dec.Token(); err != nil {
		return nil, err
	}
	if _, err := dec.Token(); err != io.EOF {
		return nil, errors.New("text after the end")
	}
	for _, name := range fields {
		if found[name] == nil {
			return nil, fmt.Errorf("no field %q", name)
		}
	}
	return found, nil
}

func text(raw json.RawMessage) (string, error) {
	if len(raw) == 0 || raw[0] != '"' { // null would pass for ""
		return "", fmt.Errorf("%s, want a text", raw)
	}
	var s string
	err := json.Unmarshal(raw, &s)
	return s, err
}

func constant(raw json.RawMessage, field, want string) error {
	got, err := text(raw)
	if err != nil {
		return fmt.Errorf("%s: %w", field, err)
	}
	if got != want {
		return fmt.Errorf("%s is %q, want %q", field, got, want)
	}
	return nil
}

// octets reads bytes in base64, in the one way of writing them.
func octets(raw json.RawMessage) ([]byte, error) {
	s, err := text(raw)
	if err != nil {
		return nil, err
	}
	out, err := base64.StdEncoding.DecodeString(s)
	if err != nil {
		return nil, err
	}
	if base64.StdEncoding.EncodeToString(out) != s { // line breaks, left-over bits
		return nil, errors.New("not written as base64 is written")
	}
	return out, nil
}
