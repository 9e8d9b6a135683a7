#!/usr/bin/env bash
# Put every file into the house's format.
source "$(dirname "$0")/env.sh"
ci/install.sh
"$BIN/ruff" check --fix-only --quiet .
"$BIN/ruff" format .
