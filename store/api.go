package store

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// Calls of the API act as the role of the access key that signed them. Each call
// is one transaction: it uses the call's nonce, takes on the role, and acts with
// the role's rights. The pool's login is a front's, see scheduler.actor(), or
// the schema's owner where there is one login for all.

// Errors of calls to the API.
var (
	ErrNonceUsed   = errors.New("the nonce was used already")
	ErrNoPrivilege = errors.New("the role has not the right")
)

// A Nonce is a value that only one call may use.
type Nonce struct {
	Hash    [16]byte // of access key id and nonce
	Expires time.Time
}

// A Caller is the database role that calls, with the nonce of the call.
type Caller struct {
	Role  string
	Nonce Nonce
}

// as makes a batch with the statements with which every call begins. The batch
// is one transaction and one round trip. When the nonce was used, the
// statements that follow do not run.
func (c Caller) as() *pgx.Batch {
	b := &pgx.Batch{}
	b.Queue(`SELECT scheduler.use_nonce($1, $2)`, c.Nonce.Hash[:], c.Nonce.Expires)
	c.takeRole(b)
	return b
}

// takeRole has the rest of a batch run as the caller's role.
func (c Caller) takeRole(b *pgx.Batch) { b.Queue(takeRole, c.Role, true) }

// run sends a batch that as made, and reads its answers.
func (s *Store) run(ctx context.Context, b *pgx.Batch) error {
	return callError(s.db.SendBatch(ctx, b).Close())
}

// callError turns the database's errors that every call may meet into the
// errors of this package. It returns other errors as they are.
func callError(err error) error {
	switch {
	case err == nil:
		return nil
	case isNonceUsed(err):
		return ErrNonceUsed
	case IsDenied(err):
		return fmt.Errorf("%w: %w", ErrNoPrivilege, err)
	}
	return err
}

// isNonceUsed says whether err is use_nonce's refusal.
func isNonceUsed(err error) bool {
	pg, ok := errors.AsType[*pgconn.PgError](err)
	return ok && pg.Code == uniqueViolation && pg.TableName == "api_nonces"
}

// UseNonce uses the nonce of a call that stores nothing. The error may be
// ErrNonceUsed.
func (s *Store) UseNonce(ctx context.Context, n Nonce) error {
	_, err := s.db.Exec(ctx, `SELECT scheduler.use_nonce($1, $2)`, n.Hash[:], n.Expires)
	if err = callError(err); err != nil {
		return fmt.Errorf("use nonce: %w", err)
	}
	return nil
}

// PruneNonces deletes up to most nonces that have expired and says how many.
func (s *Store) PruneNonces(ctx context.Context, most int) (n int64, err error) {
	if err := s.db.QueryRow(ctx, `SELECT scheduler.prune_nonces($1)`, most).Scan(&n); err != nil {
		return 0, fmt.Errorf("prune nonces: %w", err)
	}
	return n, nil
}

// CheckRole says why the pool's login cannot act as a role, or nil.
func (s *Store) CheckRole(ctx context.Context, role string) error {
	var may *bool
	err := s.db.QueryRow(ctx, `SELECT pg_has_role(to_regrole(quote_ident($1)), 'MEMBER')`, role).Scan(&may)
	switch {
	case err != nil:
		return fmt.Errorf("look for the role %s: %w", role, err)
	case may == nil:
		return fmt.Errorf("there is no database role %s", role)
	case !*may:
		return fmt.Errorf("the login of the API is no member of the role %s", role)
	}
	return nil
}

// A NewCampaign is a campaign as a call to the API states it, with its targets.
// Empty texts and nil pointers mean the columns' defaults.
type NewCampaign struct {
	Name, AppID, WorkspaceID, Channel string
	StrategyType                      int16
	StrategyContent                   []byte // JSON; nil: none
	Request                           []byte // JSON
	TimeZone, MisfirePolicy           string
	ShortMonthPolicy, DSTGapPolicy    string
	Times                             []string // of day
	QuietPolicy                       string
	Calendar, CalendarPolicy          string
	CatchUpWindow                     *time.Duration
	Spread                            time.Duration // zero: none
	ResendUnknown                     *bool
	ClientToken                       string
	Digest                            []byte // of the call; with a ClientToken
	Targets                           []Target
}

