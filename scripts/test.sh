#!/usr/bin/env bash
# Builds and runs all tests; the last line is the sum of what cargo and the fuzzer reported.
# Usage: scripts/test.sh [cargo test arguments]    without any, the fuzz targets run as well
set -euo pipefail
cd "$(dirname "$0")/.."

FUZZ_SECONDS=8

# Go builds the servers while Rust compiles: either keeps one core only for minutes.
mkdir -p target
{ scripts/tools.sh && scripts/image.sh pause; } >target/tools.log 2>&1 &
tools=$!
trap 'kill "$tools" 2>/dev/null || true' EXIT
cargo build --release --workspace
scripts/image.sh operator
cargo test --release --workspace --no-run "$@"
status=0
wait "$tools" || status=$?
trap - EXIT
cat target/tools.log
[ "$status" -eq 0 ] || { echo "test: the servers under test could not be built" >&2; exit 1; }

# Errors say where they come from in words; a stack of each would bury them in the log.
export RUST_BACKTRACE=0

log=target/test.log
# One selection of packages, so that no dependency is built twice with other
# features; scripts/test-runner.sh tells the packages apart.
CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUNNER=$PWD/scripts/test-runner.sh \
    cargo test --release --workspace --no-fail-fast "$@" 2>&1 | tee "$log" || status=$?

read -r passed failed < <(awk '
    /^test result:/ { passed += $4; failed += $6 }
    END { print passed + 0, failed + 0 }' "$log")
# A test program that does not compile or that dies writes no result line.
if [ "$status" -ne 0 ] && [ "$failed" -eq 0 ]; then
    echo "test: a test program did not build or died before its result" >&2
    failed=1
fi

# Each fuzz target for some seconds; what it once found is among the tests above. The same inputs each time: a gate does not explore.
if [ $# -eq 0 ]; then
    export FUZZ_SEED=1
    targets=$(find fuzz/corpus -mindepth 1 -maxdepth 1 -type d | wc -l)
    scripts/fuzz.sh "$FUZZ_SECONDS" 2>&1 | tee target/fuzz.log || true
    clean=$(grep -c '^fuzz: .* edges, corpus [^,]*$' target/fuzz.log || true)
    passed=$((passed + clean)) failed=$((failed + targets - clean))
fi
# What went wrong, once more and in short: the log is long, and often only its end is kept.
awk '
    /^---- .* ----$/ { print; lines = 6; next }
    /^(Stack backtrace:|failures:)/ || NF == 0 && lines < 6 { lines = 0 }
    lines > 0 && NF > 0 { print substr($0, 1, 600); lines-- }' "$log"
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
