package doctor_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/campaign-scheduler/scheduler/internal/config"
	"github.com/campaign-scheduler/scheduler/internal/doctor"
	"github.com/campaign-scheduler/scheduler/internal/openid/issuertest"
	"github.com/campaign-scheduler/scheduler/internal/pgtest"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

// The way into the console through others: the provider, the login that acts for
// people, and each role.
func TestExamineConsole(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	exec := func(sql string) {
		t.Helper()
		if _, err := db.Exec(context.WithoutCancel(t.Context()), sql); err != nil {
			t.Fatalf("%s: %v", sql, err)
		}
	}
	author, idle, foreign := db.Role(t, "author", `IN ROLE scheduler_author`), db.Role(t, "idle", ""), db.Role(t, "foreign", `IN ROLE scheduler_author`)
	desk := db.Role(t, "desk", `LOGIN PASSWORD 'secret' NOINHERIT IN ROLE scheduler_front, `+author+`, `+idle)
	base := strings.TrimSuffix(desk, "_desk")
	issuer := issuertest.New(t, false)
	cfg := config.Default()
	cfg.Console.SignIn = config.SignInOIDC
	cfg.Console.DatabaseURL = config.Secret(db.URLAs(t, desk, "secret"))
	cfg.Console.OIDC.Issuer, cfg.Console.OIDC.ClientID, cfg.Console.OIDC.ClientSecret = issuer.URL, issuertest.Client, issuertest.Secret
	for _, role := range []string{author, author, idle, foreign, "absent"} {
		cfg.Console.Roles = append(cfg.Console.Roles, config.RoleRule{Claim: "groups", Value: fmt.Sprint(len(cfg.Console.Roles)), Role: role})
	}
	examine := func() (lines []string) {
		for _, c := range doctor.Examine(t.Context(), doctor.Options{Config: &cfg, Now: time.Now}) {
			if strings.HasPrefix(c.Name, "console") {
				lines = append(lines, fmt.Sprintf("%s %s: %s", c.Grade, strings.ReplaceAll(c.Name, base, "db"), strings.ReplaceAll(strings.ReplaceAll(c.Found, issuer.URL, "issuer"), base, "db")))
				if c.Grade == doctor.Wrong && c.ToDo == "" || strings.Contains(fmt.Sprint(c), "secret ") {
					t.Errorf("%+v", c)
				}
			}
		}
		return lines
	}
	want := []string{
		"ok console sign-in: issuer describes itself, and its keys can be read",
		"ok console: its login may act for people, and is nobody's otherwise",
		"ok console role db_author: the console's login may act for it, and audits name it",
		"wrong console role db_idle: it has no rights in the scheduler",
		"wrong console role db_foreign: the console's login cannot take it on",
		"wrong console role absent: the console's login cannot take it on",
	}
	if diff := cmp.Diff(want, examine()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}

	issuer.Down(true)
	exec(fmt.Sprintf(`REVOKE scheduler_front FROM %s`, desk))
	got := examine()
	if len(got) != 2 || !strings.Contains(got[0], "wrong console sign-in: issuer: the identity provider does not answer as one: 503") ||
		!strings.Contains(got[1], "wrong console: the login db_desk is no member of scheduler_front") {
		t.Errorf("with an issuer that is down and no front: %q", got)
	}
	cfg.Console.SignIn = config.SignInProxy
	if got := examine(); len(got) != 1 {
		t.Errorf("with a proxy: %q", got)
	}
	cfg.Console.SignIn = config.SignInLogin
	if got := examine(); len(got) != 0 {
		t.Errorf("with people's own logins: %q", got)
	}
}
