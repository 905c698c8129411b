#!/bin/sh
# What `make` cannot install: git and Go. One line of remedy each.
set -eu

fail() {
	echo "$1" >&2
	exit 1
}

wanted=1.26

command -v git >/dev/null 2>&1 || fail "git is missing: install it (Debian: apt-get install git; macOS: xcode-select --install)"
command -v go >/dev/null 2>&1 || fail "Go $wanted or newer is missing: install it from https://go.dev/dl/ and put its bin directory on PATH"

version=$(go env GOVERSION) || fail "Go $wanted or newer is needed and \`go env\` fails: install it from https://go.dev/dl/"
numbers=${version#go}
major=${numbers%%.*}
minor=${numbers#*.}
minor=${minor%%[!0-9]*}
case "$major$minor" in
*[!0-9]* | "") exit 0 ;; # a development version: newer than any release
esac
if [ "$major" -lt "${wanted%%.*}" ] || { [ "$major" -eq "${wanted%%.*}" ] && [ "$minor" -lt "${wanted#*.}" ]; }; then
	fail "Go $wanted or newer is needed, this is $version: install it from https://go.dev/dl/"
fi
