//go:build unix

package main

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/campaign-scheduler/scheduler/internal/engine"
)

// bareCaller is the call as a program makes it that has nothing but the standard
// library: net/http at the settings that are fastest here, the signature, and the
// answer read with encoding/json. It shares no code with the scheduler's adapter,
// so that it stays what it is when that gets faster.
type bareCaller struct {
	client              *http.Client
	url, host, id, body string
	secret              []byte
}

func (b *bench) bareCaller() *bareCaller {
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	return &bareCaller{
		client: &http.Client{Transport: &http.Transport{
			Protocols: protocols, MaxIdleConnsPerHost: 1024, WriteBufferSize: 32 << 10, DisableCompression: true,
		}},
		url: b.box.url + "/", host: strings.TrimPrefix(b.box.url, "http://"),
		id: b.box.options["access_key_id"], secret: []byte(b.box.options["access_key_secret"]),
		body: "AppId=" + appID(1) + "&DeliveryType=3&ExpiredSeconds=600&StrategyType=0&TargetMsg.1.MsgKey=%s&TargetMsg.1.Target=user-1" +
			"&TargetMsg.1.TemplateKeyValue=%%7B%%22name%%22%%3A%%22Li+Lei%%22%%7D&TaskName=bench&TemplateName=welcome&WorkspaceId=" + workspace,
	}
}

func (c *bareCaller) rest() { c.client.CloseIdleConnections() }

func (c *bareCaller) push(ctx context.Context, n int64, due time.Time) error {
	body := fmt.Sprintf(c.body, engine.Keys{}.Message(n, due, "user-1", ""))
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.url, strings.NewReader(body))
	if err != nil {
		return err
	}
	c.sign(req, body)
	res, err := c.client.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		return err
	}
	var answer struct {
		ResultCode string
		PushResult struct{ Success bool }
	}
	if err := json.Unmarshal(text, &answer); err != nil {
		return err
	}
	if res.StatusCode != http.StatusOK || answer.ResultCode != "OK" || !answer.PushResult.Success {
		return fmt.Errorf("HTTP %d: %s", res.StatusCode, text)
	}
	return nil
}

func (c *bareCaller) sign(req *http.Request, body string) {
	var nonce [16]byte
	_, _ = rand.Read(nonce[:])
	headers := [][2]string{
		{"content-type", "application/x-www-form-urlencoded"},
		{"host", c.host},
		{"x-acs-action", "PushMultiple"},
		{"x-acs-content-sha256", digest(body)},
		{"x-acs-date", time.Now().UTC().Format("2006-01-02T15:04:05Z")},
		{"x-acs-signature-nonce", hex.EncodeToString(nonce[:])},
		{"x-acs-version", "2020-10-28"},
	}
	const names = "content-type;host;x-acs-action;x-acs-content-sha256;x-acs-date;x-acs-signature-nonce;x-acs-version"
	var canonical strings.Builder
	canonical.WriteString("POST\n/\n\n")
	for _, h := range headers {
		canonical.WriteString(h[0] + ":" + h[1] + "\n")
		if h[0] != "host" {
			req.Header.Set(h[0], h[1])
		}
	}
	canonical.WriteString("\n" + names + "\n" + headers[3][1])
	mac := hmac.New(sha256.New, c.secret)
	mac.Write([]byte("ACS3-HMAC-SHA256\n" + digest(canonical.String())))
	req.Header.Set("Authorization", "ACS3-HMAC-SHA256 Credential="+c.id+",SignedHeaders="+names+",Signature="+hex.EncodeToString(mac.Sum(nil)))
}

func digest(s string) string {
	sum := sha256.Sum256([]byte(s))
	return hex.EncodeToString(sum[:])
}
