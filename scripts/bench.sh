#!/usr/bin/env bash
# Measures what recording costs, ours beside others, and prints the table.
# Usage: scripts/bench.sh [REPETITIONS [SECONDS]]     5 repetitions of 20 s are about 25 minutes
# Results: target/bench/runs.jsonl (one line a run) and target/bench/table.md.
# On a machine that others measure on too, BENCH_LOCK names a file to lock for each run.
set -euo pipefail
cd "$(dirname "$0")/.."

repetitions=${1:-5} seconds=${2:-20}
folder=target/bench
runs=$folder/runs.jsonl
bench=target/release/recording-bench
# What, and how many participants: in turn, so that a change of the machine's speed meets all of them.
subjects=(
    "recorder 1" "gstreamer 1" "janus 1" "mediamtx 1" "floor 1"
    "recorder 10" "janus 10" "mediamtx 10" "floor 10"
    "recorder 30"
)

# A run in which media did not arrive measures nothing: it is told and done again.
measure() {
    for try in 1 2 3; do
        ${BENCH_LOCK:+flock "$BENCH_LOCK"} "$bench" --runs "$runs" run "$1" --participants "$2" --seconds "$seconds" && return
        printf 'bench: try %d of %s, %d is no measurement\n' "$try" "$1" "$2" >&2
    done
    return 1
}

mkdir -p "$folder"
[ ! -e "$runs" ] || mv "$runs" "$folder/runs.$(date -r "$runs" +%Y%m%d%H%M%S).jsonl"
"$bench" prepare
for ((n = 1; n <= repetitions; n++)); do
    for subject in "${subjects[@]}"; do
        read -r what participants <<<"$subject"
        printf 'bench: %d of %d: %s, %d\n' "$n" "$repetitions" "$what" "$participants" >&2
        measure "$what" "$participants"
    done
done

processor=$(awk -F': ' '/^model name/ { print $2; exit }' /proc/cpuinfo)
{
    printf '%s, %s processors, Linux %s. ' "$processor" "$(nproc)" "$(uname -r)"
    printf '%s runs of %s s each; figures are min / median / max.\n\n' "$repetitions" "$seconds"
    "$bench" --runs "$runs" table
    printf '\nVersions: LiveKit %s, Janus %s, MediaMTX %s, GStreamer %s, libavcodec %s, libsrtp %s.\n' \
        "$(awk '$1 == "require" && /livekit-server/ { print $3 }' tests/tools/livekit/go.mod)" \
        "$(dpkg-query -W -f='${Version}' janus)" \
        "$(awk '$1 == "require" && /mediamtx/ { print $3 }' tests/tools/mediamtx/go.mod)" \
        "$(dpkg-query -W -f='${Version}' gstreamer1.0-plugins-bad)" \
        "$(dpkg-query -W -f='${Version}' libavcodec-dev)" \
        "$(dpkg-query -W -f='${Version}' libsrtp2-dev)"
} | tee "$folder/table.md"
