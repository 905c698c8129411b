-- What Compozy keeps of a run and of its tasks.

CREATE TABLE IF NOT EXISTS workflow_states (
    workflow_exec_id text PRIMARY KEY,
    workflow_id      text NOT NULL,
    status           text NOT NULL,
    usage            jsonb,
    input            jsonb,
    output           jsonb,
    error            jsonb,
    created_at       timestamptz NOT NULL DEFAULT now(),
    updated_at       timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE IF NOT EXISTS task_states (
    task_exec_id     text PRIMARY KEY,
    task_id          text NOT NULL,
    workflow_exec_id text NOT NULL REFERENCES workflow_states ON DELETE CASCADE,
    workflow_id      text NOT NULL,
    component        text NOT NULL,
    status           text NOT NULL,
    execution_type   text NOT NULL DEFAULT 'basic',
    usage            jsonb,
    agent_id         text,
    tool_id          text,
    action_id        text,
    -- Deferred: a transaction may write children before their parent.
    parent_state_id  text REFERENCES task_states ON DELETE CASCADE DEFERRABLE INITIALLY DEFERRED,
    input            jsonb,
    output           jsonb,
    error            jsonb,
    created_at       timestamptz NOT NULL DEFAULT now(),
    updated_at       timestamptz NOT NULL DEFAULT now()
);

CREATE INDEX IF NOT EXISTS task_states_of_workflow ON task_states (workflow_exec_id);
CREATE INDEX IF NOT EXISTS task_states_of_parent ON task_states (parent_state_id);

-- The highest fence that wrote, by what it is a lease of.
CREATE TABLE IF NOT EXISTS fences (
    resource text PRIMARY KEY,
    fence    bigint NOT NULL,
    owner    text NOT NULL
);
