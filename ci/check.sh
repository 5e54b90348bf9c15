#!/usr/bin/env bash
# Format, lints and documentation, all without warnings.
set -euo pipefail
cd "$(dirname "$0")/.."
echo "== format"
cargo fmt --all --check
echo "== clippy"
cargo clippy --workspace --all-targets -- -D warnings
cargo clippy -p antifreeze --all-targets --features metrics,metrics-http -- -D warnings
cargo clippy -p allocator-bench --all-targets --features bench-internals -- -D warnings
echo "== docs"
RUSTDOCFLAGS="-D warnings" cargo doc --workspace --features antifreeze/metrics,antifreeze/metrics-http --no-deps --document-private-items
