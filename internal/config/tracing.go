package config

import (
	"math"
	"net"
	"net/url"
	"strconv"
	"strings"
)

// Tracing configures the OpenTelemetry traces, one for each task, that are sent to
// a collector. Settings that are left out are taken from the OTEL_ variables, where
// there is a variable for them.
type Tracing struct {
	// Endpoint is the URL of the collector's OTLP/HTTP receiver, without
	// /v1/traces. If neither the file nor SCHEDULER_TRACING_ENDPOINT gives it, the
	// variables OTEL_EXPORTER_OTLP_TRACES_ENDPOINT (a whole URL) and
	// OTEL_EXPORTER_OTLP_ENDPOINT are used. Empty: no traces. Load sets the whole
	// URL.
	Endpoint string `yaml:"endpoint"`
	// SampleRatio is the part of the tasks that are traced, from 0 to 1. Daemons
	// with the same ratio trace the same tasks, so it must be the same for all.
	SampleRatio float64 `yaml:"sample_ratio"`
	// Headers are sent with each export: name=value,name=value, with values
	// escaped as in a URL.
	Headers Secret `yaml:"headers"`
}

// HeaderMap returns the headers by name, or nil when none are set. Load has checked
// their syntax; malformed headers give nil too.
func (t Tracing) HeaderMap() map[string]string {
	headers, _ := parseHeaders(t.Headers.Reveal())
	return headers
}

func parseHeaders(text string) (headers map[string]string, ok bool) {
	if text == "" {
		return nil, true
	}
	headers = make(map[string]string)
	for pair := range strings.SplitSeq(text, ",") {
		name, escaped, found := strings.Cut(strings.TrimSpace(pair), "=")
		value, err := url.PathUnescape(strings.TrimSpace(escaped))
		name = strings.TrimSpace(name)
		if !found || err != nil || name == "" || strings.ContainsAny(name, " \t:\"") || strings.ContainsAny(value, "\r\n\x00") {
			return nil, false
		}
		headers[name] = value
	}
	return headers, true
}

// tracesPath is the path at which a collector takes traces by default.
const tracesPath = "/v1/traces"

// fillTracing sets what is left out from the variables that all programs with
// OpenTelemetry use.
func (l *loader) fillTracing(t *Tracing) {
	if _, set := l.origins["tracing.endpoint"]; !set {
		l.endpointFromEnv(t)
	} else if t.Endpoint != "" {
		t.Endpoint = withTracesPath(t.Endpoint)
	}
	if _, set := l.origins["tracing.sample_ratio"]; !set {
		l.ratioFromEnv(t)
	}
	if l.env["OTEL_SDK_DISABLED"] == "true" || l.env["OTEL_TRACES_EXPORTER"] == "none" {
		t.Endpoint = ""
	}
}

func withTracesPath(endpoint string) string {
	return strings.TrimSuffix(strings.TrimSuffix(endpoint, "/"), tracesPath) + tracesPath
}

func (l *loader) endpointFromEnv(t *Tracing) {
	const own, all = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT"
	switch {
	case l.env[own] != "":
		t.Endpoint = l.env[own]
		l.origins["tracing.endpoint"] = origin{env: own}
	case l.env[all] != "":
		t.Endpoint = withTracesPath(l.env[all])
		l.origins["tracing.endpoint"] = origin{env: all}
	}
}

// ratioFromEnv reads the standard sampler variables. A parent-based sampler has the
// same effect as its root sampler, since the trace of a task has no parent.
func (l *loader) ratioFromEnv(t *Tracing) {
	const name, argument = "OTEL_TRACES_SAMPLER", "OTEL_TRACES_SAMPLER_ARG"
	switch strings.TrimPrefix(l.env[name], "parentbased_") {
	case "", "always_on":
	case "always_off":
		t.SampleRatio = 0
	case "traceidratio":
		if l.env[argument] == "" {
			return
		}
		ratio, err := strconv.ParseFloat(l.env[argument], 64)
		l.origins["tracing.sample_ratio"] = origin{env: argument}
		if err != nil {
			l.problem("tracing.sample_ratio", "must be a number, not %q", l.env[argument])
		}
		t.SampleRatio = ratio
	default:
		l.origins["tracing.sample_ratio"] = origin{env: name}
		l.problem("tracing.sample_ratio", "must be always_on, always_off, traceidratio or one of these after parentbased_, not %q", l.env[name])
	}
}

func (l *loader) checkTracing(t *Tracing) {
	if math.IsNaN(t.SampleRatio) || t.SampleRatio < 0 || t.SampleRatio > 1 {
		l.problem("tracing.sample_ratio", "must be between 0, no task, and 1, every task, not %v", t.SampleRatio)
	}
	if _, ok := parseHeaders(t.Headers.Reveal()); !ok {
		l.problem("tracing.headers", "must be name=value,name=value, with values as in a URL (%%20 for a space)")
	}
	if t.Endpoint == "" {
		return
	}
	u, err := url.Parse(t.Endpoint)
	switch {
	case err != nil || (u.Scheme != "https" && u.Scheme != "http") || u.Host == "":
		l.problem("tracing.endpoint", "must be the URL of an OTLP/HTTP receiver, such as http://127.0.0.1:4318")
		return
	case u.User != nil || u.RawQuery != "" || u.Fragment != "":
		l.problem("tracing.endpoint", "must have no user, password, query or fragment; tracing.headers takes credentials")
		return
	case u.Scheme == "http" && !IsLoopback(net.JoinHostPort(u.Hostname(), "0")):
		l.warnings = append(l.warnings, "tracing.endpoint is not https: traces can be read on the way")
	}
	l.checkProtocol()
}

// checkProtocol warns when the standard variables ask for a protocol that is not
// supported.
func (l *loader) checkProtocol() {
	for _, name := range []string{"OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"} {
		if l.env[name] == "grpc" {
			l.warnings = append(l.warnings, name+" is grpc, but traces are sent over HTTP: name the collector's HTTP receiver, usually port 4318")
			return
		}
	}
}
