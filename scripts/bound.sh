#!/usr/bin/env bash
# Runs a command that ends when make ends, with all that it started.
# usage: scripts/bound.sh COMMAND [ARG...]
#
# `go test` and `go run` leave their children behind when they are killed. So
# the command gets a process group of its own; that group is ended when this
# script is signalled (Ctrl-C, kill), and by a watcher when this script or make
# is gone without a word (kill -9). What the tests started dies with them, see
# internal/procs.
set -u
set -m # background jobs get process groups

make=${BOUND_TO:-$PPID}

"$@" </dev/null &
job=$!

end_job() { kill -s "$1" -- "-$job" 2>/dev/null; }

(
	trap '' INT TERM HUP
	while kill -0 "$make" 2>/dev/null && kill -0 $$ 2>/dev/null; do
		kill -0 "$job" 2>/dev/null || exit 0
		sleep 0.5
	done
	end_job TERM
	sleep 2
	end_job KILL
) >/dev/null 2>&1 </dev/null &
watcher=$!
disown

for signal in INT TERM HUP; do
	trap "end_job $signal; wait $job; kill -s KILL -- -$watcher; trap - $signal; kill -s $signal \$\$" $signal
done

wait "$job"
code=$?
kill -s KILL -- "-$watcher" 2>/dev/null
end_job TERM # nothing of the group outlives the command
exit $code
