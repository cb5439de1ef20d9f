package config_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/campaign-scheduler/scheduler/internal/config"
)

// What a listener's certificate files hold is judged when the configuration is
// read, and not at the first handshake.
func TestCertificateFilesAreRead(t *testing.T) {
	t.Parallel()
	const encrypted = "-----BEGIN ENCRYPTED PRIVATE KEY-----\nMIGj\n-----END ENCRYPTED PRIVATE KEY-----\n"
	const damaged = "-----BEGIN CERTIFICATE-----\nMIGj\n-----END CERTIFICATE-----\n"
	for _, section := range []string{"admin", "api", "console"} {
		for name, tt := range map[string]struct{ cert, key, want string }{
			"damaged":         {damaged, encrypted, section + ".cert_file"},
			"not PEM":         {"<html>", encrypted, section + ".cert_file"},
			"a key as UTF-16": {damaged, "\xff\xfe-\x00", section + ".key_file"},
		} {
			text := fmt.Sprintf("%s:\n  listen: 127.0.0.1:0\n  cert_file: server.pem\n  key_file: server.key\n", section)
			_, err := config.Load(write(t, text, "server.pem", tt.cert, "server.key", tt.key), home, providers())
			if err == nil || !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "MIGj") {
				t.Errorf("%s, %s: %v", section, name, err)
			}
		}
	}
	text := "admin:\n  cert_file: server.pem\n  key_file: server.key\n  client_ca_file: ca.pem\n"
	_, err := config.Load(write(t, text, "server.pem", damaged, "server.key", encrypted, "ca.pem", damaged+"-----BEGIN CERTIFICATE-----"), home, providers())
	if err == nil || !strings.Contains(err.Error(), "admin.client_ca_file") {
		t.Errorf("client authorities: %v", err)
	}
}
