// Package pgstate is an example to copy: states of workflows and tasks in
// PostgreSQL, as Compozy keeps them, read through Redis.
//
// Postgres is a plain repository. Cached has the same methods: it reads through a
// redisstate.Cache and tells that cache what its transactions leave. A workflow
// and its tasks are one cached state, in parts, so that a change of a task writes
// that task.
//
// # What is put in, and what is taken out
//
// A transaction collects what it writes and tells it around its COMMIT, never
// earlier: a rollback forgets it. What it puts in is the row that its own INSERT
// or UPDATE returned. That row is locked until the commit, so it is what the
// commit leaves, whatever the database made of it (defaults, triggers before the
// write, numbers in jsonb).
//
// No lock on the workflow's row is needed for that. Transactions that write
// different tasks of one workflow run side by side; each puts in its own rows and
// nothing that it only read. If their commits overlap, the cache sees it and takes
// the state out instead. So the cache makes nobody wait who did not wait before.
// What the host wants of several rows together it must lock as ever.
//
// Taken out, to be loaded by the next read, is a workflow whose change is not
// known row by row: a task that moves to another workflow (both), a task that is
// deleted (a cascade may delete its children), and whatever was written behind a
// savepoint that is rolled back.
//
// # When a commit fails
//
// If the server says so, nothing is committed: the error wraps
// redisstate.ErrRolledBack, and the next read loads. If the connection is lost
// in COMMIT, nobody knows: the error is ErrCommitUnknown, and reads of those
// workflows go to PostgreSQL for ChangeTimeout. If Redis refuses, COMMIT is not
// sent and nothing is committed. A caller who gives up in COMMIT waits for it all
// the same.
//
// Not for: other writers to these tables. Who writes to them past Cached (a job,
// psql, a trigger on other rows) says Cached.Invalidate after the commit, or
// reads are too old for up to TTL.
package pgstate
