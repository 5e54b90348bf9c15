#!/usr/bin/env bash
# The README's test command, which includes the loom models; the unit tests of the features; then how many tests said
# that they were skipped, and why.
set -euo pipefail
cd "$(dirname "$0")/.."
log=$(mktemp)
trap 'rm -f "$log"' EXIT
status=0
cargo test --workspace 2>&1 | tee "$log" || status=$?
cargo test -p antifreeze --features metrics,metrics-http --lib metrics 2>&1 | tee -a "$log" || status=$?
echo "== summary"
grep -E '^test result:' "$log" || true
echo "skipped tests: $(grep -c 'skipped: ' "$log" || true)"
grep 'skipped: ' "$log" | sort | uniq -c || true
exit "$status"
