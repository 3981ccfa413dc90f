#!/usr/bin/env bash
# Emacs 30.1 from bookworm-backports, onto the host; lsp-mode 10 and package-lint, pure Emacs Lisp, unpacked below DEST.
# usage: install-emacs.sh DEST    -> emacs on PATH, DEST/lspmode, DEST/package-lint
set -euo pipefail
DEST=$(realpath -m "${1:?usage: install-emacs.sh DEST}")
HERE=$(dirname "$(realpath "$0")")
if ! emacs --version 2>/dev/null | grep -q '^GNU Emacs \(29\|[3-9][0-9]\)'; then
  URI=$(awk '/^URIs:/ {print $2; exit}' /etc/apt/sources.list.d/debian.sources)
  cat > /etc/apt/sources.list.d/bookworm-backports.sources <<SOURCES
Types: deb
URIs: $URI
Suites: bookworm-backports
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg
SOURCES
  apt-get update -q
  DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends -t bookworm-backports emacs-nox
fi
command -v tmux >/dev/null || DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends tmux
[ -d "$DEST/lspmode/root" ] || "$HERE/unpack-debian.sh" "$DEST/lspmode" forky \
  elpa-lsp-mode elpa-dash elpa-f elpa-ht elpa-s elpa-spinner elpa-markdown-mode elpa-lv
[ -d "$DEST/package-lint/root" ] || "$HERE/unpack-debian.sh" "$DEST/package-lint" forky elpa-package-lint elpa-compat
emacs --version | head -1
