#!/usr/bin/env bash
# tests/frame on a build with the address and undefined-behaviour sanitizers.
source "$(dirname "$0")/env.sh"
FASTRPC_EXT=require ci/install.sh
copy_tree sanitize
cd build/sanitize
export FASTRPC_EXT=require
FASTRPC_SANITIZE=1 "$PY" setup.py -q build_ext --inplace
grep -q __asan_init fastrpc/_*.so || { echo "the build has no sanitizer in it" >&2; exit 1; }
cc="${CC:-gcc}"
# Python is not built with the sanitizers, so they must be there before it starts. Its own
# allocator would hide our errors; its arenas at exit would read as leaks.
export LD_PRELOAD="$($cc -print-file-name=libasan.so):$($cc -print-file-name=libubsan.so)"
export PYTHONMALLOC=malloc
export ASAN_OPTIONS=detect_leaks=0:abort_on_error=1:strict_string_checks=1
export UBSAN_OPTIONS=print_stacktrace=1:halt_on_error=1
"$PY" -c 'import fastrpc._frame as f; assert "/build/sanitize/" in f.__file__, f.__file__'
say "tests/frame, sanitized"
# What is slow repeats what is quick, many times over; it runs without the sanitizers.
# A sanitizer sees nothing in plain Python: what runs on the pure twin alone is left out.
"$PY" -m pytest -q -p no:cacheprovider --timeout=600 -m "not slow" -k "not pure" tests/frame "$@"
