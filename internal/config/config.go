// Package config reads the daemon's settings: one strict YAML file, overridden
// by the environment, checked as a whole. Every problem is reported at once,
// with its line and column, and no message ever holds a secret.
//
// Every key has a variable of its own: SCHEDULER_ and the path in capitals, for
// example SCHEDULER_DATABASE_URL or, by the app's position in the list,
// SCHEDULER_APPS_0_ACCESS_KEY_SECRET. Every secret has a twin NAME_file that
// names a file to read it from. Text in the file may hold ${NAME}, which is
// replaced after parsing, so that a value can never change the structure.
package config

import (
	"fmt"
	"io"
	"log/slog"
	"net/url"
	"time"

	"github.com/campaign-scheduler/scheduler/dispatch"
)

// Config is everything the daemon can be told. Load fills every field: what
// the file and the environment leave out has its default.
type Config struct {
	Database Database `yaml:"database"`
	// DataDir holds what the daemon keeps on disk: the embedded PostgreSQL, the
	// sandbox's journal. Default: $XDG_STATE_HOME/scheduler or
	// ~/.local/state/scheduler; as root /var/lib/scheduler.
	DataDir      string       `yaml:"data_dir" as:"path"`
	Embedded     Embedded     `yaml:"embedded"`
	Admin        Admin        `yaml:"admin"`
	Console      Console      `yaml:"console"`
	Log          Log          `yaml:"log"`
	Dispatch     Dispatch     `yaml:"dispatch"`
	Planner      Planner      `yaml:"planner"`
	Retention    Retention    `yaml:"retention"`
	RestoreGuard RestoreGuard `yaml:"restore_guard"`
	Tracing      Tracing      `yaml:"tracing"`
	Sandbox      Sandbox      `yaml:"sandbox"`
	API          API          `yaml:"api"`
	// Apps may be empty: the daemon then serves a sandbox app per provider.
	Apps []App `yaml:"apps"`

	// Warnings tell of what is probably not meant but does not stop a start.
	Warnings []string `yaml:"-"`
}

// Database says where the schema lives and how it is reached.
type Database struct {
	// URL is a PostgreSQL URL or keyword string. Empty: an embedded PostgreSQL
	// in DataDir. Where neither the file nor SCHEDULER_DATABASE_URL says
	// anything, the variable DATABASE_URL is used.
	URL Secret `yaml:"url"`
	// MaxConnections bounds the daemon's pool, its listener included.
	MaxConnections int `yaml:"max_connections"`
	// ConnectTimeout bounds one attempt to connect.
	ConnectTimeout time.Duration `yaml:"connect_timeout"`
	// StatementTimeout bounds one statement, so that nothing hangs for ever.
	StatementTimeout time.Duration `yaml:"statement_timeout"`
}

// Embedded configures the PostgreSQL that runs when Database.URL is empty.
type Embedded struct {
	// Port on 127.0.0.1, for psql. Zero: a free one.
	Port int `yaml:"port"`
	// BinDir holds initdb and postgres. Empty: searched for on the machine.
	BinDir string `yaml:"bin_dir" as:"path"`
}

// Admin configures the listener of /healthz, /readyz and /metrics.
type Admin struct {
	// Listen is host:port. Anything but loopback needs Token or ClientCAFile.
	Listen string `yaml:"listen"`
	// Pprof serves /debug/pprof too.
	Pprof bool `yaml:"pprof"`
	// Token, when set, must come as "Authorization: Bearer TOKEN".
	Token Secret `yaml:"token"`
	// CertFile and KeyFile, PEM, make the listener speak TLS.
	CertFile string `yaml:"cert_file" as:"path"`
	KeyFile  string `yaml:"key_file" as:"path"`
	// ClientCAFile, PEM: only clients with a certificate of these authorities.
	ClientCAFile string `yaml:"client_ca_file" as:"path"`
}

// Log configures what is written to standard error.
type Log struct {
	Level  string `yaml:"level" oneof:"debug,info,warn,error"`
	Format string `yaml:"format" oneof:"text,json"`
}

// Dispatch bounds how tasks are claimed and pushed.
type Dispatch struct {
	// PushTimeout bounds one call to a push API.
	PushTimeout time.Duration `yaml:"push_timeout"`
	// Lease is how long a silent daemon keeps its claimed tasks.
	Lease time.Duration `yaml:"lease"`
	// GracePeriod is how long a stop waits for calls in flight.
	GracePeriod time.Duration `yaml:"grace_period"`
	// MaxInFlight bounds the daemon's calls in flight, over all apps.
	MaxInFlight int   `yaml:"max_in_flight"`
	Retry       Retry `yaml:"retry"`
	// Proxy is the forward proxy that push calls go through, as a tunnel (CONNECT)
	// to https endpoints: an http:// or https:// URL, or "environment" for
	// HTTPS_PROXY and NO_PROXY. Empty: calls go directly.
	Proxy Secret `yaml:"proxy"`
	// MisfireGrace is how late a task may be and still count as on time.
	MisfireGrace time.Duration `yaml:"misfire_grace"`
}

// Retry is the backoff between attempts that certainly sent nothing.
type Retry struct {
	Initial time.Duration `yaml:"initial"`
	Max     time.Duration `yaml:"max"`
}

// Planner configures the planning pass.
type Planner struct {
	// Interval is the time between passes; notifications wake it in between.
	Interval time.Duration `yaml:"interval"`
}

// Retention says when decided tasks are pruned.
type Retention struct {
	// Tasks is the age from which a decided task is pruned. Zero: never.
	Tasks time.Duration `yaml:"tasks"`
	// ExportDir, when set, receives the tasks before they are deleted.
	ExportDir string `yaml:"export_dir" as:"path"`
	// ExportFormat is of the files in ExportDir.
	ExportFormat string `yaml:"export_format" oneof:"ndjson,csv"`
}

