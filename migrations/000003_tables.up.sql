-- The tables authors and operators see, and those the engine keeps its state in.
--
-- A task lives in exactly one place at a time:
--   pending_tasks  until its push begins; the row is the right to begin it, so
--                  whoever deletes the row decides what becomes of the task
--   claims         begun, one call, outcome not yet recorded (many tasks a row)
--   running_tasks  begun, several calls or several tries; its calls are slices
--   decided_tasks  how it ended; append-only
-- The views in 000005 show them as one: scheduler.tasks, scheduler.deliveries.

CREATE TYPE scheduler.task_origin AS ENUM ('scheduled', 'immediate', 'triggered');
COMMENT ON TYPE scheduler.task_origin IS
  'Where a task comes from: a fixed or loop strategy, an immediate campaign (strategy_type 0), or an operator''s trigger. Only scheduled tasks count against the pending limit.';

CREATE TYPE scheduler.decision AS ENUM ('succeeded', 'failed', 'missed', 'cancelled', 'unknown');
COMMENT ON TYPE scheduler.decision IS 'How a task ended.';

CREATE TYPE scheduler.slice_status AS ENUM ('waiting', 'held', 'running', 'accepted', 'failed', 'unknown', 'cancelled', 'missed');
COMMENT ON TYPE scheduler.slice_status IS
  'A stored delivery: waiting for its (next) attempt, held while its campaign is paused, running, or ended.';

------------------------------------------------------------------------ channels

CREATE TABLE scheduler.channels (
  channel      text PRIMARY KEY,
  channel_no   smallint GENERATED ALWAYS AS IDENTITY UNIQUE,
  provider     text NOT NULL CHECK (provider <> ''),
  max_targets  integer NOT NULL CHECK (max_targets >= 0),
  weekly_quota integer NOT NULL DEFAULT 0 CHECK (weekly_quota >= 0),
  CHECK (channel = provider OR channel LIKE provider || '.%')
);
COMMENT ON TABLE scheduler.channels IS 'The push APIs a campaign may name. The daemon upserts those of its adapters at start.';
COMMENT ON COLUMN scheduler.channels.channel IS 'The name, for example mpaas.push_multiple.';
COMMENT ON COLUMN scheduler.channels.channel_no IS 'Short key used by the record of decisions.';
COMMENT ON COLUMN scheduler.channels.provider IS 'The provider an app must have to use this channel.';
COMMENT ON COLUMN scheduler.channels.max_targets IS 'Targets one call may carry; 0: the call takes none.';
COMMENT ON COLUMN scheduler.channels.weekly_quota IS 'Calls per app in any rolling 7 x 24 h; 0: no quota. An app may have its own in app_quotas.';

INSERT INTO scheduler.channels (channel, provider, max_targets, weekly_quota) VALUES
  ('mpaas.push_simple', 'mpaas', 10, 0), ('mpaas.push_template', 'mpaas', 10, 0),
  ('mpaas.push_multiple', 'mpaas', 100, 0), ('mpaas.push_broadcast', 'mpaas', 0, 0),
  ('alipay.label_send', 'alipay', 0, 5), ('alipay.total_send', 'alipay', 0, 5),
  ('alipay.group_send', 'alipay', 0, 5), ('alipay.single_send', 'alipay', 1, 0),
  ('webhook', 'webhook', 100, 0);

---------------------------------------------------------------------------- apps

CREATE TABLE scheduler.apps (
  app_id        text NOT NULL CHECK (app_id <> ''),
  workspace_id  text NOT NULL DEFAULT '',
  app_no        integer GENERATED ALWAYS AS IDENTITY UNIQUE,
  provider      text NOT NULL CHECK (provider <> ''),
  pending_limit integer NOT NULL DEFAULT 100 CHECK (pending_limit BETWEEN 1 AND 1000000),
  time_zone     text NOT NULL DEFAULT 'Asia/Shanghai',
  created_at    timestamptz NOT NULL DEFAULT now(),
  updated_at    timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (app_id, workspace_id)
);
COMMENT ON TABLE scheduler.apps IS 'Who pushes. The daemon upserts the apps of its configuration at start; credentials never come here.';
COMMENT ON COLUMN scheduler.apps.app_id IS 'The provider''s application id.';
COMMENT ON COLUMN scheduler.apps.workspace_id IS 'The mPaaS workspace; empty for providers without one.';
COMMENT ON COLUMN scheduler.apps.app_no IS 'Short key used by the engine''s tables.';
COMMENT ON COLUMN scheduler.apps.provider IS 'mpaas, alipay or webhook: which channels the app''s campaigns may name.';
COMMENT ON COLUMN scheduler.apps.pending_limit IS 'At most this many scheduled tasks of the app are pending at any moment.';
COMMENT ON COLUMN scheduler.apps.time_zone IS 'IANA zone of campaigns that name none.';
COMMENT ON COLUMN scheduler.apps.created_at IS 'When the row was written.';
COMMENT ON COLUMN scheduler.apps.updated_at IS 'When the row was last changed.';

