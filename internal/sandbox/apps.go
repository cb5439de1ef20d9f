package sandbox

// AnyApp as an app id makes credentials good for every app: load and chaos
// tests spread their campaigns over many.
const AnyApp = "*"

// Apps are the apps that the sandbox knows.
type Apps struct {
	MPaaS   []MPaaSApp
	Alipay  []AlipayApp
	Webhook []WebhookApp
}

// An MPaaSApp is an app with the access key that may push to it. Several apps
// may share one access key, with the same secret and token.
type MPaaSApp struct {
	AppID           string // or AnyApp, and then of every workspace
	WorkspaceID     string
	AccessKeyID     string
	AccessKeySecret string
	// SecurityToken makes the key a temporary one (STS). Empty: a permanent key.
	SecurityToken string
}

// An AlipayApp is an app with its keys.
type AlipayApp struct {
	AppID string // or AnyApp
	// AppPublicKey verifies requests: PEM of a PKIX public key. Not needed in
	// certificate mode.
	AppPublicKey []byte
	// AppCert and RootCerts (PEM) turn certificate mode on: requests must name
	// their serial numbers.
	AppCert, RootCerts []byte
	// AlipayPrivateKey signs answers: PEM of a PKCS#8 or PKCS#1 key.
	AlipayPrivateKey []byte
	// AlipayCert (PEM) is named in answers in certificate mode.
	AlipayCert []byte
	// AESKey in base64 turns encryption on: bodies must be ciphertext.
	AESKey string
	// AuthToken is the app_auth_token that requests must carry. Empty: none.
	AuthToken string

	keys *alipayKeys
}

// A WebhookApp is a receiver: calls to /webhook/APP_ID must be signed with its
// secret.
type WebhookApp struct {
	AppID  string // or AnyApp
	Secret string
}
