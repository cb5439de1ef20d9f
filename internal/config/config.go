// Package config reads the daemon's settings from one strict YAML file and from
// the environment, which overrides the file. It checks all settings and reports
// all problems at once, each with its line and column. No message holds a secret.
//
// Every key has an environment variable: SCHEDULER_ and the path in upper case,
// for example SCHEDULER_DATABASE_URL. An app is named by its position in the list,
// as in SCHEDULER_APPS_0_ACCESS_KEY_SECRET. For every secret NAME there is a key
// NAME_file, which names a file that holds the secret. Values in the YAML file may
// contain ${NAME}. It is replaced after the file is parsed, so a variable cannot
// change the structure of the file.
package config

import (
	"fmt"
	"io"
	"log/slog"
	"net/url"
	"time"

	"github.com/campaign-scheduler/scheduler/dispatch"
)

// Config holds all settings. Load sets every field: a setting that neither the
// file nor the environment gives has its default.
type Config struct {
	Database Database `yaml:"database"`
	// DataDir is the directory of the embedded PostgreSQL and the sandbox's journal.
	// Default: $XDG_STATE_HOME/scheduler or ~/.local/state/scheduler; for root
	// /var/lib/scheduler.
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
	// Apps may be empty. The daemon then serves one sandbox app for each provider.
	Apps []App `yaml:"apps"`

	// Warnings name settings that are probably a mistake but allow a start.
	Warnings []string `yaml:"-"`
}

// Database configures the connections to the database.
type Database struct {
	// URL is a PostgreSQL URL or keyword string. If neither the file nor
	// SCHEDULER_DATABASE_URL gives it, the variable DATABASE_URL is used. Empty: an
	// embedded PostgreSQL in DataDir.
	URL Secret `yaml:"url"`
	// MaxConnections bounds the daemon's pool. The connection that listens for
	// notifications is one of them.
	MaxConnections int `yaml:"max_connections"`
	// ConnectTimeout bounds one attempt to connect.
	ConnectTimeout time.Duration `yaml:"connect_timeout"`
	// StatementTimeout bounds one statement.
	StatementTimeout time.Duration `yaml:"statement_timeout"`
}

// Embedded configures the PostgreSQL that runs when Database.URL is empty.
type Embedded struct {
	// Port is the server's port on 127.0.0.1, for psql. Zero: a free port.
	Port int `yaml:"port"`
	// BinDir is the directory of initdb and postgres. Empty: they are searched for
	// on the machine.
	BinDir string `yaml:"bin_dir" as:"path"`
}

// Admin configures the listener of /healthz, /readyz and /metrics.
type Admin struct {
	// Listen is host:port. An address other than loopback requires Token or
	// ClientCAFile.
	Listen string `yaml:"listen"`
	// Pprof says that the listener serves /debug/pprof too.
	Pprof bool `yaml:"pprof"`
	// Token, if set, is required in each request: "Authorization: Bearer TOKEN".
	Token Secret `yaml:"token"`
	// CertFile and KeyFile, PEM, make the listener speak TLS.
	CertFile string `yaml:"cert_file" as:"path"`
	KeyFile  string `yaml:"key_file" as:"path"`
	// ClientCAFile, PEM, holds certificate authorities. If set, only clients with a
	// certificate of these authorities are served.
	ClientCAFile string `yaml:"client_ca_file" as:"path"`
}

// Log configures the log, which is written to standard error.
type Log struct {
	Level  string `yaml:"level" oneof:"debug,info,warn,error"`
	Format string `yaml:"format" oneof:"text,json"`
}

// Dispatch bounds how tasks are claimed and pushed.
type Dispatch struct {
	// PushTimeout bounds one call to a push API.
	PushTimeout time.Duration `yaml:"push_timeout"`
	// Lease is the time after which a daemon that does not renew its lease loses its
	// claimed tasks.
	Lease time.Duration `yaml:"lease"`
	// GracePeriod bounds how long a stop waits for calls in flight.
	GracePeriod time.Duration `yaml:"grace_period"`
	// MaxInFlight bounds the calls in flight of the daemon, for all apps together.
	MaxInFlight int   `yaml:"max_in_flight"`
	Retry       Retry `yaml:"retry"`
	// Proxy is the forward proxy of push calls. Calls to https endpoints go through
	// a tunnel (CONNECT). Proxy is an http:// or https:// URL, or "environment" for
	// HTTPS_PROXY and NO_PROXY. Empty: calls go directly.
	Proxy Secret `yaml:"proxy"`
	// MisfireGrace is how late a task may be and still count as on time.
	MisfireGrace time.Duration `yaml:"misfire_grace"`
}

// Retry configures the backoff after an attempt that certainly sent nothing. Waits
// grow from Initial to Max.
type Retry struct {
	Initial time.Duration `yaml:"initial"`
	Max     time.Duration `yaml:"max"`
}

// Planner configures the planning pass.
type Planner struct {
	// Interval is the time between passes. Notifications start further passes.
	Interval time.Duration `yaml:"interval"`
}

// Retention configures when decided tasks are pruned.
type Retention struct {
	// Tasks is the age from which a decided task is pruned. Zero: never.
	Tasks time.Duration `yaml:"tasks"`
	// ExportDir is a directory. If set, tasks are written to files in it before they
	// are deleted.
	ExportDir string `yaml:"export_dir" as:"path"`
	// ExportFormat is the format of the files in ExportDir.
	ExportFormat string `yaml:"export_format" oneof:"ndjson,csv"`
}

