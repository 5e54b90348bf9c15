#!/usr/bin/env bash
# Format, lints and documentation, all without warnings.
set -euo pipefail
cd "$(dirname "$0")/.."
echo "== format"
cargo fmt --all --check
echo "== clippy"
cargo clippy --workspace --all-targets -- -D warnings
features=antifreeze/metrics,antifreeze/metrics-http
# The packages in which a feature changes code; the others would only be looked at once more.
packages=(-p antifreeze -p allocator-bench)
cargo clippy "${packages[@]}" --all-targets --features "$features,allocator-bench/bench-internals" -- -D warnings
echo "== docs"
RUSTDOCFLAGS="-D warnings" cargo doc --workspace --features "$features" --no-deps --document-private-items
