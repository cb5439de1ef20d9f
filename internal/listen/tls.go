package listen

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"

	"github.com/campaign-scheduler/scheduler/internal/textfile"
)

// TLS reads how a listener speaks TLS from PEM files, or returns nil where there
// is no certificate. The certificate is read at every handshake, so that renewing
// it takes no restart. With clientCAFile, only clients with a certificate of one
// of its authorities are served.
func TLS(certFile, keyFile, clientCAFile string) (*tls.Config, error) {
	if certFile == "" {
		if clientCAFile != "" {
			return nil, errors.New("client certificates need a certificate of the server's own")
		}
		return nil, nil //nolint:nilnil // no TLS is no error
	}
	if _, err := readPair(certFile, keyFile); err != nil {
		return nil, err
	}
	out := &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
		return readPair(certFile, keyFile)
	}}
	if clientCAFile == "" {
		return out, nil
	}
	pem, err := os.ReadFile(clientCAFile)
	if err != nil {
		return nil, fmt.Errorf("read client authorities: %w", err)
	}
	authorities, err := textfile.Certificates(string(pem))
	if err != nil {
		return nil, fmt.Errorf("read client authorities: %s holds no certificates that can be read: %w", clientCAFile, err)
	}
	out.ClientCAs = x509.NewCertPool()
	for _, c := range authorities {
		out.ClientCAs.AddCert(c)
	}
	out.ClientAuth = tls.RequireAndVerifyClientCert
	return out, nil
}

// readPair reads a certificate and its key in any form in which programs write them
// to files.
func readPair(certFile, keyFile string) (*tls.Certificate, error) {
	cert, err := os.ReadFile(certFile)
	if err != nil {
		return nil, fmt.Errorf("read certificate: %w", err)
	}
	key, err := os.ReadFile(keyFile)
	if err != nil {
		return nil, fmt.Errorf("read key: %w", err)
	}
	pair, certErr, keyErr := textfile.KeyPair(string(cert), string(key))
	switch {
	case certErr != nil:
		return nil, fmt.Errorf("read certificate: %s: %w", certFile, certErr)
	case keyErr != nil:
		return nil, fmt.Errorf("read key: %s: %w", keyFile, keyErr)
	}
	return &pair, nil
}
