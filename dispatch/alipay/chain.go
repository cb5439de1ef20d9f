package alipay

import (
	"bytes"
	"crypto"
	"crypto/rsa"
	_ "crypto/sha1"   // signs old roots
	_ "crypto/sha256" // signs the others
	_ "crypto/sha512"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
)

// is reports whether two certificates are the same one.
func (c certificate) is(other certificate) bool { return bytes.Equal(c.der, other.der) }

// selfIssued reports whether a certificate names itself as its issuer.
func (c certificate) selfIssued() bool { return bytes.Equal(c.issuerDER, c.subjectDER) }

// rsaHashes are the hashes of the RSA signature algorithms, but for MD5, which
// proves nothing.
var rsaHashes = map[string]crypto.Hash{
	pkcs1Prefix + ".5":  crypto.SHA1,
	pkcs1Prefix + ".11": crypto.SHA256,
	pkcs1Prefix + ".12": crypto.SHA384,
	pkcs1Prefix + ".13": crypto.SHA512,
}

// issued reports whether the certificate's key signed another certificate that
// names it as its issuer. crypto/x509 is asked for what is not RSA only: it
// refuses SHA-1, which old roots are signed with, and all of SM2.
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

// leafOf returns the certificate of a file that no other one of it is issued
// under: the one that the file is of. It may stand anywhere among its issuers.
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

// maxChain bounds the way from a certificate to its root.
const maxChain = 8

// issuedUnder proves that a chain of signatures leads from a certificate to one
// of the roots, through certificates of between. A certificate is not its own
// proof, whatever file it stands in.
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