CREATE TABLE scheduler.app_quotas (
  app_no       integer NOT NULL REFERENCES scheduler.apps (app_no) ON DELETE CASCADE,
  channel      text NOT NULL REFERENCES scheduler.channels (channel),
  weekly_quota integer NOT NULL CHECK (weekly_quota >= 0),
  PRIMARY KEY (app_no, channel)
);
COMMENT ON TABLE scheduler.app_quotas IS 'Quotas that differ from the channel''s own, from the daemon''s configuration or an admin.';
COMMENT ON COLUMN scheduler.app_quotas.app_no IS 'The app.';
COMMENT ON COLUMN scheduler.app_quotas.channel IS 'The channel.';
COMMENT ON COLUMN scheduler.app_quotas.weekly_quota IS 'Calls in any rolling 7 x 24 h; 0: no quota.';

CREATE TABLE scheduler.quota_uses (
  id       bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  app_no   integer NOT NULL,
  channel  text NOT NULL,
  slice_id bigint,
  used_at  timestamptz NOT NULL,
  weekly_quota integer NOT NULL CHECK (weekly_quota > 0)
);
CREATE INDEX quota_uses_window ON scheduler.quota_uses (app_no, channel, used_at);
CREATE INDEX quota_uses_slice ON scheduler.quota_uses (slice_id);
COMMENT ON TABLE scheduler.quota_uses IS 'The ledger of calls that count against a quota: written before the call, kept when it was accepted or its outcome is unknown, removed when it was certainly not sent.';
COMMENT ON COLUMN scheduler.quota_uses.id IS 'Key.';
COMMENT ON COLUMN scheduler.quota_uses.app_no IS 'The app.';
COMMENT ON COLUMN scheduler.quota_uses.channel IS 'The channel.';
COMMENT ON COLUMN scheduler.quota_uses.slice_id IS 'The delivery that used it.';
COMMENT ON COLUMN scheduler.quota_uses.used_at IS 'When: reserved at the start of the call, moved to its end, so that a window counted from it covers the call''s arrival.';
COMMENT ON COLUMN scheduler.quota_uses.weekly_quota IS 'The quota it was booked under: scheduler verify judges by it, since the quota may have changed.';

----------------------------------------------------------------------- campaigns

