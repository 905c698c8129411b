#!/usr/bin/env bash
# Tries the set-up in bare Debian roots: for each suite, as root, as a user with
# passwordless sudo, and as a user without. Needs root and debootstrap; uses
# chroot, so it belongs on a machine that may be thrown away.
#
# usage: scripts/setup-matrix.sh [SUITE...]        (default: stable oldstable)
#   CASES="root sudo nosudo"   which of the three
#   STEPS="make deps-demo deps-test"   what is run; nosudo wants it to fail
#   MIRROR=http://deb.debian.org/debian
#   ROOTS=/var/tmp/setup-matrix        where the roots are made and stay
#   CACHE=DIR   Go's caches, one a user, shared by the cases; without it each
#               case starts cold
# Go comes from the machine, the tree from the working directory as a clone
# would have it. GOPROXY, proxies and certificates of the machine are used.
set -euo pipefail
cd "$(dirname "$0")/.."

cases=${CASES-root sudo nosudo}
steps=${STEPS:-make deps-demo deps-test}
mirror=${MIRROR:-http://deb.debian.org/debian}
roots=${ROOTS:-/var/tmp/setup-matrix}
[ $# -gt 0 ] || set -- stable oldstable

[ "$(id -u)" -eq 0 ] || { echo "run as root" >&2; exit 1; }

mounted=()
unmount_all() {
	local i
	for ((i = ${#mounted[@]} - 1; i >= 0; i--)); do umount "${mounted[i]}" 2>/dev/null || umount -l "${mounted[i]}"; done
	mounted=()
}
trap unmount_all EXIT

mount_into() { # KIND-OR-SOURCE TARGET
	mkdir -p "$2"
	case $1 in
	proc) mount -t proc proc "$2" ;;
	*) mount --bind "$1" "$2" ;;
	esac
	mounted+=("$2")
}

# Processes whose root directory is $1.
inside() {
	local pid
	for pid in /proc/[0-9]*; do
		[ "$(readlink "$pid/root" 2>/dev/null)" = "$1" ] && tr '\0' ' ' <"$pid/cmdline" && echo
	done
	return 0
}

in_root() { # ROOT USER COMMAND
	local root=$1 user=$2 home=/root
	[ "$user" = root ] || home=/home/$user
	chroot --userspec="$user" "$root" /usr/bin/env -i \
		HOME="$home" USER="$user" PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:/usr/local/go/bin \
		GOPROXY="$(go env GOPROXY)" GOSUMDB="$(go env GOSUMDB)" GOFLAGS=-buildvcs=false \
		${http_proxy:+http_proxy="$http_proxy"} ${https_proxy:+https_proxy="$https_proxy"} ${no_proxy:+no_proxy="$no_proxy"} \
		${CACHE:+GOMODCACHE=/cache/"$user"/mod GOCACHE=/cache/"$user"/build} \
		/bin/bash -c "cd ~ && $3"
}

# A bare root with git, make, sudo's package only where asked for, and Go.
make_base() { # SUITE
	local base=$roots/$1-base
	[ ! -e "$base/ready" ] || return 0
	rm -rf "$base"
	mkdir -p "$roots"
	debootstrap --variant=minbase "$1" "$base" "$mirror" >"$roots/$1-debootstrap.log"
	cp /etc/resolv.conf "$base/etc/resolv.conf"
	cp -a "$(go env GOROOT)" "$base/usr/local/go"
	in_root "$base" root "apt-get -q update && DEBIAN_FRONTEND=noninteractive apt-get -q -y --no-install-recommends install git make" >>"$roots/$1-debootstrap.log" 2>&1
	# A machine behind a gateway of its own needs its authorities too.
	if [ -n "$(ls /usr/local/share/ca-certificates 2>/dev/null)" ]; then
		mkdir -p "$base/etc/ssl/certs"
		cp /etc/ssl/certs/ca-certificates.crt "$base/etc/ssl/certs/"
	fi
	touch "$base/ready"
}

run_case() { # SUITE CASE
	local suite=$1 kind=$2 root=$roots/$1-$2 log=$roots/$1-$2.log user=dev home=/home/dev started code=0 verdict left
	rm -rf "$root"
	cp -a "$roots/$suite-base" "$root"
	mount_into proc "$root/proc"
	mount_into /dev "$root/dev"
	if [ -n "${CACHE:-}" ]; then
		mkdir -p "$CACHE/root" "$CACHE/dev"
		mount_into "$CACHE" "$root/cache"
	fi
	if [ "$kind" = root ]; then
		user=root home=/root
	else
		chroot "$root" useradd --create-home --shell /bin/bash dev
	fi
	if [ "$kind" = sudo ]; then
		in_root "$root" root "DEBIAN_FRONTEND=noninteractive apt-get -q -y --no-install-recommends install sudo" >/dev/null 2>&1
		echo 'dev ALL=(ALL) NOPASSWD: ALL' >"$root/etc/sudoers.d/dev"
	fi
	printf '#!/bin/sh\n# the machine owner'"'"'s\nexit 0\n' >"$root/usr/sbin/policy-rc.d"
	chmod 755 "$root/usr/sbin/policy-rc.d"
	cp -p "$root/usr/sbin/policy-rc.d" "$roots/policy-rc.d"
	mkdir -p "$root$home/temporal-redis"
	git ls-files -z --cached --others --exclude-standard | tar --null -T - --ignore-failed-read -cf - 2>/dev/null | tar -C "$root$home/temporal-redis" -xf -
	chroot "$root" chown -R "$user:" "$home"
	[ -z "${CACHE:-}" ] || chroot "$root" chown "$user:" "/cache/$user"

	started=$SECONDS
	in_root "$root" "$user" "cd temporal-redis && $steps" >"$log" 2>&1 </dev/null || code=$?
	verdict="exit $code"
	cmp -s "$root/usr/sbin/policy-rc.d" "$roots/policy-rc.d" || verdict+=", policy-rc.d NOT RESTORED"
	# A watchdog takes a second to clean up behind a command that failed.
	for _ in 1 2 3 4 5; do
		left=$(inside "$root")
		[ -n "$left" ] || break
		sleep 1
	done
	[ -z "$left" ] || verdict+=", LEFT RUNNING: $left"
	printf '%-10s %-7s %4ds  %s\n' "$suite" "$kind" $((SECONDS - started)) "$verdict"
	[ $code -eq 0 ] || tail -n 3 "$log" | sed 's/^/    /'
	unmount_all
}

for suite in "$@"; do
	make_base "$suite"
	for kind in $cases; do run_case "$suite" "$kind"; done
done
