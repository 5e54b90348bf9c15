#!/usr/bin/env bash
# The README's test command, which includes the loom models, with every peer where there is a C++ compiler; the unit
# tests of the features; the examples, each of which must end by itself; then how many tests said that they were skipped,
# and why.
set -euo pipefail
cd "$(dirname "$0")/.."
log=$(mktemp)
trap 'rm -f "$log"' EXIT
status=0
if command -v c++ >/dev/null; then
    # They are to play, not to be fast.
    export CXXFLAGS="-O0 -g0"
    peers=(--features allocator-bench/all-peers)
else
    echo "skipped: no C++ compiler for the peers that are written in C++" | tee -a "$log"
    peers=()
fi
cargo test --workspace "${peers[@]}" --no-fail-fast 2>&1 | tee -a "$log" || status=$?
features=metrics,metrics-http
cargo test -p antifreeze --features "$features" --lib metrics 2>&1 | tee -a "$log" || status=$?
cargo build -p antifreeze --examples --features "$features" || status=$?
echo "== examples"
for example in "five_lines" "prewarm" "metrics -- --once"; do
    # shellcheck disable=SC2086
    timeout 120 cargo run -q -p antifreeze --features "$features" --example $example 2>&1 | tee -a "$log" || status=$?
done
echo "== summary"
grep -E '^test result:' "$log" || true
echo "skipped tests: $(grep -c 'skipped: ' "$log" || true)"
grep 'skipped: ' "$log" | sort | uniq -c || true
exit "$status"
