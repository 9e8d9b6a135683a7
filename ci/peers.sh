#!/usr/bin/env bash
# Install the programs of others that tests/interop talks to, where that can be done: Debian or
# Ubuntu, as root or with sudo that asks nothing. Elsewhere say what is missing; tests that need
# it are skipped then (in CI a skip is a failure).
source "$(dirname "$0")/env.sh"

# What is looked for -> the Debian package that has it.
declare -A peers=(
    [curl]=curl [openssl]=openssl [tinyproxy]=tinyproxy [squid]=squid [haproxy]=haproxy
    [nginx]=nginx-light [nvim]=neovim [promtool]=prometheus [go]=golang-go [chromium]=chromium
    [node]=nodejs [npm]=npm [etcd]=etcd-server [etcdctl]=etcd-client [redis-server]=redis-server
    [java]=default-jre-headless [zkServer.sh]=zookeeper [nft]=nftables [ip]=iproute2
)

missing=()
for program in "${!peers[@]}"; do
    PATH="$PATH:/usr/sbin:/sbin:/usr/share/zookeeper/bin" command -v "$program" >/dev/null || missing+=("${peers[$program]}")
done
if [ "${#missing[@]}" = 0 ]; then exit 0; fi

as_root() { if [ "$(id -u)" = 0 ]; then "$@"; else sudo -n "$@"; fi; }
if command -v apt-get >/dev/null && { [ "$(id -u)" = 0 ] || sudo -n true 2>/dev/null; }; then
    say "install ${missing[*]}"
    as_root apt-get update -qq
    # Their services are not to be started: the tests start what they need, on ports of their own.
    policy=/usr/sbin/policy-rc.d
    [ -e "$policy" ] || printf '#!/bin/sh\nexit 101\n' | as_root tee "$policy" >/dev/null
    as_root chmod +x "$policy"
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
        "${missing[@]}" >/dev/null
else
    echo "not installed, and their tests are skipped: ${missing[*]}" >&2
fi