// A CampaignRefusal is what the rules of scheduler.campaigns say against a row:
// every problem, as "column: rule; column: rule".
type CampaignRefusal struct{ Text string }

// Error is the text.
func (r CampaignRefusal) Error() string { return r.Text }

// StoreCampaign stores a campaign with its targets for a caller. The error may be
// ErrNonceUsed, ErrNoPrivilege, ErrTokenTaken or a CampaignRefusal. Then nothing is
// stored, and the nonce is not used. With judgeOnly nothing is stored at all, and
// nil means that the campaign could be stored.
func (s *Store) StoreCampaign(ctx context.Context, c Caller, n *NewCampaign, judgeOnly bool) (id int64, err error) {
	err = pgx.BeginFunc(ctx, s.db, func(tx pgx.Tx) error {
		b := c.as()
		if judgeOnly { // the nonce is used by the call that stores
			b = &pgx.Batch{}
			c.takeRole(b)
		}
		b.Queue(insertCampaignSQL, n.args()...).QueryRow(func(row pgx.Row) error { return row.Scan(&id) })
		if err := tx.SendBatch(ctx, b).Close(); err != nil {
			return err
		}
		if err := insertTargets(ctx, tx, id, n.Targets); err != nil {
			return err
		}
		if judgeOnly {
			return errJudged
		}
		return nil
	})
	switch {
	case errors.Is(err, errJudged):
		return 0, nil
	case err != nil:
		return 0, fmt.Errorf("insert campaign: %w", campaignError(callError(err)))
	}
	return id, nil
}

// errJudged rolls back rows that were written only to be judged.
var errJudged = errors.New("judged")

// insertTargets writes the targets in a statement of their own. The campaign then
// exists when the statement begins, so row-level security asks once whose the
// campaign is, and not for each row.
func insertTargets(ctx context.Context, tx pgx.Tx, id int64, list []Target) error {
	if len(list) == 0 {
		return nil
	}
	targets, keys := make([]string, len(list)), make([]string, len(list))
	values, extended := make([]*string, len(list)), make([]*string, len(list))
	for i, t := range list {
		targets[i], keys[i] = t.Target, t.MsgKey
		values[i], extended[i] = jsonText(t.TemplateKeyValue), jsonText(t.ExtendedParams)
	}
	_, err := tx.Exec(ctx, `
		INSERT INTO scheduler.campaign_targets (campaign_id, target, msg_key, template_key_value, extended_params)
		SELECT $1, u.target, nullif(u.msg_key, ''), u.key_value::jsonb, u.extended::jsonb
		  FROM unnest($2::text[], $3::text[], $4::text[], $5::text[]) AS u (target, msg_key, key_value, extended)`, id, targets, keys, values, extended)
	return err
}

// targetTwice is the rule that the key of campaign_targets enforces.
const targetTwice = "targets: must not name a target twice"

// ErrTokenTaken says that the app has a campaign with the client token.
var ErrTokenTaken = errors.New("the client token was used already")

func campaignError(err error) error {
	pg, ok := errors.AsType[*pgconn.PgError](err)
	switch {
	case !ok:
		return err
	case pg.Code == "23514": // check_violation
		return CampaignRefusal{pg.Message}
	case pg.Code == uniqueViolation && pg.TableName == "campaigns":
		return ErrTokenTaken
	case pg.Code == uniqueViolation && pg.TableName == "campaign_targets":
		return CampaignRefusal{targetTwice}
	case pg.Code[:2] == "22": // a value that its type cannot hold
		return CampaignRefusal{"request: " + pg.Message}
	}
	return err
}

const insertCampaignSQL = `
	INSERT INTO scheduler.campaigns (name, app_id, workspace_id, channel, strategy_type, strategy_content, request, time_zone, misfire_policy,
	       short_month_policy, dst_gap_policy, catch_up_window, resend_unknown, client_token, client_digest, times, quiet_policy, spread, calendar, calendar_policy)
	VALUES ($1, $2, $3, $4, $5, $6::jsonb, $7::jsonb, nullif($8, ''), nullif($9, ''), nullif($10, ''), nullif($11, ''),
	       $12::bigint * interval '1 second', $13, nullif($14, ''), $15, $16, nullif($17, ''), $18, nullif($19, ''), nullif($20, ''))
	RETURNING id`

func (n *NewCampaign) args() []any {
	var window *int64
	if n.CatchUpWindow != nil {
		seconds := int64(*n.CatchUpWindow / time.Second)
		window = &seconds
	}
	return []any{
		n.Name, n.AppID, n.WorkspaceID, n.Channel, n.StrategyType, jsonText(n.StrategyContent), jsonText(n.Request), n.TimeZone, n.MisfirePolicy,
		n.ShortMonthPolicy, n.DSTGapPolicy, window, n.ResendUnknown, n.ClientToken, n.Digest, n.Times, n.QuietPolicy, orNone(n.Spread), n.Calendar, n.CalendarPolicy,
	}
}

func jsonText(raw []byte) *string {
	if len(raw) == 0 {
		return nil
	}
	text := string(raw)
	return &text
}

// callerOwns is the condition that a campaign c is the caller's, by the role that
// wrote it, through the API or by SQL. Row-level security alone would show one role
// the campaigns of another role with the same app.
const callerOwns = `(CASE WHEN c.created_via LIKE 'role %' THEN substr(c.created_via, 6) ELSE c.created_by END) = scheduler.acting_role()::text`

// CampaignOfToken returns the caller's campaign with a client token, and whether
// the call that stored it had the digest. The error may be ErrNoCampaign: another
// role's campaign has the token, or the campaign is gone.
func (s *Store) CampaignOfToken(ctx context.Context, c Caller, appID, workspaceID, token string, digest []byte) (id int64, same bool, err error) {
	b := c.as()
	b.Queue(`SELECT c.id, c.client_digest IS NOT DISTINCT FROM $4 FROM scheduler.campaigns c
		WHERE c.app_id = $1 AND c.workspace_id = $2 AND c.client_token = $3 AND `+callerOwns, appID, workspaceID, token, digest).QueryRow(func(row pgx.Row) error { return row.Scan(&id, &same) })
	err = s.run(ctx, b)
	if errors.Is(err, pgx.ErrNoRows) {
		err = ErrNoCampaign
	}
	if err != nil {
		return 0, false, fmt.Errorf("look for a client token: %w", err)
	}
	return id, same, nil
}

// An OccurrenceFilter chooses occurrences of the caller's scheduled campaigns.
type OccurrenceFilter struct {
	AppID, WorkspaceID string
	Since, Until       time.Time // of the occurrence, both included
	Channel            string    // empty: any
	CampaignID         int64     // 0: any
	DueAt              time.Time // of one occurrence; zero: any
	Limit, Offset      int
}

// An Occurrence is one push of a scheduled campaign, done or to come.
type Occurrence struct {
	CampaignID   int64
	StrategyType int16
	DueAt        time.Time
	Channel      string
	Name         string
	Title        string // of a simple push
	Content      string
	DeliveryType string
	Executed     bool // its push has begun or is decided
	CreatedAt    time.Time
}

// Occurrences lists the caller's occurrences, earliest first, and counts all
// that the filter chooses. It includes occurrences beyond the pending limit,
// and leaves out cancelled ones. The error may be ErrNonceUsed.
func (s *Store) Occurrences(ctx context.Context, c Caller, f OccurrenceFilter) (list []Occurrence, total int64, err error) {
	b := c.as()
	query := b.Queue(occurrenceListSQL, f.AppID, f.WorkspaceID, f.Since, f.Until, f.Channel, f.CampaignID, at(f.DueAt), f.Limit, f.Offset)
	query.Query(func(rows pgx.Rows) error {
		var o Occurrence
		columns := []any{
			&o.CampaignID, &o.StrategyType, &o.DueAt, &o.Channel, &o.Name, &o.Title, &o.Content, &o.DeliveryType, &o.Executed, &o.CreatedAt, &total,
		}
		_, err := pgx.ForEachRow(rows, columns, func() error {
			if o.CampaignID != 0 {
				list = append(list, o)
			}
			return nil
		})
		return err
	})
	if err := s.run(ctx, b); err != nil {
		return nil, 0, fmt.Errorf("list occurrences: %w", err)
	}
	return list, total, nil
}

