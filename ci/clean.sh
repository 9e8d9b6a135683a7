#!/usr/bin/env bash
# Remove everything that was built, and the venv.
source "$(dirname "$0")/env.sh"
rm -rf .venv .venv-* build dist *.egg-info fastrpc/_*.so fastrpc/_*.pyd fastrpc/_*.c \
    fastrpc/_*.html .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis \
    .benchmarks .coverage callgrind.out.*
find . -name __pycache__ -type d -prune -exec rm -rf {} +
