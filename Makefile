# Names for the scripts of ci/; they are the truth and run without make as well.
# FASTRPC_EXT=require (default) tests the compiled twin, FASTRPC_EXT=off the pure one.

FASTRPC_EXT ?= require
export FASTRPC_EXT

PY := .venv/bin/python

.PHONY: help install peers test check format demo bench bench-peers callgrind soak trace sanitize leak \
	crowds kills outage simulate streams fuzz wheel js clean

help:                 ## show this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 14

install:              ## make .venv and install the project into it, editable
	@ci/install.sh

peers:                ## install the programs of others that the tests talk to (Debian, as root)
	@ci/peers.sh

test:                 ## check, then every test
	@ci/test.sh

check:                ## lint, format, types, architecture
	@ci/check.sh

format:               ## put every file into the house's format
	@ci/format.sh

demo: install         ## run what the README shows
	@$(PY) examples/demo.py README.md

bench:                ## pytest-benchmark suite, quick
	@ci/bench.sh

bench-peers: install  ## fastrpc beside other RPC libraries, one run
	@$(PY) -m pip install --quiet --disable-pip-version-check "matplotlib>=3.9"
	@$(PY) -m bench.compare.run

callgrind: install    ## instructions per call against the recorded ones
	@$(PY) -m bench.callgrind.gate $${GATE:-}

soak: install         ## load for MINUTES (default 5), memory and descriptors watched
	@MINUTES=$${MINUTES:-5} $(PY) -m tests.soak.soak

trace:                ## line coverage of both twins by tests/frame alone
	@ci/trace.sh

sanitize:             ## tests/frame under the address and undefined-behaviour sanitizers
	@ci/sanitize.sh

leak:                 ## objects and memory stay flat
	@ci/leak.sh

kills:                ## 30 rounds of SIGKILL in a cluster, 5 million calls checked; then 20 of restarting all in turn
	@ci/kills.sh

outage: install peers ## registries (etcd, ZooKeeper, Redis, our own) away for OUTAGE minutes (default 10), under load
	@$(PY) -m tests.soak.outage --minutes "$${OUTAGE:-10}"

simulate: install     ## SCHEDULES (default 100000) of the cluster's state machines, each with a seed
	@$(PY) -m tests.cluster.simulation --schedules "$${SCHEDULES:-100000}"

crowds:               ## thousands of bad peers around a server, and what a good client feels (T2, T3, T4, T9)
	@ci/crowds.sh

streams:              ## FASTRPC_STREAMS (100000) left half-way, FASTRPC_STREAM_MIB (1024) to a slow reader
	@ci/streams.sh

fuzz:                 ## property tests of the twins with EXAMPLES (default 20000) examples each
	@ci/fuzz.sh

wheel:                ## sdist and wheels into dist/, each tried in a clean venv
	@ci/wheel.sh

js:                   ## build and test the client for browsers and Node
	@cd clients/js && npm ci --no-audit --no-fund && npm test

clean:                ## remove everything that was built
	@ci/clean.sh