// RestoreGuard keeps a restored or cloned database from pushing again what the
// original has pushed.
type RestoreGuard struct {
	// MaxGap in the heartbeat record beyond which the daemon is on its guard.
	MaxGap time.Duration `yaml:"max_gap"`
	// Policy: hold waits for an operator's release, run goes on.
	Policy string `yaml:"policy" oneof:"hold,run"`
}

// Sandbox configures the stand-in push APIs that run when Apps is empty.
type Sandbox struct {
	Listen string `yaml:"listen"`
	// Journal is the file of one JSON line per call. Empty: in DataDir.
	Journal string `yaml:"journal" as:"path"`
	// Faults in force at start, as `scheduler sandbox --help` describes them.
	Faults string `yaml:"faults"`
}

// App is one app_id and workspace_id with its provider, credentials and limits.
type App struct {
	AppID       string `yaml:"app_id"`
	WorkspaceID string `yaml:"workspace_id"`
	Provider    string `yaml:"provider"`
	// Endpoint is the push API's scheme and host; a webhook's whole URL. Some
	// providers have a default.
	Endpoint string `yaml:"endpoint"`
	// Proxy is this app's instead of Dispatch.Proxy; "none": its calls go directly.
	Proxy Secret `yaml:"proxy"`
	// CAFile, PEM, holds authorities that are trusted beside the system's, for an
	// endpoint whose certificate a private one issued.
	CAFile string `yaml:"ca_file" as:"path"`
	// TimeZone is of campaigns that name none.
	TimeZone string `yaml:"time_zone"`
	// PendingLimit is how many tasks the app may have stored as pending.
	PendingLimit int `yaml:"pending_limit"`
	// MaxInFlight bounds the app's calls in flight, per daemon.
	MaxInFlight int `yaml:"max_in_flight"`
	// CallsPerSecond bounds the app's rate, per daemon. Zero: no bound.
	CallsPerSecond float64 `yaml:"calls_per_second"`
	// WeeklyQuota overrides, by channel, how many calls the provider allows in
	// any rolling 7 × 24 h. Zero: no quota.
	WeeklyQuota map[string]int `yaml:"weekly_quota"`
	// AllowAudienceSchedules lifts the rule that mPaaS analytics and tag
	// audiences take no scheduled or loop pushes.
	AllowAudienceSchedules bool `yaml:"allow_audience_schedules"`
	// Options are the provider's own keys. All are kept as secrets, since a few
	// of them are and none needs to be printed.
	Options map[string]Secret `yaml:"-"`

	// Authorities is what CAFile holds.
	Authorities string `yaml:"-"`
	// Way returns the proxy for an endpoint, or nil for none. A nil Way: calls go
	// directly.
	Way func(endpoint *url.URL) (*url.URL, error) `yaml:"-" json:"-"`
}

// Region is the option of that name, which some providers have.
func (a App) Region() string { return a.Options["region"].Reveal() }

// Settings returns what the app's provider needs to make its Pusher.
func (a App) Settings() dispatch.Settings {
	options := make(map[string]string, len(a.Options))
	for name, value := range a.Options {
		options[name] = value.Reveal()
	}
	return dispatch.Settings{
		AppID: a.AppID, WorkspaceID: a.WorkspaceID, Endpoint: a.Endpoint, Options: options, Proxy: a.Way, Authorities: a.Authorities,
	}
}

// Default returns the configuration of an empty file, but for DataDir, which
// depends on the user.
func Default() Config {
	return Config{
		Database:     Database{MaxConnections: 20, ConnectTimeout: 5 * time.Second, StatementTimeout: 30 * time.Second},
		Admin:        Admin{Listen: "127.0.0.1:8080"},
		Console:      defaultConsole(),
		Log:          Log{Level: "info", Format: "text"},
		Dispatch:     defaultDispatch(),
		Planner:      Planner{Interval: time.Second},
		Retention:    Retention{ExportFormat: "ndjson"},
		RestoreGuard: RestoreGuard{MaxGap: 24 * time.Hour, Policy: "hold"},
		Tracing:      Tracing{SampleRatio: 1},
		Sandbox:      Sandbox{Listen: "127.0.0.1:8090"},
		API:          defaultAPI(),
	}
}

func defaultDispatch() Dispatch {
	return Dispatch{
		PushTimeout:  30 * time.Second,
		Lease:        10 * time.Second,
		GracePeriod:  30 * time.Second,
		MaxInFlight:  256,
		Retry:        Retry{Initial: time.Second, Max: time.Minute},
		MisfireGrace: time.Minute,
	}
}

// defaultApp is what every app of the list starts from; the zone and the limit
// are those of scheduler.apps.
func defaultApp() App {
	return App{TimeZone: "Asia/Shanghai", PendingLimit: 100, MaxInFlight: 64}
}

// placeholder stands wherever a secret would have been printed.
const placeholder = "[secret]"

// A Secret is a value that must not be seen: it prints as a placeholder in
// fmt, slog, JSON and YAML, so that printing a whole Config is always safe. An
// empty Secret prints as nothing, which tells "not set" from "set".
type Secret string

// Reveal returns the value itself, for the one place that needs it.
func (s Secret) Reveal() string { return string(s) }

// String returns the placeholder.
func (s Secret) String() string {
	if s == "" {
		return ""
	}
	return placeholder
}

// Format prints the placeholder whatever the verb: %x and %q would otherwise
// print the string beneath.
func (s Secret) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, s.String()) }

// LogValue gives slog the placeholder.
func (s Secret) LogValue() slog.Value { return slog.StringValue(s.String()) }

// MarshalText gives encoders of JSON and YAML the placeholder.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }
