#!/usr/bin/env bash
# Make .venv and install the project into it, editable, with its development tools.
# Does nothing when nothing changed. With FASTRPC_EXT=off no compiled twin stays importable.
source "$(dirname "$0")/env.sh"

stamp=.venv/installed
inputs=(pyproject.toml setup.py ci/install.sh)
[ "$FASTRPC_EXT" = off ] || inputs+=(fastrpc/_*.pyx fastrpc/_*.pxd)

key() {
    echo "ext=$FASTRPC_EXT debug=${FASTRPC_DEBUG:-0} root=$PWD"
    sha256sum "${inputs[@]}"
}

# Print the compiled units that lie in the tree.
compiled() { find fastrpc -maxdepth 1 -name '_*.so' -o -maxdepth 1 -name '_*.pyd' | sort; }

# Did the last run leave what this mode promises?
as_promised() {
    case "$FASTRPC_EXT" in
        require) [ "$(compiled | wc -l)" = "$(find fastrpc -maxdepth 1 -name '_*.pyx' | wc -l)" ] ;;
        off) [ -z "$(compiled)" ] ;;
        auto) true ;;
    esac
}

if [ -f "$stamp" ] && [ "$(key)" = "$(cat "$stamp")" ] && as_promised; then
    exit 0
fi

if [ ! -x "$PY" ]; then
    mapfile -t found < <(ci/pythons.sh 3.11 3.12 3.13 3.14 2>/dev/null)
    python="${PYTHON:-${found[0]:-}}"
    [ -n "$python" ] || { echo "no Python 3.11 or newer found; set PYTHON" >&2; exit 1; }
    say "new .venv with $python"
    "$python" -m venv .venv
fi

say "install fastrpc (FASTRPC_EXT=$FASTRPC_EXT)"
rm -f "$stamp" fastrpc/_*.so fastrpc/_*.pyd fastrpc/_*.c fastrpc/_*.html
rm -rf build/lib* build/temp* build/bdist*
"$PY" -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
as_promised || { echo "FASTRPC_EXT=$FASTRPC_EXT was not kept: see what lies in fastrpc/" >&2; exit 1; }
key >"$stamp"
if [ -n "$(compiled)" ]; then echo "$(compiled | wc -l) compiled units"; else echo "pure twin only"; fi
