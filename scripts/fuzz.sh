#!/usr/bin/env bash
# Runs each fuzz test of the module in the working directory so often. What one finds is
# kept in its package's testdata/fuzz, from where go test runs it from then on.
# usage: scripts/fuzz.sh TIMES (200000x)
set -euo pipefail

go list -f '{{.Dir}}' ./... | while read -r dir; do
	{ cat "$dir"/*_test.go 2>/dev/null || true; } | sed -n 's/^func \(Fuzz[A-Za-z0-9_]*\).*/\1/p' | while read -r name; do
		go test -run '^$' -fuzz "^$name\$" -fuzztime "$1" "$dir" </dev/null
	done
done
