package listen

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
)

// TLS reads how a listener speaks TLS from PEM files, or returns nil where there
// is no certificate. The certificate is read at every handshake, so that renewing
// it takes no restart. With clientCAFile only clients are taken that have a
// certificate of one of its authorities.
func TLS(certFile, keyFile, clientCAFile string) (*tls.Config, error) {
	if certFile == "" {
		if clientCAFile != "" {
			return nil, errors.New("client certificates need a certificate of the server's own")
		}
		return nil, nil //nolint:nilnil // no TLS is no error
	}
	if _, err := tls.LoadX509KeyPair(certFile, keyFile); err != nil {
		return nil, fmt.Errorf("read certificate: %w", err)
	}
	out := &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
		pair, err := tls.LoadX509KeyPair(certFile, keyFile)
		return &pair, err
	}}
	if clientCAFile == "" {
		return out, nil
	}
	pem, err := os.ReadFile(clientCAFile)
	if err != nil {
		return nil, fmt.Errorf("read client authorities: %w", err)
	}
	out.ClientCAs = x509.NewCertPool()
	if !out.ClientCAs.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("read client authorities: %s holds no certificate", clientCAFile)
	}
	out.ClientAuth = tls.RequireAndVerifyClientCert
	return out, nil
}
