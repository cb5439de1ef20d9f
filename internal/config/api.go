package config

import (
	"fmt"
	"reflect"
)

// API configures the listener that offers the mPaaS API, and its clients.
type API struct {
	// Listen is host:port. Empty: no listener, or, with the embedded database,
	// 127.0.0.1:8081.
	Listen string `yaml:"listen"`
	// DatabaseURL holds the login that acts for the clients. The login must be a
	// member of scheduler_front and of the role of each client. Empty: the login
	// of Database.URL.
	DatabaseURL Secret `yaml:"database_url"`
	// MaxConnections bounds the listener's own pool.
	MaxConnections int `yaml:"max_connections"`
	// CertFile and KeyFile, PEM, make the listener speak TLS.
	CertFile string `yaml:"cert_file" as:"path"`
	KeyFile  string `yaml:"key_file" as:"path"`
	// BehindProxy says that a proxy speaks TLS in front of the listener.
	BehindProxy bool `yaml:"behind_proxy"`
	// MaxInFlight bounds the calls that are served at once.
	MaxInFlight int `yaml:"max_in_flight"`
	// CallsPerSecond bounds the calls of each key, in each daemon. Zero: no bound.
	CallsPerSecond float64 `yaml:"calls_per_second"`
	// Clients are the access keys, each with its role.
	Clients []Client `yaml:"clients"`
}

// A Client is an access key of the API. Its calls have the rights of Role, a
// database role.
type Client struct {
	AccessKeyID     string `yaml:"access_key_id"`
	AccessKeySecret Secret `yaml:"access_key_secret"`
	SecurityToken   Secret `yaml:"security_token"`
	Role            string `yaml:"role"`
}

var clientsType = reflect.TypeFor[[]Client]()

func defaultAPI() API { return API{MaxConnections: 8, MaxInFlight: 32} }

// bindClients reads the list of clients.
func (l *loader) bindClients(n *node, path string) []Client {
	return bindList(l, n, path, "client", func(item *node, at string) Client {
		var c Client
		l.bindStruct(item, at, reflect.ValueOf(&c).Elem(), nil)
		return c
	})
}

// leastSecret is the length, in bytes, below which a secret causes a warning.
// Whoever sees a signed call could find a shorter secret by trying.
const leastSecret = 24

func (l *loader) checkAPI(a *API, embedded bool) {
	if a.Listen != "" {
		l.checkListen("api.listen", a.Listen)
	}
	l.checkCertificate("api", a.CertFile, a.KeyFile)
	if a.Listen != "" && a.CertFile == "" && !a.BehindProxy && !IsLoopback(a.Listen) {
		l.problem("api.listen", "%s can be reached from other machines: set cert_file and key_file, or behind_proxy, or listen on 127.0.0.1", a.Listen)
	}
	l.atLeast("api.max_connections", a.MaxConnections, 1)
	l.atLeast("api.max_in_flight", a.MaxInFlight, 1)
	if a.CallsPerSecond < 0 {
		l.problem("api.calls_per_second", "must not be negative; 0 is no bound")
	}
	if a.Listen != "" && len(a.Clients) == 0 && !embedded {
		l.problem("api.clients", "is required: nobody could call; scheduler api keys makes a key")
	}
	l.checkDatabaseURL("api.database_url", a.DatabaseURL)
	l.checkClients(a.Clients)
}

func (l *loader) checkClients(clients []Client) {
	seen := map[string]int{}
	for i, c := range clients {
		at := fmt.Sprintf("api.clients[%d]", i)
		if c.AccessKeyID == "" {
			l.problem(at+".access_key_id", "is required")
		} else if first, twice := seen[c.AccessKeyID]; twice {
			l.problem(at+".access_key_id", "is that of clients[%d] too", first)
		}
		seen[c.AccessKeyID] = i
		switch secret := c.AccessKeySecret.Reveal(); {
		case secret == "":
			l.problem(at+".access_key_secret", "is required, or access_key_secret_file; scheduler api keys makes one")
		case len(secret) < leastSecret:
			l.warnings = append(l.warnings, at+".access_key_secret is shorter than 24 characters: whoever sees a call could find it out")
		}
		switch c.Role {
		case "":
			l.problem(at+".role", "is required: the database role whose rights the key has")
		case "none": // SET ROLE takes it for the login itself
			l.problem(at+".role", "must be the name of a role")
		}
	}
}
