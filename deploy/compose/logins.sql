-- Logins for compose.yaml; may be run again. The apps are those of the sandbox,
-- which the daemons would register themselves a moment later.
\set pusher `echo "$PUSHER_PASSWORD"`
\set author `echo "$AUTHOR_PASSWORD"`

SELECT format('CREATE ROLE %I LOGIN IN ROLE %I', v.login, v.role)
  FROM (VALUES ('pusher', 'scheduler_daemon'), ('mei', 'scheduler_author')) AS v (login, role)
 WHERE to_regrole(v.login) IS NULL \gexec
ALTER ROLE pusher PASSWORD :'pusher';
ALTER ROLE mei PASSWORD :'author';

-- The schema belongs to a role that nobody uses.
SELECT scheduler.set_owner();

INSERT INTO scheduler.apps (app_id, workspace_id, provider)
VALUES ('sandbox-mpaas', 'default', 'mpaas'), ('sandbox-alipay', '', 'alipay'), ('sandbox-webhook', '', 'webhook')
ON CONFLICT DO NOTHING;
SELECT scheduler.grant_app(app_id, workspace_id, 'mei') FROM scheduler.apps;
