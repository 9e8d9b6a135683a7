#!/usr/bin/env bash
# Everything that can be said about the code without running it, and the house rules.
source "$(dirname "$0")/env.sh"
ci/install.sh

say "ruff"
"$BIN/ruff" check .
"$BIN/ruff" format --check .
say "mypy --strict"
"$BIN/mypy" --strict fastrpc fastrpc_pytest.py
say "pyright, public face"
# pyright runs on node: the machine's own if there is one, else it fetches one.
"$BIN/pyright" fastrpc/__init__.py tests/typing/accept
PATH="$BIN:$PATH" "$PY" ci/public_types.py
say "import contract"
"$BIN/lint-imports"
say "tests/arch"
"$PY" -m pytest -q tests/arch
