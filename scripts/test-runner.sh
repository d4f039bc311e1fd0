#!/usr/bin/env bash
# Cargo runs every test program through this (see scripts/test.sh). The tests of
# package recording-tests start real servers and share the machine's clock and
# bridge: one at a time; two where they mostly wait.
set -euo pipefail
if [ "${CARGO_PKG_NAME:-}" = recording-tests ]; then
    case ${1##*/} in
    backup-* | codecs-* | examples-* | recordings-* | refusals-* | snapshots-* | subscriptions-*) export RUST_TEST_THREADS=2 ;;
    *) export RUST_TEST_THREADS=1 ;;
    esac
fi
exec "$@"
