#!/bin/sh
# Installs what is missing of: redis-server postgresql cc.
# usage: scripts/deps.sh [NAME...]
# When nothing is missing it takes a moment and touches neither network nor apt.
set -eu
cd "$(dirname "$0")/.."

fail() {
	echo "$1" >&2
	exit 1
}

# install_with_apt PACKAGE...; the reason why not is in $refusal.
install_with_apt() {
	echo "installing by apt: $*"
	if [ "$(id -u)" -eq 0 ]; then
		refusal="apt failed (above)"
		sh scripts/apt-install.sh "$@"
		return
	fi
	remedy="run this once as root, then make again: apt-get update && apt-get install --no-install-recommends $*"
	if ! command -v sudo >/dev/null 2>&1; then
		refusal="not root and no sudo: $remedy"
		return 1
	fi
	if ! sudo -n true 2>/dev/null; then
		refusal="not root and sudo does not work without a password: $remedy (or run \`sudo -v\` first)"
		return 1
	fi
	refusal="apt failed (above)"
	# sudo drops the environment; apt may need the proxies.
	sudo -n env "http_proxy=${http_proxy-}" "https_proxy=${https_proxy-}" "no_proxy=${no_proxy-}" \
		sh scripts/apt-install.sh "$@"
}

install_with_brew() {
	for name in $missing; do
		case $name in
		redis-server) formula=redis ;;
		postgresql) formula=postgresql@17 ;;
		cc) fail "no C compiler: run \`xcode-select --install\`, then make again" ;;
		esac
		command -v brew >/dev/null 2>&1 || fail "no brew: install it from https://brew.sh, or $formula in your own way, then make again"
		echo "installing by brew: $formula"
		brew install "$formula" # starts no service
	done
}

# Debian's package names for what is missing.
debian_packages() {
	for name in $missing; do
		case $name in
		redis-server) echo redis-server ;;
		postgresql) echo postgresql ;;
		cc) echo gcc libc6-dev ;;
		esac
	done
}

# A bare Debian has no certificate authorities, and without them Go downloads no
# module. If they cannot be installed, Go may still have all it needs.
if [ -z "${SSL_CERT_FILE-}${SSL_CERT_DIR-}" ] && command -v apt-get >/dev/null 2>&1 && [ ! -e /etc/ssl/certs/ca-certificates.crt ]; then
	install_with_apt ca-certificates || echo "no certificate authorities for downloads: $refusal" >&2
fi

[ $# -gt 0 ] || exit 0
mkdir -p .build
go build -o .build/deps ./internal/deps
missing=$(.build/deps missing "$@")
[ -n "$missing" ] || exit 0
echo "missing:" $missing

if [ "$(uname -s)" = Darwin ]; then
	install_with_brew
elif command -v apt-get >/dev/null 2>&1; then
	install_with_apt $(debian_packages) || fail "$refusal"
else
	fail "no apt-get and not macOS: install redis-server 7 or newer, the PostgreSQL server (any major version) and a C compiler with this system's package manager, then make again"
fi

exec .build/deps why "$@"
