#!/usr/bin/env bash
# Shows that each rule of depguard in .golangci.yml bites: in a copy of the tree,
# adds a file with a forbidden import for each, and wants the linter to refuse
# it by that rule's name.
# usage: scripts/depguard-bites.sh   (after make deps-lint)
set -euo pipefail
cd "$(dirname "$0")/.."
root=$PWD
copy=$(mktemp -d)
trap 'rm -rf "$copy"' EXIT
git ls-files -z --cached --others --exclude-standard | tar --null -T - --ignore-failed-read -cf - 2>/dev/null | tar -C "$copy" -xf -
cd "$copy"

module=github.com/compozy/temporal-redis
failed=0

# bites RULE DIRECTORY IMPORT [FILE]: in a new package below the directory, as
# the compiler itself refuses most of these imports in the package (a cycle).
bites() {
	local rule=$1 dir=$2/badimport import=$3 file=${4:-bad_import.go} said
	mkdir -p "$dir"
	printf 'package badimport\n\nimport _ "%s"\n' "$import" >"$dir/$file"
	said=$("$root/bin/golangci-lint" run --config "$root/.golangci.yml" --enable-only depguard --allow-parallel-runners "./$dir/..." 2>&1) || true
	if [[ $said == *"$file:3:8: import '$import' is not allowed from list '$rule'"* ]]; then
		echo "bites: $rule: $2 may not import $import"
	else
		printf 'DOES NOT BITE: %s: %s imports %s\n%s\n' "$rule" "$2" "$import" "$said" >&2
		failed=1
	fi
	rm -r "$dir"
}

for middle in redisstate locking notifier; do
	for above in worker interceptors activities compozy cmd examples; do
		bites middle-is-below $middle $module/$above
	done
	bites middle-without-temporal $middle go.temporal.io/sdk/client
	for other in redisstate locking notifier; do
		[ $other = $middle ] || bites $middle-alone $middle $module/$other
	done
done
bites middle-without-temporal testsuite/contract go.temporal.io/sdk/client
for other in activities worker compozy cmd examples; do bites interceptors-alone interceptors $module/$other; done
for other in interceptors worker compozy cmd examples; do bites activities-alone activities $module/$other; done
for other in compozy cmd examples; do bites worker-below-programs worker $module/$other; done
for other in worker interceptors activities testsuite cmd examples; do bites compozy-above-the-middle compozy $module/$other; done
bites compozy-above-the-middle compozy go.temporal.io/sdk/client
for low in keys rediserr telemetry procs; do
	for above in redisstate locking notifier worker interceptors activities testsuite compozy; do
		bites internal-is-lowest internal/$low $module/$above
	done
done
for low in keys rediserr telemetry; do bites internal-without-temporal internal/$low go.temporal.io/sdk/client; done
for library in redisstate locking notifier interceptors activities worker; do
	for test in testsuite internal/redistest internal/pgtest internal/devserver; do
		bites tests-stay-in-tests $library $module/$test
	done
done
bites badger-stays-out worker github.com/dgraph-io/badger/v4
bites pgx-stays-out worker github.com/jackc/pgx/v5
bites temporal-server-stays-out worker go.temporal.io/server/common
bites testify-stays-out worker github.com/stretchr/testify/require
bites testify-stays-out worker github.com/stretchr/testify/require bad_import_test.go
exit $failed
