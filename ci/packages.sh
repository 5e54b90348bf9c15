#!/usr/bin/env bash
# Installs what only some tests need, where that is possible: a browser for the page of `stress`, and the programs that
# run on the allocator in `preload/tests/programs`. Without them those tests say that they were skipped.
set -euo pipefail

packages=()
# Asks for a package unless one of these programs is there; where it installs them, it need not be on the PATH.
want() {
    local package=$1 program
    shift
    for program in "$@"; do
        if command -v "$program" || compgen -G "/usr/lib/postgresql/*/bin/$program"; then return; fi
    done >/dev/null
    packages+=("$package")
}
want chromium chromium chromium-browser google-chrome
want git git
want gcc gcc
want g++ g++
want python3 python3
want perl perl
want sqlite3 sqlite3
want redis-server redis-server
want redis-tools redis-benchmark
want postgresql pgbench
want nginx-light nginx
want curl curl
want nodejs node
want default-jdk-headless javac
want xz-utils xz
want zip zip
if [ "${#packages[@]}" = 0 ]; then exit 0; fi
if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
    echo "no way to install: ${packages[*]}"
    exit 0
fi

# No service is to start because its package was installed.
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
    trap 'rm -f "$policy"' EXIT
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod 755 "$policy"
fi
export DEBIAN_FRONTEND=noninteractive
options=(-qy --no-install-recommends -o DPkg::Lock::Timeout=120 -o Acquire::Retries=2)
apt-get update -q >/dev/null || true
known=()
for package in "${packages[@]}"; do
    if apt-cache show "$package" >/dev/null 2>&1; then known+=("$package"); else echo "unknown here: $package"; fi
done
if [[ " ${known[*]} " == *" chromium "* ]]; then known+=(fonts-dejavu-core); fi
if ! apt-get install "${options[@]}" "${known[@]}" >/dev/null; then
    # One that cannot be installed must not keep the others out.
    for package in "${known[@]}"; do
        apt-get install "${options[@]}" "$package" >/dev/null || echo "could not be installed: $package"
    done
fi
