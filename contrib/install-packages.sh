#!/bin/sh
# Installs the Debian packages named, those that are missing. Used by the Makefile; not needed on a server.
set -eu
missing=
for package in "$@"; do
    dpkg-query --show --showformat='${db:Status-Status}' "$package" 2>/dev/null | grep -q '^installed$' || missing="$missing $package"
done
[ -n "$missing" ] || exit 0
if [ "$(id -u)" -ne 0 ]; then
    echo "Needed and not installed:$missing" >&2
    echo "Run as root, or: sudo apt-get install --no-install-recommends$missing" >&2
    exit 69
fi
echo "Installing Debian packages:$missing" >&2
export DEBIAN_FRONTEND=noninteractive
apt-get update --quiet --quiet
# shellcheck disable=SC2086 # one word a package
apt-get install --quiet --quiet --yes --no-install-recommends $missing >/dev/null
