#!/usr/bin/env bash
# Runs the integration tests of the module in the working directory: the
# packages that have test files behind the build tag, however they are named.
# With TEMPORAL_REDIS_TEST_STICKY set, only those of them whose tests run workflows
# on a Temporal dev server. With -others, the unit tests of all other packages.
# usage: scripts/integration.sh [-others] [GO TEST FLAG...]
set -euo pipefail

others=
if [ "${1:-}" = -others ]; then
	others=yes
	shift
fi

list() { go list -tags integration "$@" ./...; }
test_files='{{range .TestGoFiles}}{{$.ImportPath}} {{.}}{{"\n"}}{{end}}{{range .XTestGoFiles}}{{$.ImportPath}} {{.}}{{"\n"}}{{end}}'

# Those with the most test files first, as they last longest: what runs last has the
# machine for itself and leaves half of it unused.
packages=$(comm -13 <(go list -f "$test_files" ./... | sort) <(list -f "$test_files" | sort) |
	sed -n 's/ .*//p' | sort | uniq -c | sort -rn | awk '{ print $2 }')

if [ -n "$others" ]; then
	packages=$(comm -23 <(go list ./... | sort) <(echo "$packages" | sort))
	# shellcheck disable=SC2086 # one word a package
	[ -z "$packages" ] || go test "$@" $packages
	exit
fi

if [ -n "${TEMPORAL_REDIS_TEST_STICKY:-}" ]; then
	# pkg.test is the test binary of pkg, with all that it is linked from.
	with_server=$(list -test -f '{{.ImportPath}} {{join .Deps " "}}' |
		sed -n '/^[^ ]*\/internal\/devserver\.test /d; s/^\([^ ]*\)\.test .*\/internal\/devserver.*/\1/p' | sort -u)
	packages=$(grep -Fx -f <(echo "$with_server") <<<"$packages" || true)
fi

if [ -z "$packages" ]; then
	echo "no integration tests here"
	exit 0
fi
TEMPORAL_REDIS_TEST_TALLY=$(mktemp)
export TEMPORAL_REDIS_TEST_TALLY
trap 'rm -f "$TEMPORAL_REDIS_TEST_TALLY"' EXIT
status=0
# shellcheck disable=SC2086 # one word a package
go test -count=1 -tags integration "$@" $packages || status=$?
if [ -s "$TEMPORAL_REDIS_TEST_TALLY" ]; then
	echo "contract suites, by backend:"
	sort "$TEMPORAL_REDIS_TEST_TALLY"
fi
exit "$status"
