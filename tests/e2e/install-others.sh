#!/usr/bin/env bash
# Helix from Debian forky with its own libc, and ALE, a plugin of plain Vim script, unpacked below DEST; Vim and tmux, onto the
# host.
# usage: install-others.sh DEST    -> DEST/helix, DEST/ale, vim and tmux on PATH
set -euo pipefail
DEST=$(realpath -m "${1:?usage: install-others.sh DEST}")
DEBIAN=$(dirname "$(realpath "$0")")/debian.sh
for program in vim tmux; do
  command -v "$program" >/dev/null || "$DEBIAN" install bookworm "$program"
done
[ -d "$DEST/helix" ] || "$DEBIAN" unpack forky "$DEST/helix" --with-dependencies hx
[ -d "$DEST/ale" ] || "$DEBIAN" unpack forky "$DEST/ale" vim-ale