// RestoreGuard configures the guard that prevents duplicate pushes from a restored
// or cloned database.
type RestoreGuard struct {
	// MaxGap is the longest gap in the record of heartbeats that is taken as
	// ordinary. A longer gap makes Policy take effect.
	MaxGap time.Duration `yaml:"max_gap"`
	// Policy says what the daemon does then: "hold" pushes nothing until an operator
	// releases the hold, "run" goes on.
	Policy string `yaml:"policy" oneof:"hold,run"`
}

// Sandbox configures the stand-in push APIs that run when Apps is empty.
type Sandbox struct {
	Listen string `yaml:"listen"`
	// Journal is the file to which each call is written as a line of JSON. Empty: a
	// file in DataDir.
	Journal string `yaml:"journal" as:"path"`
	// Faults are the faults at the start, in the syntax that
	// `scheduler sandbox --help` describes.
	Faults string `yaml:"faults"`
}

// App is an app, which app_id and workspace_id name, with its provider, credentials
// and limits.
type App struct {
	AppID       string `yaml:"app_id"`
	WorkspaceID string `yaml:"workspace_id"`
	Provider    string `yaml:"provider"`
	// Endpoint is the scheme and host of the push API; for a webhook it is the whole
	// URL. Some providers have a default.
	Endpoint string `yaml:"endpoint"`
	// Proxy is used for this app instead of Dispatch.Proxy. "none": its calls go
	// directly.
	Proxy Secret `yaml:"proxy"`
	// CAFile, PEM, holds certificate authorities that are trusted in addition to the
	// system's, for an endpoint with a certificate of a private authority.
	CAFile string `yaml:"ca_file" as:"path"`
	// TimeZone is the IANA time zone of campaigns that name none.
	TimeZone string `yaml:"time_zone"`
	// PendingLimit is how many pending tasks the app may have.
	PendingLimit int `yaml:"pending_limit"`
	// QuietFrom and QuietUntil are times of day in TimeZone, HH:mm:ss or HH:mm, between
	// which nothing is pushed. Empty: what the database has, or none.
	QuietFrom  string `yaml:"quiet_from"`
	QuietUntil string `yaml:"quiet_until"`
	// MaxInFlight bounds the app's calls in flight, in each daemon.
	MaxInFlight int `yaml:"max_in_flight"`
	// CallsPerSecond bounds the app's rate, in each daemon. Zero: no bound.
	CallsPerSecond float64 `yaml:"calls_per_second"`
	// TargetsPerSecond bounds how many targets the app's calls have, over all
	// daemons. Zero: what the database has, which is no bound at first.
	TargetsPerSecond float64 `yaml:"targets_per_second"`
	// WeeklyQuota overrides, by channel, how many calls the provider allows in
	// any rolling 7 × 24 h. Zero: no quota.
	WeeklyQuota map[string]int `yaml:"weekly_quota"`
	// AllowAudienceSchedules turns off the rule that campaigns with an mPaaS
	// analytics or tag audience may not be scheduled or loop.
	AllowAudienceSchedules bool `yaml:"allow_audience_schedules"`
	// Options are the provider's own keys. All are of type Secret: some of them are
	// secrets, and none needs to be printed.
	Options map[string]Secret `yaml:"-"`

	// Authorities is the content of CAFile.
	Authorities string `yaml:"-"`
	// Way returns the proxy for an endpoint, or nil when the call goes directly. If
	// Way is nil, all calls go directly.
	Way func(endpoint *url.URL) (*url.URL, error) `yaml:"-" json:"-"`
}

// Region returns the option "region", or "" when it is not set. Only some providers
// have this option.
func (a App) Region() string { return a.Options["region"].Reveal() }

// Settings returns the settings from which the provider's adapter makes a Pusher.
// They hold secrets in plain text.
func (a App) Settings() dispatch.Settings {
	options := make(map[string]string, len(a.Options))
	for name, value := range a.Options {
		options[name] = value.Reveal()
	}
	return dispatch.Settings{
		AppID: a.AppID, WorkspaceID: a.WorkspaceID, Endpoint: a.Endpoint, Options: options, Proxy: a.Way, Authorities: a.Authorities,
	}
}

// Default returns the configuration of an empty file, except DataDir, whose default
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

// defaultApp returns the defaults of an app. The time zone and the pending limit
// are the same as the defaults of the table scheduler.apps.
func defaultApp() App {
	return App{TimeZone: "Asia/Shanghai", PendingLimit: 100, MaxInFlight: 64}
}

// placeholder is printed instead of a secret.
const placeholder = "[secret]"

// A Secret is a text that must not be seen. fmt, slog, JSON and YAML print a
// placeholder instead, so a whole Config can be printed safely. An empty Secret is
// printed as nothing, so that a reader can tell "not set" from "set".
type Secret string

// Reveal returns the text itself.
func (s Secret) Reveal() string { return string(s) }

// String returns the placeholder, or "" for an empty Secret.
func (s Secret) String() string {
	if s == "" {
		return ""
	}
	return placeholder
}

// Format prints the placeholder for every verb. Without it %x and %q would print
// the text.
func (s Secret) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, s.String()) }

// LogValue returns the placeholder to slog.
func (s Secret) LogValue() slog.Value { return slog.StringValue(s.String()) }

// MarshalText returns the placeholder to encoders of JSON and YAML.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }
