#!/usr/bin/env bash
# Runs the fuzz targets of fuzz/ under libFuzzer, two at a time.
# Usage: scripts/fuzz.sh SECONDS [TARGET]...       SECONDS for each target (default: all of them)
#        scripts/fuzz.sh --minimise [TARGET]...    what was learned -> fuzz/corpus, as few inputs as reach every edge
# With FUZZ_SEED=<number> the same inputs are tried each time, as far as the seconds go.
# What was learned is kept in target/fuzz/corpus, an input that was found wrong in target/fuzz/crashes: run it again with
#        FUZZ_TARGET=<target> target/release/libfuzzer <file>
# and, once fixed, keep it in fuzz/corpus/<target>.
set -euo pipefail
cd "$(dirname "$0")/.."

program=$PWD/target/release/libfuzzer
out=$PWD/target/fuzz

# Debian's libFuzzer and coverage counters for this workspace's own crates; everything below them is the ordinary build's.
build() {
    RUSTC_WORKSPACE_WRAPPER=$PWD/scripts/sancov-rustc.sh \
        cargo build --release --workspace --features recording-fuzz/libfuzzer --bin libfuzzer
}

# target SECONDS NAME: one run; prints a line, fails when something was found.
target() {
    local seconds=$1 name=$2 log=$out/$2.log status=0 options=()
    mkdir -p "$out/corpus/$name" "$out/crashes"
    [ -z "${FUZZ_SEED:-}" ] || options+=("-seed=$FUZZ_SEED")
    [ ! -e "fuzz/dictionaries/$name.dict" ] || options+=("-dict=fuzz/dictionaries/$name.dict")
    FUZZ_TARGET=$name "$program" -max_total_time="$seconds" -max_len=16384 -len_control=20 -timeout=30 \
        -rss_limit_mb=1024 -print_final_stats=1 -artifact_prefix="$out/crashes/$name-" "${options[@]}" \
        "$out/corpus/$name" "fuzz/corpus/$name" >"$log" 2>&1 || status=$?
    awk -v name="$name" -v status=$status '
        / cov: / { for (i = 1; i < NF; i++) { if ($i == "cov:") edges = $(i + 1); if ($i == "corp:") corpus = $(i + 1) } }
        /stat::number_of_executed_units:/ { runs = $2 }
        /^Done / { seconds = $5 }
        END { printf "fuzz: %-14s %9d runs in %4d s, %5d edges, corpus %s%s\n",
              name, runs, seconds, edges, corpus, status ? ", FOUND SOMETHING" : "" }' "$log"
    if [ "$status" -ne 0 ]; then
        grep -aE -A 1 'panicked at|SUMMARY: |Test unit written' "$log" >&2 || tail -n 20 "$log" >&2
    fi
    return "$status"
}

minimise() {
    local name=$1 fresh
    fresh=$(mktemp -d "$out/minimised.XXXX")
    mkdir -p "$out/corpus/$name" "fuzz/corpus/$name"
    FUZZ_TARGET=$name "$program" -use_counters=0 -set_cover_merge=1 -max_len=16384 "$fresh" "fuzz/corpus/$name" "$out/corpus/$name" >"$out/$name.log" 2>&1
    rm -rf "fuzz/corpus/$name"
    mv "$fresh" "fuzz/corpus/$name"
    chmod 755 "fuzz/corpus/$name"
    echo "fuzz: $name $(find "fuzz/corpus/$name" -type f | wc -l) inputs, $(du -sb "fuzz/corpus/$name" | cut -f1) bytes"
}

case ${1:-} in
--target) target "$2" "$3" ;;
--minimise | [0-9]*)
    what=$1
    shift
    [ $# -gt 0 ] || mapfile -t names < <(ls fuzz/corpus)
    [ $# -eq 0 ] || names=("$@")
    mkdir -p "$out"
    build
    if [ "$what" = --minimise ]; then
        for name in "${names[@]}"; do minimise "$name"; done
    else
        printf '%s\n' "${names[@]}" | xargs -n 1 -P 2 "$0" --target "$what"
    fi
    ;;
*)
    echo "fuzz: say how many seconds each target may run" >&2
    exit 2
    ;;
esac
