#!/usr/bin/env bash
# Downloads packages of a Debian suite through apt and unpacks them below DEST/root, without installing anything.
# usage: unpack-debian.sh DEST SUITE [--with-dependencies] PACKAGE...
set -euo pipefail
DEST=$(realpath -m "$1") SUITE=$2
shift 2
STATE=$DEST/.apt
mkdir -p "$STATE"/{state/lists/partial,cache/archives/partial,etc/preferences} "$DEST/root"
: > "$STATE/state/status"
# The mirror is the one that this machine uses already.
URI=$(awk '/^URIs:/ {print $2; exit}' /etc/apt/sources.list.d/debian.sources 2>/dev/null || true)
[ -n "$URI" ] || URI=$(awk '$1 == "deb" {for (i = 2; i <= NF; i++) if ($i ~ /^https?:/) {print $i; exit}}' /etc/apt/sources.list)
cat > "$STATE/etc/suite.sources" <<SOURCES
Types: deb
URIs: $URI
Suites: $SUITE
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg
SOURCES
private_apt() {
  apt-get -q -o Dir::Etc::sourcelist=/dev/null -o Dir::Etc::sourceparts="$STATE/etc" -o Dir::Etc::preferences=/dev/null \
    -o Dir::Etc::preferencesparts="$STATE/etc/preferences" -o Dir::State="$STATE/state" -o Dir::State::status="$STATE/state/status" \
    -o Dir::Cache="$STATE/cache" -o APT::Sandbox::User=root -o Acquire::Retries=3 -o Acquire::Languages=none "$@"
}
private_apt update
if [ "$1" = --with-dependencies ]; then
  shift
  private_apt install -y --download-only --no-install-recommends "$@"
  DEBS=("$STATE"/cache/archives/*.deb)
else
  (cd "$STATE/cache" && private_apt download "$@")
  DEBS=("$STATE"/cache/*.deb)
fi
for deb in "${DEBS[@]}"; do dpkg-deb -x "$deb" "$DEST/root"; done
rm -rf "$STATE"
