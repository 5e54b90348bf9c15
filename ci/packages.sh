#!/usr/bin/env bash
# Installs what only some tests need, where that is possible: a browser for the page of `stress`. Without it those tests
# say that they were skipped.
set -euo pipefail
for browser in chromium chromium-browser google-chrome; do
    if command -v "$browser" >/dev/null; then exit 0; fi
done
if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
    echo "no browser, and no way to install one"
    exit 0
fi
export DEBIAN_FRONTEND=noninteractive
{ apt-get update -q && apt-get install -qy --no-install-recommends chromium fonts-dejavu-core; } >/dev/null ||
    echo "the browser could not be installed"