CREATE TABLE scheduler.campaigns (
  id                 bigint GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY,
  name               text NOT NULL,
  app_id             text NOT NULL,
  workspace_id       text NOT NULL DEFAULT '',
  channel            text NOT NULL REFERENCES scheduler.channels (channel),
  strategy_type      smallint NOT NULL DEFAULT 0 CHECK (strategy_type IN (0, 1, 2)),
  strategy_content   jsonb CHECK (strategy_type = 0 OR jsonb_typeof(strategy_content) = 'object'),
  request            jsonb NOT NULL DEFAULT '{}' CHECK (jsonb_typeof(request) = 'object'),
  audience_view      text,
  time_zone          text NOT NULL,
  misfire_policy     text NOT NULL DEFAULT 'latest' CHECK (misfire_policy IN ('latest', 'all', 'skip')),
  catch_up_window    interval NOT NULL DEFAULT '1 hour' CHECK (catch_up_window > interval '0'),
  short_month_policy text NOT NULL DEFAULT 'skip' CHECK (short_month_policy IN ('skip', 'last_day')),
  dst_gap_policy     text NOT NULL DEFAULT 'shift' CHECK (dst_gap_policy IN ('shift', 'skip')),
  resend_unknown     boolean NOT NULL DEFAULT false,
  status             text NOT NULL DEFAULT 'active' CHECK (status IN ('active', 'paused', 'cancelled', 'finished', 'rejected')),
  status_reason      text CHECK (status <> 'rejected' OR status_reason IS NOT NULL),
  revision           integer NOT NULL DEFAULT 1 CHECK (revision > 0),
  app_no             integer NOT NULL,
  written_at         timestamptz NOT NULL,
  created_by         text NOT NULL,
  updated_by         text NOT NULL,
  created_at         timestamptz NOT NULL,
  updated_at         timestamptz NOT NULL,
  FOREIGN KEY (app_id, workspace_id) REFERENCES scheduler.apps (app_id, workspace_id)
);
CREATE INDEX campaigns_app ON scheduler.campaigns (app_no, id);
COMMENT ON TABLE scheduler.campaigns IS 'What to push, to whom and when. Insert rows here; a bad row is refused with SQLSTATE 23514, every problem at once.';
COMMENT ON COLUMN scheduler.campaigns.id IS 'Key.';
COMMENT ON COLUMN scheduler.campaigns.name IS 'The push API''s taskName.';
COMMENT ON COLUMN scheduler.campaigns.app_id IS 'The app that pushes; it must be in scheduler.apps.';
COMMENT ON COLUMN scheduler.campaigns.workspace_id IS 'The app''s workspace; empty where there is none.';
COMMENT ON COLUMN scheduler.campaigns.channel IS 'The push API: mpaas.push_simple, mpaas.push_template, mpaas.push_multiple, mpaas.push_broadcast, alipay.label_send, alipay.total_send, alipay.group_send, alipay.single_send or webhook.';
COMMENT ON COLUMN scheduler.campaigns.strategy_type IS '0 now, 1 fixed time, 2 loop.';
COMMENT ON COLUMN scheduler.campaigns.strategy_content IS 'mPaaS StrategyContent: {"fixedTime": ms} or {"startTime": ms, "endTime": ms, "circleType": 1 daily, 2 weekly, 3 monthly, "circleValue": [...], "time": "HH:mm:ss"}. The JSON-in-a-string form is stored as the object.';
COMMENT ON COLUMN scheduler.campaigns.request IS 'The push API''s own parameters by their documented names, without those that come from columns. Judged by the daemon when it first sees the row.';
COMMENT ON COLUMN scheduler.campaigns.audience_view IS 'A view in schema audience (columns target, template_key_value, extended_params) that is read at each occurrence instead of campaign_targets.';
COMMENT ON COLUMN scheduler.campaigns.time_zone IS 'IANA zone of the strategy; NULL in an INSERT means the app''s.';
COMMENT ON COLUMN scheduler.campaigns.misfire_policy IS 'Which of several missed occurrences still inside the catch-up window are pushed: latest, all or skip (none).';
COMMENT ON COLUMN scheduler.campaigns.catch_up_window IS 'How late an occurrence may still be pushed; older ones become missed.';
COMMENT ON COLUMN scheduler.campaigns.short_month_policy IS 'Day 29, 30 or 31 in a month without it: skip, or last_day.';
COMMENT ON COLUMN scheduler.campaigns.dst_gap_policy IS 'A local time that does not exist: shift forward by the gap, or skip.';
COMMENT ON COLUMN scheduler.campaigns.resend_unknown IS 'true: a push whose outcome is unknown is sent again with the same keys, and may arrive twice. false: an operator rules.';
COMMENT ON COLUMN scheduler.campaigns.status IS 'active, paused or cancelled (yours to set); finished or rejected (the daemon''s).';
COMMENT ON COLUMN scheduler.campaigns.status_reason IS 'Why the campaign was rejected, every problem at once.';
COMMENT ON COLUMN scheduler.campaigns.revision IS 'Raised by every change an author makes.';
COMMENT ON COLUMN scheduler.campaigns.app_no IS 'The app''s short key; kept by a trigger.';
COMMENT ON COLUMN scheduler.campaigns.written_at IS 'When the strategy was written: today in its date rules, and the moment its occurrences begin.';
COMMENT ON COLUMN scheduler.campaigns.created_by IS 'The database role that inserted the row.';
COMMENT ON COLUMN scheduler.campaigns.updated_by IS 'The database role that last changed it.';
COMMENT ON COLUMN scheduler.campaigns.created_at IS 'When the row was inserted.';
COMMENT ON COLUMN scheduler.campaigns.updated_at IS 'When it was last changed.';

