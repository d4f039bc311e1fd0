#!/bin/sh
# rustc for this workspace's own crates, with the coverage counters that libFuzzer steers by (see scripts/fuzz.sh).
# Cargo keeps what a RUSTC_WORKSPACE_WRAPPER makes apart from ordinary builds, and what it does not wrap is shared.
case " $* " in
*" --crate-name libfuzzer "*) link="-C linker=clang -C link-arg=-fsanitize=fuzzer" ;;
*) link= ;;
esac
# shellcheck disable=SC2086 # words
exec "$@" $link -C passes=sancov-module -C llvm-args=-sanitizer-coverage-level=4 \
    -C llvm-args=-sanitizer-coverage-inline-8bit-counters -C llvm-args=-sanitizer-coverage-pc-table \
    -C llvm-args=-sanitizer-coverage-trace-compares
