package openid

// Patient has a Client wait for as long as a test may take.
func Patient(c *Client) {
	transport := c.http.Transport.(bounded)
	c.http.Timeout, transport.TLSHandshakeTimeout, transport.ResponseHeaderTimeout = 0, 0, 0
}
