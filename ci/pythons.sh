#!/usr/bin/env bash
# Print the interpreters for the versions asked for that exist here, one path a line.
# Looks at PATH first, then at pyenv's versions. Usage: ci/pythons.sh 3.11 3.12
set -euo pipefail

works() { [ "$("$1" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null)" = "$2" ]; }

find_one() {
    local candidate
    for candidate in \
        "$(command -v "python$1" || true)" \
        "$(command -v python3 || true)" \
        "${PYENV_ROOT:-$HOME/.pyenv}"/versions/"$1".*/bin/python; do
        if [ -n "$candidate" ] && [ -x "$candidate" ] && works "$candidate" "$1"; then
            echo "$candidate"
            return
        fi
    done
    echo "python $1: not found here" >&2
}

for version in "$@"; do
    find_one "$version"
done
