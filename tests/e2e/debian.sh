#!/usr/bin/env bash
# Gets packages of a Debian suite from the mirror that this machine uses already; its list of sources stays as it is.
# usage: debian.sh install SUITE PACKAGE...     onto this machine, which must be Debian 12, as root
#        debian.sh unpack SUITE DEST [--with-dependencies] PACKAGE...     below DEST/root, whole or not at all
set -euo pipefail
HOW=$1 SUITE=$2
shift 2
HOST=$(. /etc/os-release && echo "${VERSION_CODENAME:-}")
SOURCES=/etc/apt/sources.list.d/debian.sources
[ -f "$SOURCES" ] || SOURCES=/etc/apt/sources.list
URI=$(grep -oEm1 '^(URIs:|deb ).*' "$SOURCES" | grep -oEm1 'https?://[^ ]+')
STATE=$(mktemp -d)
trap 'rm -rf "$STATE"' EXIT
mkdir -p "$STATE"/{lists/partial,archives/partial,sources,preferences}
[ "$SUITE" = "$HOST" ] || cat > "$STATE/sources/suite.sources" <<SUITE
Types: deb
URIs: $URI
Suites: $SUITE
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg
SUITE

# Other sources of this machine, which may not answer, are not asked.
private_apt() {
  apt-get -q -o Dir::Etc::sourcelist=/dev/null -o Dir::Etc::sourceparts="$STATE/sources" -o Dir::Etc::preferences=/dev/null \
    -o Dir::Etc::preferencesparts="$STATE/preferences" -o Dir::State::lists="$STATE/lists" -o Dir::Cache="$STATE" \
    -o Dir::Cache::archives="$STATE/archives" -o APT::Sandbox::User=root -o Acquire::Retries=3 -o Acquire::http::Timeout=60 \
    -o Acquire::Languages=none -o DPkg::Lock::Timeout=300 "$@"
}

if [ "$HOW" = install ]; then
  if [ "$HOST" != bookworm ] || [ "$(id -u)" != 0 ]; then
    echo "$0: $* can be installed on Debian 12 as root only; install by hand" >&2
    exit 1
  fi
  cp "$SOURCES" "$STATE/sources/host.${SOURCES##*.}"
  export DEBIAN_FRONTEND=noninteractive
  private_apt update
  # Naming its own suite would keep what its security updates have away.
  [ "$SUITE" = "$HOST" ] && RELEASE=() || RELEASE=(-t "$SUITE")
  private_apt install -y --no-install-recommends "${RELEASE[@]}" "$@"
  exit
fi

DEST=$(realpath -m "$1")
shift
rm -rf "$DEST" "$DEST.part"
mkdir -p "$DEST.part/root"
: > "$STATE/status"
private_apt update
if [ "$1" = --with-dependencies ]; then
  shift
  private_apt -o Dir::State::status="$STATE/status" install -y --download-only --no-install-recommends "$@"
else
  (cd "$STATE/archives" && private_apt -o Dir::State::status="$STATE/status" download "$@")
fi
for deb in "$STATE"/archives/*.deb; do dpkg-deb -x "$deb" "$DEST.part/root"; done
mv "$DEST.part" "$DEST"