CREATE TABLE scheduler.campaign_targets (
  campaign_id        bigint NOT NULL REFERENCES scheduler.campaigns (id) ON DELETE CASCADE,
  target             text NOT NULL CHECK (target <> ''),
  msg_key            text CHECK (msg_key <> ''),
  template_key_value jsonb CHECK (jsonb_typeof(template_key_value) = 'object'),
  extended_params    jsonb CHECK (jsonb_typeof(extended_params) = 'object'),
  PRIMARY KEY (campaign_id, target)
);
COMMENT ON TABLE scheduler.campaign_targets IS 'Who receives a campaign, one row a target, any number of rows. Read when an occurrence is pushed.';
COMMENT ON COLUMN scheduler.campaign_targets.campaign_id IS 'The campaign.';
COMMENT ON COLUMN scheduler.campaign_targets.target IS 'Device, user or token, as the channel''s deliveryType says.';
COMMENT ON COLUMN scheduler.campaign_targets.msg_key IS 'The author''s own message key; campaign and occurrence are appended to it. NULL: the daemon derives one.';
COMMENT ON COLUMN scheduler.campaign_targets.template_key_value IS 'Values of the template''s placeholders for this target.';
COMMENT ON COLUMN scheduler.campaign_targets.extended_params IS 'Extended parameters for this target.';

CREATE TABLE scheduler.campaign_history (
  id             bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  campaign_id    bigint NOT NULL,
  app_no         integer NOT NULL,
  revision       integer NOT NULL,
  action         text NOT NULL CHECK (action IN ('update', 'pause', 'resume', 'cancel', 'finish', 'reject', 'delete')),
  strategy_ended boolean NOT NULL,
  changed_by     text NOT NULL,
  changed_at     timestamptz NOT NULL,
  before         jsonb NOT NULL
);
CREATE INDEX campaign_history_campaign ON scheduler.campaign_history (campaign_id, id);
COMMENT ON TABLE scheduler.campaign_history IS 'The audit of every change to a campaign: the row as it was before.';
COMMENT ON COLUMN scheduler.campaign_history.id IS 'Key, in the order of the changes.';
COMMENT ON COLUMN scheduler.campaign_history.campaign_id IS 'The campaign; it may be gone.';
COMMENT ON COLUMN scheduler.campaign_history.app_no IS 'Its app.';
COMMENT ON COLUMN scheduler.campaign_history.revision IS 'The revision that ended with this change.';
COMMENT ON COLUMN scheduler.campaign_history.action IS 'What the change did.';
COMMENT ON COLUMN scheduler.campaign_history.strategy_ended IS 'Whether the old strategy has no occurrences after changed_at: it was replaced, cancelled or deleted.';
COMMENT ON COLUMN scheduler.campaign_history.changed_by IS 'The database role that made it.';
COMMENT ON COLUMN scheduler.campaign_history.changed_at IS 'When.';
COMMENT ON COLUMN scheduler.campaign_history.before IS 'The row before the change.';

------------------------------------------------------------------------ planning

CREATE TABLE scheduler.campaign_changes (
  app_no      integer NOT NULL,
  campaign_id bigint NOT NULL,
  rewind_to   timestamptz
);
CREATE INDEX campaign_changes_app ON scheduler.campaign_changes (app_no);
COMMENT ON TABLE scheduler.campaign_changes IS 'Campaigns the planner has still to look at; written by triggers, removed by the planner in the transaction that acts on them.';
COMMENT ON COLUMN scheduler.campaign_changes.app_no IS 'The app to plan.';
COMMENT ON COLUMN scheduler.campaign_changes.campaign_id IS 'The campaign that changed; it may be gone.';
COMMENT ON COLUMN scheduler.campaign_changes.rewind_to IS 'The earliest occurrence whose pending task the change withdrew.';

