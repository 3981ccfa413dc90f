#!/usr/bin/env bash
# Emacs 30.1 from bookworm-backports and tmux, onto the host; lsp-mode 10 and package-lint, pure Emacs Lisp, unpacked below
# DEST.
# usage: install-emacs.sh DEST    -> emacs and tmux on PATH, DEST/lspmode, DEST/package-lint
set -euo pipefail
DEST=$(realpath -m "${1:?usage: install-emacs.sh DEST}")
DEBIAN=$(dirname "$(realpath "$0")")/debian.sh
emacs --version 2>/dev/null | grep -q '^GNU Emacs \(29\|[3-9][0-9]\)' || "$DEBIAN" install bookworm-backports emacs-nox
command -v tmux >/dev/null || "$DEBIAN" install bookworm tmux
[ -d "$DEST/lspmode" ] || "$DEBIAN" unpack forky "$DEST/lspmode" \
  elpa-lsp-mode elpa-dash elpa-f elpa-ht elpa-s elpa-spinner elpa-markdown-mode elpa-lv
[ -d "$DEST/package-lint" ] || "$DEBIAN" unpack forky "$DEST/package-lint" elpa-package-lint elpa-compat
emacs --version | head -1
