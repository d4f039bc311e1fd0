#!/usr/bin/env bash
# Cargo runs every test program through this (see scripts/test.sh). The tests of
# package recording-tests start real servers and share the machine's clock and
# bridge: one at a time.
set -euo pipefail
[ "${CARGO_PKG_NAME:-}" != recording-tests ] || export RUST_TEST_THREADS=1
exec "$@"
