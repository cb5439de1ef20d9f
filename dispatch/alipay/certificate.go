package alipay

import (
	"bytes"
	"crypto"
	"crypto/md5"
	"crypto/rsa"
	_ "crypto/sha1"   // signs old roots
	_ "crypto/sha256" // signs the others
	_ "crypto/sha512"
	"crypto/x509"
	"encoding/asn1"
	"encoding/hex"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"strings"

	"github.com/campaign-scheduler/scheduler/internal/textfile"
)

// A certificate holds the parts of an X.509 certificate that Alipay's rules
// use. It is read from the ASN.1 itself, since Alipay's root file also holds
// SM2 certificates, which crypto/x509 refuses.
type certificate struct {
	issuer    []attribute
	serial    *big.Int
	signature string // the OID of the signature's algorithm, dotted
	publicKey []byte // the SubjectPublicKeyInfo, DER

	der, signed, signedBy []byte // the whole certificate, its signed part, and the signature
	issuerDER, subjectDER []byte
}

// An attribute is one part of a distinguished name.
type attribute struct {
	oid   string
	value string
}

// certificateDER names the fields of a certificate down to the public key.
// encoding/asn1 ignores the fields after it.
type certificateDER struct {
	TBS       tbsDER
	Algorithm algorithmDER
	Signature asn1.BitString
}

type tbsDER struct {
	Raw       asn1.RawContent
	Version   int `asn1:"optional,explicit,default:0,tag:0"`
	Serial    asn1.RawValue
	Algorithm algorithmDER
	Issuer    asn1.RawValue
	Validity  asn1.RawValue
	Subject   asn1.RawValue
	PublicKey asn1.RawValue
}

type algorithmDER struct {
	OID        asn1.ObjectIdentifier
	Parameters asn1.RawValue `asn1:"optional"`
}

type attributeDER struct {
	OID   asn1.ObjectIdentifier
	Value asn1.RawValue
}

// parseCertificates reads every certificate of a PEM text, or the one
// certificate of a bare base64 text. A text with anything else in it is
// refused.
func parseCertificates(text string) ([]certificate, error) {
	blocks, err := textfile.PEM(text)
	if err != nil {
		return nil, fmt.Errorf("is not certificates in PEM form: %w", err)
	}
	certs := make([]certificate, len(blocks))
	for i, b := range blocks {
		if b.Type != "" && b.Type != "CERTIFICATE" && b.Type != "X509 CERTIFICATE" {
			return nil, fmt.Errorf("holds a %s in line %d, and only certificates are wanted here", b.Type, b.Line)
		}
		if certs[i], err = parseCertificate(b.DER); err != nil {
			return nil, fmt.Errorf("holds, in line %d, %w", b.Line, err)
		}
	}
	return certs, nil
}

func parseCertificate(der []byte) (certificate, error) {
	var raw certificateDER
	if rest, err := asn1.Unmarshal(der, &raw); err != nil || len(rest) > 0 {
		return certificate{}, errors.New("a certificate that cannot be read")
	}
	issuer, err := parseName(raw.TBS.Issuer.Bytes)
	if err != nil {
		return certificate{}, err
	}
	return certificate{
		issuer:     issuer,
		serial:     new(big.Int).SetBytes(raw.TBS.Serial.Bytes),
		signature:  raw.Algorithm.OID.String(),
		publicKey:  raw.TBS.PublicKey.FullBytes,
		der:        der,
		signed:     raw.TBS.Raw,
		signedBy:   raw.Signature.RightAlign(),
		issuerDER:  raw.TBS.Issuer.FullBytes,
		subjectDER: raw.TBS.Subject.FullBytes,
	}, nil
}

// parseName reads a distinguished name: a sequence of sets of attributes, in
// the certificate's order.
func parseName(der []byte) ([]attribute, error) {
	var name []attribute
	for len(der) > 0 {
		var set []attributeDER
		rest, err := asn1.UnmarshalWithParams(der, &set, "set")
		if err != nil {
			return nil, errors.New("a certificate whose issuer cannot be read")
		}
		for _, a := range set {
			name = append(name, attribute{oid: a.OID.String(), value: attributeText(a.Value)})
		}
		der = rest
	}
	return name, nil
}

// attributeText returns the text of a name's attribute. All string types in use
// hold UTF-8 or its ASCII subset, except BMPString, which is UTF-16.
func attributeText(v asn1.RawValue) string {
	if v.Tag == asn1.TagBMPString {
		var s string
		if _, err := asn1.Unmarshal(v.FullBytes, &s); err == nil {
			return s
		}
	}
	return string(v.Bytes)
}

// attributeNames are the short names that Alipay's SDK knows. It writes any
// other attribute with an empty name.
var attributeNames = map[string]string{
	"2.5.4.3":              "CN",
	"2.5.4.6":              "C",
	"2.5.4.7":              "L",
	"2.5.4.8":              "ST",
	"2.5.4.10":             "O",
	"2.5.4.11":             "OU",
	"1.2.840.113549.1.9.1": "E",
}