CREATE TABLE scheduler.campaign_cursors (
  campaign_id bigint PRIMARY KEY,
  app_no      integer NOT NULL,
  revision    integer NOT NULL,
  active      boolean NOT NULL,
  next_due_at timestamptz
) WITH (fillfactor = 70);
CREATE INDEX campaign_cursors_next ON scheduler.campaign_cursors (app_no, next_due_at, campaign_id) WHERE active AND next_due_at IS NOT NULL;
CREATE INDEX campaign_cursors_ended ON scheduler.campaign_cursors (campaign_id) WHERE active AND next_due_at IS NULL;
CREATE INDEX campaign_cursors_paused ON scheduler.campaign_cursors (next_due_at) WHERE NOT active AND next_due_at IS NOT NULL;
COMMENT ON TABLE scheduler.campaign_cursors IS 'How far each unfinished campaign is planned. Only the planner writes it.';
COMMENT ON COLUMN scheduler.campaign_cursors.campaign_id IS 'The campaign.';
COMMENT ON COLUMN scheduler.campaign_cursors.app_no IS 'Its app.';
COMMENT ON COLUMN scheduler.campaign_cursors.revision IS 'The revision the planner last saw.';
COMMENT ON COLUMN scheduler.campaign_cursors.active IS 'Whether it was active then; false: paused, rejected or over.';
COMMENT ON COLUMN scheduler.campaign_cursors.next_due_at IS 'The earliest occurrence that is no task yet; NULL: there is none.';

CREATE SEQUENCE scheduler.task_ids AS bigint CACHE 100;

CREATE TABLE scheduler.pending_tasks (
  id          bigint PRIMARY KEY DEFAULT nextval('scheduler.task_ids'),
  app_no      integer NOT NULL,
  slot        integer CHECK (slot >= 1),
  campaign_id bigint NOT NULL,
  revision    integer NOT NULL,
  origin      scheduler.task_origin NOT NULL,
  due_at      timestamptz NOT NULL,
  ready_at    timestamptz NOT NULL,
  waits_for   text,
  CHECK ((origin = 'scheduled') = (slot IS NOT NULL)),
  CHECK (ready_at >= due_at),
  UNIQUE (campaign_id, due_at),
  UNIQUE (app_no, slot)
) WITH (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_cost_delay = 0);
CREATE INDEX pending_tasks_ready ON scheduler.pending_tasks (ready_at, id);
COMMENT ON TABLE scheduler.pending_tasks IS 'Tasks whose push has not begun. Deleting a row is the only way to begin, withdraw or decide its task, so a row lock settles every race.';
COMMENT ON COLUMN scheduler.pending_tasks.id IS 'The task''s key, for its whole life.';
COMMENT ON COLUMN scheduler.pending_tasks.app_no IS 'Its app.';
COMMENT ON COLUMN scheduler.pending_tasks.slot IS 'Its place among the app''s pending_limit slots. Unique and bounded, so that no one can store one task too many. NULL for tasks that do not count.';
COMMENT ON COLUMN scheduler.pending_tasks.campaign_id IS 'Its campaign.';
COMMENT ON COLUMN scheduler.pending_tasks.revision IS 'The campaign''s revision.';
COMMENT ON COLUMN scheduler.pending_tasks.origin IS 'Where the task comes from.';
COMMENT ON COLUMN scheduler.pending_tasks.due_at IS 'The occurrence.';
COMMENT ON COLUMN scheduler.pending_tasks.ready_at IS 'When the dispatcher should look at it: due_at, or later while it waits for a quota.';
COMMENT ON COLUMN scheduler.pending_tasks.waits_for IS 'quota, when it waits for one.';

--------------------------------------------------------------------- dispatching

