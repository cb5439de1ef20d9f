-- What operators ruled on tasks whose outcome nobody knew.

CREATE TABLE scheduler.rulings (
  id              bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  task_id         bigint NOT NULL,
  app_no          integer NOT NULL,
  campaign_id     bigint NOT NULL,
  due_at          timestamptz NOT NULL,
  ruling          text NOT NULL CHECK (ruling IN ('sent', 'not_sent')),
  resend          boolean NOT NULL CHECK (NOT resend OR ruling = 'not_sent'),
  note            text CHECK (note <> ''),
  previous_status scheduler.decision NOT NULL,
  previous_reason text,
  ruled_by        text NOT NULL DEFAULT session_user,
  operator        text,
  ruled_at        timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX rulings_task ON scheduler.rulings (task_id, id);
COMMENT ON TABLE scheduler.rulings IS 'The audit of scheduler tasks resolve: who ruled what on which task of unknown outcome.';
COMMENT ON COLUMN scheduler.rulings.id IS 'Key, in the order of the rulings.';
COMMENT ON COLUMN scheduler.rulings.task_id IS 'The task.';
COMMENT ON COLUMN scheduler.rulings.app_no IS 'Its app.';
COMMENT ON COLUMN scheduler.rulings.campaign_id IS 'Its campaign.';
COMMENT ON COLUMN scheduler.rulings.due_at IS 'The occurrence.';
COMMENT ON COLUMN scheduler.rulings.ruling IS 'sent or not_sent: what the operator found out about the calls of unknown outcome.';
COMMENT ON COLUMN scheduler.rulings.resend IS 'Whether they were then made again, with the same message keys.';
COMMENT ON COLUMN scheduler.rulings.note IS 'Why, in the operator''s words.';
COMMENT ON COLUMN scheduler.rulings.previous_status IS 'What the task was before.';
COMMENT ON COLUMN scheduler.rulings.previous_reason IS 'And why.';
COMMENT ON COLUMN scheduler.rulings.ruled_by IS 'The database login.';
COMMENT ON COLUMN scheduler.rulings.operator IS 'The user of the operating system, as the command line says; nothing proves it.';
COMMENT ON COLUMN scheduler.rulings.ruled_at IS 'When.';

SELECT scheduler.set_schema_version(8);
