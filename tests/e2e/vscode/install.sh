#!/usr/bin/env bash
# Installs what the tests of VS Code need into a folder: install.sh DEST, with node and npm on PATH.
# Chromium comes from Debian; code-server, which is VS Code behind a browser, from npm without its install scripts, so
# that nothing is compiled or downloaded outside npm. What that leaves out: a native logger, and ripgrep.
set -euo pipefail
HERE=$(dirname "$(realpath "$0")")
mkdir -p "$1"
DEST=$(realpath "$1")
export NPM_CONFIG_AUDIT=false NPM_CONFIG_FUND=false NPM_CONFIG_UPDATE_NOTIFIER=false NPM_CONFIG_LOGLEVEL=error
export NPM_CONFIG_IGNORE_SCRIPTS=true NPM_CONFIG_FETCH_RETRIES=4

command -v chromium >/dev/null || "$HERE/../debian.sh" install bookworm chromium fonts-dejavu-core

if ! cmp -s "$HERE/package-lock.json" "$DEST/installed"; then
  rm -rf "$DEST/node_modules" "$DEST/installed"
  cp "$HERE/package.json" "$HERE/package-lock.json" "$DEST"
  (cd "$DEST" && npm ci)
  for inner in lib/vscode lib/vscode/extensions; do
    # Not `npm ci`: of the published packages one lock file is out of step with its manifest.
    (cd "$DEST/node_modules/code-server/$inner" && npm install --omit=dev)
  done
  cp "$HERE/package-lock.json" "$DEST/installed"
fi

cd "$HERE/../../../editors/vscode"
npm ci
