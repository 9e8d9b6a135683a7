#!/usr/bin/env bash
# An sdist, a wheel from that sdist for each Python found, and each wheel tried in a clean
# venv in which no compiler can be reached.
source "$(dirname "$0")/env.sh"
FASTRPC_EXT=require ci/install.sh
export FASTRPC_EXT=require
rm -rf dist build/wheel
mkdir -p dist build/wheel

say "sdist"
"$PY" -m build --sdist --outdir dist . >build/wheel/sdist.log 2>&1 || {
    cat build/wheel/sdist.log >&2
    exit 1
}
sdist=$(ls "$PWD"/dist/fastrpc-*.tar.gz)
smoke="$PWD/ci/smoke.py"
mapfile -t pythons < <(ci/pythons.sh 3.11 3.12 3.13)
[ "${#pythons[@]}" -gt 0 ] || { echo "no Python to build for" >&2; exit 1; }

for python in "${pythons[@]}"; do
    version=$("$python" -c 'import sys; print("%d%d" % sys.version_info[:2])')
    room="$PWD/build/wheel/$version"
    say "wheel for cp$version"
    "$python" -m venv "$room/builder"
    "$room/builder/bin/python" -m pip wheel --quiet --disable-pip-version-check --no-deps \
        --wheel-dir dist "$sdist"
    wheel=$(ls "$PWD"/dist/fastrpc-*-cp"$version"-*.whl)
    "$python" -m venv "$room/clean"
    mkdir "$room/empty"
    # PATH has the venv alone: whatever wants to compile fails at once.
    (
        cd "$room/empty"
        clean() { env -i HOME="$room/empty" PATH="$room/clean/bin" CC=false CXX=false "$@"; }
        pip_options=()
        for name in ${!PIP_@}; do pip_options+=("$name=${!name}"); done
        clean "${pip_options[@]}" "$room/clean/bin/python" -m pip install --quiet \
            --disable-pip-version-check --only-binary :all: "$wheel"
        clean "$room/clean/bin/python" -I "$smoke"
    )
done
say "dist"
ls -l dist