CREATE TABLE scheduler.daemons (
  id           bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  name         text NOT NULL,
  version      text NOT NULL,
  started_at   timestamptz NOT NULL DEFAULT clock_timestamp(),
  seen_at      timestamptz NOT NULL DEFAULT clock_timestamp(),
  leased_until timestamptz NOT NULL,
  ended_at     timestamptz
) WITH (fillfactor = 50);
CREATE INDEX daemons_live ON scheduler.daemons (id) WHERE ended_at IS NULL;
COMMENT ON TABLE scheduler.daemons IS 'Every daemon that ran, one row a start. A daemon whose lease ran out is ended by another, and nothing it writes counts from then on.';
COMMENT ON COLUMN scheduler.daemons.id IS 'Key; a new one for every start.';
COMMENT ON COLUMN scheduler.daemons.name IS 'Host name and process id.';
COMMENT ON COLUMN scheduler.daemons.version IS 'The program''s version.';
COMMENT ON COLUMN scheduler.daemons.started_at IS 'When it started.';
COMMENT ON COLUMN scheduler.daemons.seen_at IS 'Its last heartbeat.';
COMMENT ON COLUMN scheduler.daemons.leased_until IS 'Until when its claims are safe from others.';
COMMENT ON COLUMN scheduler.daemons.ended_at IS 'When it stopped, or was found dead.';

CREATE TABLE scheduler.claims (
  id           bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  daemon_id    bigint NOT NULL,
  claimed_at   timestamptz NOT NULL DEFAULT clock_timestamp(),
  task_ids     bigint[] NOT NULL,
  app_nos      integer[] NOT NULL,
  campaign_ids bigint[] NOT NULL,
  revisions    integer[] NOT NULL,
  origins      scheduler.task_origin[] NOT NULL,
  due_ats      timestamptz[] NOT NULL,
  CHECK (cardinality(task_ids) > 0 AND cardinality(app_nos) = cardinality(task_ids)
     AND cardinality(campaign_ids) = cardinality(task_ids) AND cardinality(revisions) = cardinality(task_ids)
     AND cardinality(origins) = cardinality(task_ids) AND cardinality(due_ats) = cardinality(task_ids))
);
CREATE INDEX claims_daemon ON scheduler.claims (daemon_id);
-- A claim lives for some milliseconds: to compress it would cost more than the
-- rest of it.
ALTER TABLE scheduler.claims
  ALTER task_ids SET STORAGE EXTERNAL, ALTER app_nos SET STORAGE EXTERNAL, ALTER campaign_ids SET STORAGE EXTERNAL,
  ALTER revisions SET STORAGE EXTERNAL, ALTER origins SET STORAGE EXTERNAL, ALTER due_ats SET STORAGE EXTERNAL;
COMMENT ON TABLE scheduler.claims IS 'Intent, made durable before the calls begin: tasks begun together. The id is the fencing token: an outcome is recorded only while the row stands.';
COMMENT ON COLUMN scheduler.claims.id IS 'Fencing token.';
COMMENT ON COLUMN scheduler.claims.daemon_id IS 'Who holds it; its lease is the claim''s.';
COMMENT ON COLUMN scheduler.claims.claimed_at IS 'When the pushes were allowed to begin.';
COMMENT ON COLUMN scheduler.claims.task_ids IS 'The tasks; those already in decided_tasks or running_tasks no longer belong to the claim.';
COMMENT ON COLUMN scheduler.claims.app_nos IS 'Their apps.';
COMMENT ON COLUMN scheduler.claims.campaign_ids IS 'Their campaigns.';
COMMENT ON COLUMN scheduler.claims.revisions IS 'Their revisions.';
COMMENT ON COLUMN scheduler.claims.origins IS 'Their origins.';
COMMENT ON COLUMN scheduler.claims.due_ats IS 'Their occurrences.';

CREATE TABLE scheduler.running_tasks (
  id          bigint PRIMARY KEY,
  app_no      integer NOT NULL,
  campaign_id bigint NOT NULL,
  revision    integer NOT NULL,
  origin      scheduler.task_origin NOT NULL,
  due_at      timestamptz NOT NULL,
  expires_at  timestamptz NOT NULL,
  started_at  timestamptz NOT NULL,
  slices      integer NOT NULL CHECK (slices > 0),
  targets     bigint NOT NULL,
  UNIQUE (campaign_id, due_at)
);
COMMENT ON TABLE scheduler.running_tasks IS 'Begun tasks whose deliveries are stored one by one, in slices: large audiences, quotas, and retries.';
COMMENT ON COLUMN scheduler.running_tasks.id IS 'The task.';
COMMENT ON COLUMN scheduler.running_tasks.app_no IS 'Its app.';
COMMENT ON COLUMN scheduler.running_tasks.campaign_id IS 'Its campaign.';
COMMENT ON COLUMN scheduler.running_tasks.revision IS 'The revision it began with.';
COMMENT ON COLUMN scheduler.running_tasks.origin IS 'Where it comes from.';
COMMENT ON COLUMN scheduler.running_tasks.due_at IS 'The occurrence.';
COMMENT ON COLUMN scheduler.running_tasks.expires_at IS 'The end of its catch-up window: no attempt begins after it.';
COMMENT ON COLUMN scheduler.running_tasks.started_at IS 'When it began.';
COMMENT ON COLUMN scheduler.running_tasks.slices IS 'How many deliveries it has.';
COMMENT ON COLUMN scheduler.running_tasks.targets IS 'How many targets they have in all.';