// Occurrences that are tasks are listed as tasks, even where the strategy has
// changed since. The others are worked out from the strategy, as far as they may
// still be pushed. All are worked out once for all campaigns, and only the
// campaigns of the page are read again. The query's plan does not know how many
// campaigns there are, so it must not work anything out for each one. The total
// is returned even without a row, so a page after the last one has it.
const occurrenceListSQL = `
	WITH version AS MATERIALIZED (
		SELECT c.id AS campaign_id, c.status, c.strategy_type, c.strategy_content AS content, c.time_zone AS zone, c.short_month_policy, c.dst_gap_policy, c.times, c.written_at,
		       c.calendar_policy, c.calendar_closed, c.calendar_since,
		       ($3::timestamptz AT TIME ZONE 'UTC')::date - 2 AS first_day, ($4::timestamptz AT TIME ZONE 'UTC')::date + 2 AS last_day
		  FROM scheduler.campaigns c
		 WHERE c.app_id = $1 AND c.workspace_id = $2 AND c.strategy_type <> 0 AND ($5 = '' OR c.channel = $5) AND ($6 = 0 OR c.id = $6)
		   AND ` + callerOwns + `
	), listed AS MATERIALIZED (
		SELECT u.campaign_id, u.due_at, bool_or(u.executed) AS executed
		  FROM (SELECT v.campaign_id, t.due_at, t.status <> 'pending' AS executed, t.status = 'cancelled' AS cancelled
		          FROM version v
		         CROSS JOIN LATERAL (SELECT x.due_at, x.status FROM scheduler.tasks x
		                              WHERE x.campaign_id = v.campaign_id AND x.due_at BETWEEN $3 AND $4 AND x.origin = 'scheduled' OFFSET 0) t
		        UNION ALL
		        SELECT o.campaign_id, o.due_at, false, false FROM (` + occurrencesSQL + `) o
		         WHERE o.status IN ('active', 'paused') AND o.due_at BETWEEN $3 AND $4) u
		 WHERE $7::timestamptz IS NULL OR u.due_at = $7
		 GROUP BY u.campaign_id, u.due_at HAVING NOT bool_or(u.cancelled)
	), page AS (
		SELECT * FROM listed ORDER BY due_at, campaign_id LIMIT $8 OFFSET $9
	)
	SELECT coalesce(c.id, 0), coalesce(c.strategy_type, 0), coalesce(p.due_at, $3), coalesce(c.channel, ''), coalesce(c.name, ''),
	       coalesce(c.request ->> 'title', ''), coalesce(c.request ->> 'content', ''), coalesce(c.request ->> 'deliveryType', ''),
	       coalesce(p.executed, false), coalesce(c.created_at, $3), n.total
	  FROM (SELECT count(*) AS total FROM listed) n
	  LEFT JOIN (page p JOIN scheduler.campaigns c ON c.id = p.campaign_id) ON true
	 ORDER BY p.due_at, c.id`

// A Cancelled is what a call cancels: a campaign, or one of its occurrences.
type Cancelled struct {
	CampaignID int64
	DueAt      time.Time // zero: the campaign, with all its coming occurrences
}

// Cancel cancels everything in what, or nothing. Where it cancels nothing,
// problems holds the problem of each element, "" where it has none. An element
// that is cancelled already counts as done. The error may be ErrNonceUsed.
func (s *Store) Cancel(ctx context.Context, c Caller, appID, workspaceID, channel string, what []Cancelled, note string) (problems []string, err error) {
	problems = make([]string, len(what))
	bad := false
	err = pgx.BeginFunc(ctx, s.db, func(tx pgx.Tx) error {
		if err := tx.SendBatch(ctx, c.as()).Close(); err != nil {
			return err
		}
		for i, w := range what {
			problem, err := cancel(ctx, tx, appID, workspaceID, channel, w, note)
			if err != nil {
				return err
			}
			problems[i], bad = problem, bad || problem != ""
		}
		if bad {
			return errNothingCancelled
		}
		return nil
	})
	if errors.Is(err, errNothingCancelled) {
		return problems, nil
	}
	if err = callError(err); err != nil {
		return nil, fmt.Errorf("cancel: %w", err)
	}
	return nil, nil
}

var errNothingCancelled = errors.New("nothing is cancelled")

