package config_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/campaign-scheduler/scheduler/internal/config"
)

func TestTracing(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, text string
		environ    []string
		want       config.Tracing
	}{
		{name: "nothing said", want: config.Tracing{SampleRatio: 1}},
		{name: "file", text: "tracing: {endpoint: 'http://127.0.0.1:4318', sample_ratio: 0.25}", want: config.Tracing{Endpoint: "http://127.0.0.1:4318/v1/traces", SampleRatio: 0.25}},
		{name: "base path", text: "tracing: {endpoint: 'http://127.0.0.1:4318/otlp/'}", want: config.Tracing{Endpoint: "http://127.0.0.1:4318/otlp/v1/traces", SampleRatio: 1}},
		{name: "whole URL", text: "tracing: {endpoint: 'http://127.0.0.1:4318/v1/traces'}", want: config.Tracing{Endpoint: "http://127.0.0.1:4318/v1/traces", SampleRatio: 1}},
		{
			name: "our variable before theirs", environ: []string{"SCHEDULER_TRACING_ENDPOINT=https://ours", "OTEL_EXPORTER_OTLP_ENDPOINT=https://theirs"},
			want: config.Tracing{Endpoint: "https://ours/v1/traces", SampleRatio: 1},
		},
		{name: "for all signals", environ: []string{"OTEL_EXPORTER_OTLP_ENDPOINT=https://c:4318/"}, want: config.Tracing{Endpoint: "https://c:4318/v1/traces", SampleRatio: 1}},
		{
			name: "for traces, as it is", environ: []string{"OTEL_EXPORTER_OTLP_ENDPOINT=https://c", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT=https://t/in"},
			want: config.Tracing{Endpoint: "https://t/in", SampleRatio: 1},
		},
		{name: "off by the file", text: "tracing: {endpoint: ''}", environ: []string{"OTEL_EXPORTER_OTLP_ENDPOINT=https://c"}, want: config.Tracing{SampleRatio: 1}},
		{name: "off for the SDK", text: "tracing: {endpoint: 'https://c'}", environ: []string{"OTEL_SDK_DISABLED=true"}, want: config.Tracing{SampleRatio: 1}},
		{name: "no exporter", environ: []string{"OTEL_EXPORTER_OTLP_ENDPOINT=https://c", "OTEL_TRACES_EXPORTER=none"}, want: config.Tracing{SampleRatio: 1}},
		{name: "ratio", environ: []string{"OTEL_TRACES_SAMPLER=parentbased_traceidratio", "OTEL_TRACES_SAMPLER_ARG=0.5"}, want: config.Tracing{SampleRatio: 0.5}},
		{name: "never", environ: []string{"OTEL_TRACES_SAMPLER=always_off"}, want: config.Tracing{}},
		{name: "our ratio before theirs", text: "tracing: {sample_ratio: 1}", environ: []string{"OTEL_TRACES_SAMPLER=always_off"}, want: config.Tracing{SampleRatio: 1}},
	} {
		got := load(t, write(t, c.text), c.environ...)
		if diff := cmp.Diff(c.want, got.Tracing); diff != "" {
			t.Errorf("%s (-want +got):\n%s", c.name, diff)
		}
		if len(got.Warnings) > 0 {
			t.Errorf("%s: warnings %q", c.name, got.Warnings)
		}
	}
}

func TestTracingHeaders(t *testing.T) {
	t.Parallel()
	got := load(t, write(t, "tracing: {headers_file: headers}", "headers", "Authorization=Bearer%20s3same, X-Team=push\n")).Tracing.HeaderMap()
	if diff := cmp.Diff(map[string]string{"Authorization": "Bearer s3same", "X-Team": "push"}, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if got := load(t, "").Tracing.HeaderMap(); got != nil {
		t.Errorf("headers %q where none are set: the standard's variable would be ignored", got)
	}
}

func TestTracingProblems(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		text, environ, want string
	}{
		{text: "tracing: {endpoint: '127.0.0.1:4318'}", want: "tracing.endpoint: must be the URL"},
		{text: "tracing: {endpoint: 'https://u:hunter2@c'}", want: "tracing.endpoint: must have no user"},
		{text: "tracing: {sample_ratio: 1.5}", want: "between 0, no task, and 1"},
		{text: "tracing: {headers: hunter2}", want: "tracing.headers: must be name=value"},
		{text: "tracing: {headers: \"a=hunter2\\nb\"}", want: "tracing.headers: must be name=value"},
		{environ: "OTEL_EXPORTER_OTLP_ENDPOINT=collector:4318", want: "OTEL_EXPORTER_OTLP_ENDPOINT: must be the URL"},
		{text: "tracing: {sample_ratio: -0.1}", want: "between 0, no task, and 1"},
		{environ: "OTEL_TRACES_SAMPLER=jaeger_remote", want: "OTEL_TRACES_SAMPLER: must be always_on"},
	} {
		_, err := config.Load(write(t, c.text), append([]string{c.environ}, home...), providers())
		if err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s%s: %v, want %q and no secret", c.text, c.environ, err, c.want)
		}
	}
}

func TestTracingWarnings(t *testing.T) {
	t.Parallel()
	got := load(t, "", "OTEL_EXPORTER_OTLP_ENDPOINT=http://collector:4317", "OTEL_EXPORTER_OTLP_PROTOCOL=grpc").Warnings
	if len(got) != 2 || !strings.Contains(got[0], "not https") || !strings.Contains(got[1], "over HTTP") {
		t.Errorf("warnings %q, want one of the plain connection and one of grpc", got)
	}
}
