#!/bin/sh
# Installs Debian packages as root, asking nothing and starting no service.
# usage: scripts/apt-install.sh PACKAGE...
set -eu
export DEBIAN_FRONTEND=noninteractive LC_ALL=C NEEDRESTART_SUSPEND=1

policy=/usr/sbin/policy-rc.d
kept=$policy.kept-by-temporal-redis
mark="# put here by temporal-redis' scripts/apt-install.sh while it installs"

ours() { [ -f "$policy" ] && grep -qF "$mark" "$policy"; }

# Also mends what a killed run has left.
restore() {
	if ours; then rm -f "$policy"; fi
	if [ -e "$kept" ] || [ -L "$kept" ]; then mv -f "$kept" "$policy"; fi
}

forbid_services() {
	if [ -e "$policy" ] || [ -L "$policy" ]; then mv -f "$policy" "$kept"; fi
	printf '#!/bin/sh\n%s\nexit 101\n' "$mark" >"$policy.new"
	chmod 755 "$policy.new"
	mv -f "$policy.new" "$policy"
}

# Two runs at once would restore each other's policy.
if command -v flock >/dev/null 2>&1; then
	exec 9>/var/lock/temporal-redis-apt
	flock -w 900 9 || {
		echo "another installation holds /var/lock/temporal-redis-apt for 15 minutes: see what it does" >&2
		exit 1
	}
fi

restore
trap restore EXIT
trap 'exit 129' HUP
trap 'exit 130' INT
trap 'exit 143' TERM
forbid_services

# DPkg::Lock::Timeout covers dpkg's lock but not that of the package lists.
update() {
	tries=0
	while ! apt-get -q update 9>&- 2>"$errors"; do
		grep -q 'Could not get lock' "$errors" && [ $tries -lt 30 ] || return 1
		tries=$((tries + 1))
		echo "apt's lists are locked by another process; waiting"
		sleep 10
	done
}

errors=$(mktemp)
trap 'restore; rm -f "$errors"' EXIT
if ! update; then
	cat "$errors" >&2
	echo "apt-get update failed (above); trying with the lists that are there" >&2
fi

apt-get -q -y --no-install-recommends \
	-o DPkg::Lock::Timeout=300 -o Acquire::Retries=3 -o Dpkg::Options::=--force-confold \
	install "$@" 9>&-