// sn returns Alipay's own serial number of a certificate: the hex MD5 of its
// issuer, written backwards without any escaping as CN=…,OU=…,O=…,C=…, followed
// by the serial in decimal.
func (c certificate) sn() string {
	parts := make([]string, len(c.issuer))
	for i, a := range c.issuer {
		parts[len(parts)-1-i] = attributeNames[a.oid] + "=" + a.value
	}
	sum := md5.Sum([]byte(strings.Join(parts, ",") + c.serial.String()))
	return hex.EncodeToString(sum[:])
}

// key returns the certificate's RSA public key.
func (c certificate) key() (*rsa.PublicKey, error) {
	return publicKeyFromDER(c.publicKey)
}

// pkcs1Prefix begins the OIDs of the RSA signature algorithms.
const pkcs1Prefix = "1.2.840.113549.1.1"

// rootSN returns the serial numbers of a root file: those of its certificates
// that are signed with RSA, in the file's order, joined by "_".
func rootSN(certs []certificate) string {
	var sns []string
	for _, c := range certs {
		if strings.HasPrefix(c.signature, pkcs1Prefix) {
			sns = append(sns, c.sn())
		}
	}
	return strings.Join(sns, "_")
}

// is reports whether two certificates are the same one.
func (c certificate) is(other certificate) bool { return bytes.Equal(c.der, other.der) }

// selfIssued reports whether a certificate names itself as its issuer.
func (c certificate) selfIssued() bool { return bytes.Equal(c.issuerDER, c.subjectDER) }

// rsaHashes are the hashes of the RSA signature algorithms, except MD5, which
// proves nothing.
var rsaHashes = map[string]crypto.Hash{
	pkcs1Prefix + ".5":  crypto.SHA1,
	pkcs1Prefix + ".11": crypto.SHA256,
	pkcs1Prefix + ".12": crypto.SHA384,
	pkcs1Prefix + ".13": crypto.SHA512,
}

// issued reports whether the certificate's key signed another certificate that
// names it as its issuer. It uses crypto/x509 only for signatures that are not
// RSA, since crypto/x509 refuses SHA-1, with which old roots are signed. SM2
// signatures it refuses in any case.
func (c certificate) issued(other certificate) bool {
	if !bytes.Equal(c.subjectDER, other.issuerDER) {
		return false
	}
	if hash, ok := rsaHashes[other.signature]; ok {
		key, err := c.key()
		if err != nil {
			return false
		}
		digest := hash.New()
		digest.Write(other.signed)
		return rsa.VerifyPKCS1v15(key, hash, digest.Sum(nil), other.signedBy) == nil
	}
	parent, err := x509.ParseCertificate(c.der)
	if err != nil {
		return false
	}
	child, err := x509.ParseCertificate(other.der)
	return err == nil && parent.CheckSignature(child.SignatureAlgorithm, child.RawTBSCertificate, child.Signature) == nil
}

// leafOf returns the certificate of a file that issued none of the others there.
// The leaf may be at any place in the file.
func leafOf(certs []certificate) (certificate, error) {
	var leaves []certificate
	for i, c := range certs {
		issues := func(other certificate) bool { return !c.is(other) && c.issued(other) }
		if !slices.ContainsFunc(certs, issues) && !slices.ContainsFunc(certs[:i], c.is) {
			leaves = append(leaves, c)
		}
	}
	if len(leaves) != 1 {
		return certificate{}, fmt.Errorf("holds %d certificates that are not of one chain: one certificate is wanted, with its issuers or alone", len(leaves))
	}
	return leaves[0], nil
}

var errNotIssued = errors.New("is not issued under root_cert")

// maxChain bounds the number of certificates from a leaf to its root.
const maxChain = 8

// issuedUnder reports whether a chain of signatures leads from a certificate to
// one of the roots, through the certificates in between. A certificate does not
// prove itself, even where the roots hold it.
func issuedUnder(c certificate, roots, between []certificate) error {
	for range maxChain {
		by := func(issuer certificate) bool { return !issuer.is(c) && issuer.issued(c) }
		if slices.ContainsFunc(roots, by) {
			return nil
		}
		i := slices.IndexFunc(between, by)
		if i < 0 {
			break
		}
		c = between[i]
	}
	named := func(issuer certificate) bool { return bytes.Equal(issuer.subjectDER, c.issuerDER) && !issuer.is(c) }
	if slices.ContainsFunc(roots, named) || slices.ContainsFunc(between, named) {
		return fmt.Errorf("%w: a certificate there has the issuer's name, %.100q, but did not sign it", errNotIssued, c.issuerName())
	}
	return fmt.Errorf("%w: no certificate of its issuer, %.100q, is there or in the file itself; append the issuer's certificate to the file", errNotIssued, c.issuerName())
}

func (c certificate) issuerName() string {
	for _, a := range slices.Backward(c.issuer) {
		if attributeNames[a.oid] == "CN" {
			return a.value
		}
	}
	return ""
}