CREATE TABLE scheduler.slices (
  id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  task_id     bigint NOT NULL,
  slice_no    integer NOT NULL CHECK (slice_no >= 1),
  app_no      integer NOT NULL,
  campaign_id bigint NOT NULL,
  status      scheduler.slice_status NOT NULL DEFAULT 'waiting',
  ready_at    timestamptz NOT NULL,
  attempts    integer NOT NULL DEFAULT 0,
  maybe_sent  boolean NOT NULL DEFAULT false,
  daemon_id   bigint,
  targets     text[] NOT NULL DEFAULT '{}',
  details     jsonb,
  reason      text,
  code        text,
  message     text,
  request_id  text,
  message_id  text,
  sent_at     timestamptz,
  finished_at timestamptz,
  UNIQUE (task_id, slice_no),
  CHECK ((status = 'running') = (daemon_id IS NOT NULL)),
  CHECK ((status IN ('waiting', 'held', 'running')) = (finished_at IS NULL))
) WITH (fillfactor = 80);
CREATE INDEX slices_ready ON scheduler.slices (ready_at, id) WHERE status = 'waiting';
CREATE INDEX slices_daemon ON scheduler.slices (daemon_id) WHERE status = 'running';
CREATE INDEX slices_unfinished ON scheduler.slices (task_id) WHERE finished_at IS NULL;
CREATE INDEX slices_open ON scheduler.slices (campaign_id) WHERE status IN ('waiting', 'held');
COMMENT ON TABLE scheduler.slices IS 'Stored deliveries: one row a call, claimed by any daemon. (id, attempts) is the fencing token.';
COMMENT ON COLUMN scheduler.slices.id IS 'Key.';
COMMENT ON COLUMN scheduler.slices.task_id IS 'The task.';
COMMENT ON COLUMN scheduler.slices.slice_no IS 'Its number within the task, from 1.';
COMMENT ON COLUMN scheduler.slices.app_no IS 'The app.';
COMMENT ON COLUMN scheduler.slices.campaign_id IS 'The campaign.';
COMMENT ON COLUMN scheduler.slices.status IS 'Where it stands.';
COMMENT ON COLUMN scheduler.slices.ready_at IS 'When the next attempt may begin.';
COMMENT ON COLUMN scheduler.slices.attempts IS 'Attempts begun so far.';
COMMENT ON COLUMN scheduler.slices.maybe_sent IS 'Whether an earlier attempt may have been taken: then it ends unknown when no further one is made.';
COMMENT ON COLUMN scheduler.slices.daemon_id IS 'Who runs it.';
COMMENT ON COLUMN scheduler.slices.targets IS 'Its targets, fixed when the task began.';
COMMENT ON COLUMN scheduler.slices.details IS 'Per-target parameters read from an audience view when the task began: target -> [template_key_value, extended_params].';
COMMENT ON COLUMN scheduler.slices.reason IS 'Why the last attempt was not accepted.';
COMMENT ON COLUMN scheduler.slices.code IS 'The provider''s code.';
COMMENT ON COLUMN scheduler.slices.message IS 'The provider''s message.';
COMMENT ON COLUMN scheduler.slices.request_id IS 'The provider''s id of the call.';
COMMENT ON COLUMN scheduler.slices.message_id IS 'The provider''s id of the message.';
COMMENT ON COLUMN scheduler.slices.sent_at IS 'When the last attempt began.';
COMMENT ON COLUMN scheduler.slices.finished_at IS 'When it ended for good.';

