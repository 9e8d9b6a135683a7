# What every script of ci/ starts with; sourced, not run.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
export FASTRPC_EXT="${FASTRPC_EXT:-require}"
case "$FASTRPC_EXT" in
    auto | off | require) ;;
    *)
        echo "FASTRPC_EXT must be auto, off or require; got '$FASTRPC_EXT'" >&2
        exit 2
        ;;
esac
# pytest-xdist wants every process to find the same tests in the same order.
export PYTHONHASHSEED="${PYTHONHASHSEED:-0}"
BIN="$PWD/.venv/bin"
PY="$BIN/python"

say() { printf '\n== %s\n' "$*"; }

# A copy of the sources in build/NAME, to be built in a way the tree itself is not.
copy_tree() {
    rm -rf "build/$1"
    mkdir -p "build/$1"
    tar -c --exclude='*.so' --exclude='__pycache__' --exclude='fastrpc/*.c' --exclude='fastrpc/*.html' \
        pyproject.toml setup.py fastrpc_pytest.py README.md LICENSE fastrpc tests | tar -x -C "build/$1"
}
