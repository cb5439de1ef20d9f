package admin

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
)

// tls returns how the listener speaks TLS, or nil when it does not.
func (c Config) tls() (*tls.Config, error) {
	if c.CertFile == "" {
		if c.ClientCAFile != "" {
			return nil, errors.New("client certificates need a certificate of the server's own")
		}
		return nil, nil //nolint:nilnil // no TLS is no error
	}
	if _, err := tls.LoadX509KeyPair(c.CertFile, c.KeyFile); err != nil {
		return nil, fmt.Errorf("read certificate: %w", err)
	}
	out := &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: c.certificate}
	if c.ClientCAFile == "" {
		return out, nil
	}
	pem, err := os.ReadFile(c.ClientCAFile)
	if err != nil {
		return nil, fmt.Errorf("read client authorities: %w", err)
	}
	out.ClientCAs = x509.NewCertPool()
	if !out.ClientCAs.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("read client authorities: %s holds no certificate", c.ClientCAFile)
	}
	out.ClientAuth = tls.RequireAndVerifyClientCert
	return out, nil
}

func (c Config) certificate(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	pair, err := tls.LoadX509KeyPair(c.CertFile, c.KeyFile)
	return &pair, err
}
