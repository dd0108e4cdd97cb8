package config

import (
	"net/url"
	"regexp"
)

// checkKeyless finds contradictions about who signs. A key in the environment is
// none: the file comes first.
func (c *Config) checkKeyless(fault faultFunc) {
	k := c.Sign.Keyless
	if !k.Given() {
		return
	}
	at := func(field string) string { return "sign.keyless." + field }
	for path, key := range map[string]string{"sign.key": c.Sign.Key, "sign.public_key": c.Sign.PublicKey} {
		fault(key != "", path, "is a key, but sign.keyless says that an identity signs: remove one of them")
	}
	fault(k.Identity == "" && k.IdentityRegexp == "", "sign.keyless", "does not say who signs: give identity, or identity_regexp")
	fault(k.Identity != "" && k.IdentityRegexp != "", at("identity_regexp"), "is given, and identity as well: remove one of them")
	_, err := regexp.Compile(k.IdentityRegexp)
	fault(err != nil, at("identity_regexp"), "%v", err)
	fault(k.Issuer == "", at("issuer"), "is empty: name the OpenID Connect issuer, as in the certificate")
	fault(k.Rekor == "off" && k.Timestamp == "", at("rekor"), `is off, so nobody says when something was signed: give timestamp`)
	for field, address := range map[string]string{"fulcio": k.Fulcio, "rekor": k.Log(), "timestamp": k.Timestamp} {
		_, given := c.position[at(field)]
		if !given || field == "rekor" && k.Rekor == "off" {
			continue
		}
		u, err := url.Parse(address)
		fault(err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" || u.User != nil || u.RawQuery != "" || u.Fragment != "",
			at(field), "%q is not the URL of a service (write https://host)", address)
	}
}
