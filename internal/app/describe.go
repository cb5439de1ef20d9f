package app

import (
	"fmt"
	"io"

	"github.com/campaign-scheduler/scheduler/internal/sandbox"
)

// Describe tells a person at the terminal what runs where and, with the
// sandbox, how to insert a first campaign.
func (a *App) Describe(w io.Writer) {
	fmt.Fprintf(w, "\nscheduler %s is running.\n", a.Version)
	if a.postgres != nil {
		fmt.Fprintf(w, "  database  PostgreSQL %d in %s\n", a.postgres.current().Version(), a.Config.DataDir)
	}
	if a.sandbox != nil {
		fmt.Fprintf(w, "  sandbox   %s, journal %s\n", a.sandbox.URL(), a.Config.Sandbox.Journal)
	}
	fmt.Fprintf(w, "  admin     http://%s/healthz /readyz /metrics\n", a.admin.Addr())
	if a.console != nil {
		fmt.Fprintf(w, "  console   %s\n", a.console.URL())
	}
	if a.api != nil {
		fmt.Fprintf(w, "  mPaaS API %s\n", a.api.URL())
	}
	if a.console != nil && a.postgres != nil {
		fmt.Fprintf(w, "\nSign in to the console, once, within 15 minutes:\n  %s\n", a.console.Link())
	}
	if a.postgres != nil {
		fmt.Fprintf(w, "\nOpen the database:\n  %s\n", a.postgres.current().PSQL())
	}
	if a.sandbox != nil {
		fmt.Fprintf(w, "\nA first campaign, 20 seconds ahead:\n%s\n", firstCampaign)
	}
	a.describeAPI(w)
	fmt.Fprint(w, "\nCtrl-C stops everything.\n\n")
}

// firstCampaign is ready to paste into psql.
const firstCampaign = `  INSERT INTO scheduler.campaigns (name, app_id, workspace_id, channel, strategy_type, strategy_content, request)
  VALUES ('hello', '` + sandbox.DefaultMPaaSApp + `', '` + sandbox.DefaultWorkspace + `', 'mpaas.push_multiple', 1,
    jsonb_build_object('fixedTime', scheduler.unix_ms(now() + interval '20 seconds')),
    '{"deliveryType": 3, "expiredSeconds": 600, "templateName": "welcome",
      "targetMsgs": [{"target": "user-1", "templateKeyValue": {"name": "Li Lei"}}]}');
  SELECT due_at, status, lateness, reason FROM scheduler.tasks ORDER BY due_at;`
