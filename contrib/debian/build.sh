#!/bin/sh
# Builds the Debian package from what is committed: make deb.
set -eu
cd "$(dirname "$0")/../.."
version=$(sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml)
build=build/deb/postwake-$version
rm -rf build/deb
mkdir -p "$build"
git archive HEAD | tar -x -C "$build"
cp -r contrib/debian "$build/debian"
for unit in systemd/*.service systemd/*.timer; do
    [ -e "$unit" ] && cp "$unit" "$build/debian/postwake.$(basename "$unit")"
done
ls docs/man/*.[1-8] > "$build/debian/postwake.manpages" 2>/dev/null || rm -f "$build/debian/postwake.manpages"
(cd "$build" && dpkg-buildpackage --build=binary --no-sign --no-check-builddeps)
mkdir -p dist
mv build/deb/*.deb dist/
ls -l dist/*.deb