func cancel(ctx context.Context, tx pgx.Tx, appID, workspaceID, channel string, w Cancelled, note string) (problem string, err error) {
	var status string
	var strategyType int16
	err = tx.QueryRow(ctx, `
		SELECT c.status, c.strategy_type FROM scheduler.campaigns c
		 WHERE c.id = $1 AND c.app_id = $2 AND c.workspace_id = $3 AND ($4 = '' OR c.channel = $4) AND `+callerOwns,
		w.CampaignID, appID, workspaceID, channel).Scan(&status, &strategyType)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return "is no scheduled task of this app", nil
	case err != nil:
		return "", err
	case status == "cancelled":
		return "", nil
	case status == "finished" || status == "rejected":
		return "is " + status + ": nothing of it is to come", nil
	case w.DueAt.IsZero():
		_, err = tx.Exec(ctx, `UPDATE scheduler.campaigns SET status = 'cancelled' WHERE id = $1`, w.CampaignID)
		return "", err
	}
	var changed bool
	err = pgx.BeginFunc(ctx, tx, func(inner pgx.Tx) error { // a savepoint: the other ids are still to be judged
		return inner.QueryRow(ctx, `SELECT scheduler.skip_occurrence($1, $2, $3)`, w.CampaignID, w.DueAt, note).Scan(&changed)
	})
	if r, ok := errors.AsType[Refusal](refusal(err, ErrNoCampaign)); ok {
		return r.Message, nil
	}
	return "", err
}

// PrepareTrial makes a role that may use every app, for a database of one's own
// whose login may make roles.
func (s *Store) PrepareTrial(ctx context.Context, role string) error {
	err := pgx.BeginFunc(ctx, s.db, func(tx pgx.Tx) error {
		name := pgx.Identifier{role}.Sanitize()
		var there bool
		if err := tx.QueryRow(ctx, `SELECT EXISTS (SELECT FROM pg_roles WHERE rolname = $1)`, role).Scan(&there); err != nil {
			return err
		}
		if !there {
			if _, err := tx.Exec(ctx, `CREATE ROLE `+name+` NOLOGIN IN ROLE scheduler_author`); err != nil {
				return err
			}
		}
		_, err := tx.Exec(ctx, `SELECT scheduler.grant_app(app_id, workspace_id, $1) FROM scheduler.apps`, role)
		return err
	})
	if err != nil {
		return fmt.Errorf("prepare a trial of the api: %w", err)
	}
	return nil
}

// Revoke asks for messages of the caller's campaign to be taken back: of one
// occurrence where w.DueAt is not zero, and to one target where target is not
// empty. It returns how many tasks are concerned. The results are in
// scheduler.revocation_calls. The error may be ErrNonceUsed, or ErrNoCampaign.
func (s *Store) Revoke(ctx context.Context, c Caller, appID, workspaceID string, w Cancelled, target, note string) (tasks int64, err error) {
	err = pgx.BeginFunc(ctx, s.db, func(tx pgx.Tx) error {
		if err := tx.SendBatch(ctx, c.as()).Close(); err != nil {
			return err
		}
		rows, _ := tx.Query(ctx, `
			SELECT t.id FROM scheduler.campaigns c JOIN scheduler.tasks t ON t.campaign_id = c.id
			 WHERE c.id = $1 AND c.app_id = $2 AND c.workspace_id = $3 AND ($4::timestamptz IS NULL OR t.due_at = $4) AND `+callerOwns+`
			   AND t.status IN ('running', 'succeeded', 'failed', 'unknown', 'cancelled', 'missed') AND t.attempts > 0
			 ORDER BY t.id DESC LIMIT 1000`, w.CampaignID, appID, workspaceID, at(w.DueAt))
		ids, err := pgx.CollectRows(rows, pgx.RowTo[int64])
		if err != nil {
			return err
		}
		if len(ids) == 0 {
			return ErrNoCampaign
		}
		for _, id := range ids {
			err := pgx.BeginFunc(ctx, tx, func(inner pgx.Tx) error {
				_, err := inner.Exec(ctx, `SELECT scheduler.revoke_task($1, $2, $3)`, id, note, target)
				return err
			})
			if _, refused := errors.AsType[Refusal](refusal(err, ErrNoTask)); refused {
				continue // the provider accepted no message of this task
			} else if err != nil {
				return err
			}
			tasks++
		}
		return nil
	})
	if err = callError(err); err != nil {
		return 0, fmt.Errorf("revoke: %w", err)
	}
	return tasks, nil
}