CREATE TABLE scheduler.decided_tasks (
  id          bigint NOT NULL,
  app_no      integer NOT NULL,
  campaign_id bigint NOT NULL,
  revision    integer NOT NULL,
  channel_no  smallint NOT NULL,
  origin      scheduler.task_origin NOT NULL,
  status      scheduler.decision NOT NULL,
  due_at      timestamptz NOT NULL,
  started_at  timestamptz,
  sent_at     timestamptz,
  decided_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
  attempts    integer NOT NULL,
  slices      integer NOT NULL,
  accepted    integer NOT NULL,
  target_count bigint NOT NULL,
  daemon_id   bigint,
  reason      text,
  code        text,
  message     text,
  request_id  text,
  message_id  text,
  targets     text[],
  PRIMARY KEY (campaign_id, due_at),
  CHECK (status <> 'succeeded' OR accepted = slices),
  CHECK (status IN ('succeeded') OR reason IS NOT NULL)
);
CREATE INDEX decided_tasks_id ON scheduler.decided_tasks (id);
CREATE INDEX decided_tasks_unknown ON scheduler.decided_tasks (due_at) WHERE status = 'unknown';
-- For people, who look at a time, or at what went wrong. Neither costs a decision
-- much: rows come about in the order of due_at, so a summary of each block will
-- do (a few rows far off, as of cancelled tasks, do not spoil the summary), and
-- what succeeded has no reason, but for a few.
CREATE INDEX decided_tasks_due ON scheduler.decided_tasks USING brin (due_at timestamptz_minmax_multi_ops) WITH (autosummarize = on);
CREATE INDEX decided_tasks_reason ON scheduler.decided_tasks (due_at) WHERE reason IS NOT NULL;
COMMENT ON TABLE scheduler.decided_tasks IS 'The record: how each task ended. One row for every (campaign_id, due_at), for good.';
COMMENT ON COLUMN scheduler.decided_tasks.id IS 'The task.';
COMMENT ON COLUMN scheduler.decided_tasks.app_no IS 'Its app.';
COMMENT ON COLUMN scheduler.decided_tasks.campaign_id IS 'Its campaign; it may be gone.';
COMMENT ON COLUMN scheduler.decided_tasks.revision IS 'The revision that was pushed.';
COMMENT ON COLUMN scheduler.decided_tasks.channel_no IS 'The push API.';
COMMENT ON COLUMN scheduler.decided_tasks.origin IS 'Where the task came from.';
COMMENT ON COLUMN scheduler.decided_tasks.status IS 'The decision.';
COMMENT ON COLUMN scheduler.decided_tasks.due_at IS 'The occurrence.';
COMMENT ON COLUMN scheduler.decided_tasks.started_at IS 'When its push was allowed to begin; NULL: it never was.';
COMMENT ON COLUMN scheduler.decided_tasks.sent_at IS 'When the first call began; lateness is counted to it.';
COMMENT ON COLUMN scheduler.decided_tasks.decided_at IS 'When the decision was recorded.';
COMMENT ON COLUMN scheduler.decided_tasks.attempts IS 'Calls begun in all.';
COMMENT ON COLUMN scheduler.decided_tasks.slices IS 'Deliveries it had.';
COMMENT ON COLUMN scheduler.decided_tasks.accepted IS 'Deliveries the provider accepted.';
COMMENT ON COLUMN scheduler.decided_tasks.target_count IS 'Targets it had in all.';
COMMENT ON COLUMN scheduler.decided_tasks.daemon_id IS 'Who recorded it; NULL: a trigger did, for an author.';
COMMENT ON COLUMN scheduler.decided_tasks.reason IS 'Why, in words.';
COMMENT ON COLUMN scheduler.decided_tasks.code IS 'The provider''s code (of a task with one delivery).';
COMMENT ON COLUMN scheduler.decided_tasks.message IS 'The provider''s message.';
COMMENT ON COLUMN scheduler.decided_tasks.request_id IS 'The provider''s id of the call.';
COMMENT ON COLUMN scheduler.decided_tasks.message_id IS 'The provider''s id of the message.';
COMMENT ON COLUMN scheduler.decided_tasks.targets IS 'The targets of a task with one delivery.';

SELECT scheduler.set_schema_version(3);
