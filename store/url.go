package store

import (
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// URLProblem returns what is wrong with a connection string, without any part of
// it that may be secret. Empty: nothing can be seen before pgx reads the string.
// A text that is no PostgreSQL connection string must connect nowhere: pgx would
// read jdbc:… as keywords, and go to the default server.
func URLProblem(text string) string {
	if strings.TrimSpace(text) != text {
		return "there is a space or a line end before or after it"
	}
	scheme, rest, isURL := strings.Cut(text, "://")
	switch {
	case isURL && !strings.ContainsAny(scheme, "= '") && (scheme == "postgres" || scheme == "postgresql"):
		return authorityProblem(rest)
	case isURL && !strings.ContainsAny(scheme, "= '"):
		return fmt.Sprintf("it begins with %q; it must begin with postgres://", scheme+"://")
	case text != "" && !strings.Contains(text, "="):
		return "it is neither a URL, postgres://…, nor of the form host=… dbname=…"
	}
	keyword, _, _ := strings.Cut(text, "=")
	if strings.Trim(strings.TrimSpace(keyword), "abcdefghijklmnopqrstuvwxyz_") != "" {
		return "it is neither a URL, postgres://…, nor of the form host=… dbname=…"
	}
	return ""
}

const encodeIt = "in a user name or password, percent-encode what is neither a letter nor a digit: %2F for /, %40 for @, %3A for :, %23 for #, %3F for ?, %25 for %, %20 for a space"

// authorityProblem looks for characters that end a user name or password too
// early.
func authorityProblem(rest string) string {
	at := strings.LastIndex(rest, "@")
	if question := strings.Index(rest, "?"); question >= 0 && question < at && !strings.ContainsAny(rest[question:at], "=") {
		return "a ? stands before the @; " + encodeIt
	} else if question >= 0 && question < at {
		at = strings.LastIndex(rest[:question], "@") // one of the parameters has the @
	}
	if at < 0 {
		return ""
	}
	switch who := rest[:at]; {
	case strings.ContainsAny(who, "/@# \t\\\"<>^`{|}"):
		return "the part before the @ has a character that must not stand there; " + encodeIt
	case strings.Count(who, ":") > 1:
		return "the part before the @ has more than one colon; " + encodeIt
	default:
		if _, err := url.PathUnescape(who); err != nil {
			return "the part before the @ has a % that begins no code; " + encodeIt
		}
	}
	return ""
}

// parseURL reads a connection string, also one with a pool's parameters. Its
// errors hold no part of the string that may be secret.
func parseURL(text string) (*pgxpool.Config, error) {
	if problem := URLProblem(text); problem != "" {
		return nil, errors.New(notOne + problem)
	}
	config, err := pgxpool.ParseConfig(text)
	if err != nil {
		return nil, unreadable(text, err)
	}
	if problem := partsProblem(config.ConnConfig); problem != "" {
		return nil, errors.New(notOne + problem)
	}
	return config, nil
}

const notOne = "read database URL: not a PostgreSQL connection string: "

// partsProblem looks for a whole connection string of another program in the place
// of a part. pgx would send such a part to a server, and show it.
func partsProblem(c *pgx.ConnConfig) string {
	hosts := []string{c.Host}
	for _, f := range c.Fallbacks {
		hosts = append(hosts, f.Host)
	}
	for _, host := range hosts {
		if !strings.HasPrefix(host, "/") && !strings.HasPrefix(host, "@") && strings.ContainsAny(host, ";=/@?#&<>\"'\\ \t\r\n") {
			return "the host has a character that no host has; parts are separated by spaces: host=… dbname=… password=…"
		}
	}
	if strings.Contains(c.Database, "://") || strings.Contains(c.Database, "password=") {
		return "the name of the database is a connection string itself; give that one alone"
	}
	return ""
}

// unreadable returns in words what pgx found wrong with a connection string.
// The error of pgx quotes parts of the string.
func unreadable(text string, err error) error {
	said := err.Error()
	said = said[strings.LastIndex(said, "`: ")+1:] // after the connection string, which may contain any of the words below
	for _, p := range []struct{ sign, means string }{
		{"extra key/value separator", "a parameter's value has a = in it: write %3D"},
		{"sslmode", "sslmode must be disable, allow, prefer, require, verify-ca or verify-full"},
		{"port", "the port must be a number from 1 to 65535; and " + encodeIt},
		{"target_session_attrs", "target_session_attrs must be any, read-write, read-only, primary, standby or prefer-standby"},
		{"connect_timeout", "connect_timeout must be a number of seconds"},
		{"channel_binding", "channel_binding must be disable, prefer or require"},
		{"CA file", "the file of sslrootcert cannot be read"},
		{"CA cert", "the file of sslrootcert holds no certificate"},
		{"sslcertmode", "sslcertmode must be disable, allow or require"},
		{"sslkey", "sslcert and sslkey must both be given, and their files be readable"},
		{"cert", "the file of sslcert cannot be read"},
		{"service", "the service is not in the service file"},
		{"protocol_version", "min_protocol_version and max_protocol_version must be 3.0, 3.2 or latest"},
		{"pool_", "pool_max_conns and its like must be numbers"},
	} {
		if strings.Contains(said, p.sign) {
			return errors.New(notOne + p.means)
		}
	}
	if !strings.Contains(text, "://") {
		return errors.New(notOne + `a part of it cannot be read; a value with a space or a quote stands in single quotes, with a \ before a quote or \ in it`)
	}
	return errors.New(notOne + "a part of it cannot be read; " + encodeIt)
}

// number reads the digits with which a text begins; 0: it begins with none.
func number(text string) int {
	n, _ := strconv.Atoi(text[:len(text)-len(strings.TrimLeft(text, "0123456789"))])
	return n
}
