#!/usr/bin/env bash
# Installs what the tests of VS Code need into a folder: install.sh DEST, with node and npm on PATH.
# Chromium comes from Debian; code-server, which is VS Code behind a browser, from npm without its install scripts, so
# that nothing is compiled or downloaded outside npm. What that leaves out: a native logger, and ripgrep.
set -euo pipefail
HERE=$(dirname "$(realpath "$0")")
ROOT=$(realpath "$HERE/../../..")
mkdir -p "$1"
DEST=$(realpath "$1")
export NPM_CONFIG_AUDIT=false NPM_CONFIG_FUND=false NPM_CONFIG_UPDATE_NOTIFIER=false NPM_CONFIG_LOGLEVEL=error
export NPM_CONFIG_IGNORE_SCRIPTS=true DEBIAN_FRONTEND=noninteractive

if ! command -v chromium >/dev/null; then
  apt-get update -qq
  apt-get install -y -qq --no-install-recommends chromium fonts-dejavu-core >/dev/null
fi

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

cd "$ROOT/editors/vscode"
npm ci
npm run package
