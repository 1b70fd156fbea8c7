#!/usr/bin/env bash
# Runs each fuzz target for FUZZ_SECONDS (60) and fails on the first finding, which it keeps. Needs no nightly compiler:
# the instruments are LLVM's own pass, and Rust without `unsafe` needs no sanitizer.
set -euo pipefail
cd "$(dirname "$0")"
target=$(rustc -vV | sed -n 's/^host: //p')
base=$(cd "${CARGO_TARGET_DIR:-target}" 2>/dev/null && pwd || echo "${CARGO_TARGET_DIR:-$PWD/target}")
export CARGO_TARGET_DIR="$base/fuzz"
export RUSTFLAGS="-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
-Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
-Cllvm-args=-sanitizer-coverage-trace-compares -Ccodegen-units=1 --cfg fuzzing"
# With a target named, programs that only run while building are left without instruments.
cargo build --locked --release --target "$target"
for name in modelfile gguf manifest ndjson selector patch request events provider; do
    corpus="$CARGO_TARGET_DIR/corpus/$name"
    mkdir -p "$corpus" "$CARGO_TARGET_DIR/findings"
    echo "fuzz: $name for ${FUZZ_SECONDS:-60} s"
    "$CARGO_TARGET_DIR/$target/release/$name" "$corpus" "seeds/$name" -max_total_time="${FUZZ_SECONDS:-60}" \
        -max_len=8192 -timeout=10 -rss_limit_mb=512 -print_final_stats=1 -verbosity=0 \
        -artifact_prefix="$CARGO_TARGET_DIR/findings/$name-"
done
