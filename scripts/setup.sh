#!/usr/bin/env bash
# Installs what is missing on Debian 12, and nothing when nothing is.
# Usage: scripts/setup.sh build   what the two binaries need (make demo)
#        scripts/setup.sh test    that, and what the tests need
#        scripts/setup.sh bench   that, and what the recorder is measured beside
set -euo pipefail
cd "$(dirname "$0")/.."

build_packages=(
    gcc libc6-dev clang libclang-dev pkg-config cmake nasm protobuf-compiler
    libopus-dev libavcodec-dev libavformat-dev libavutil-dev libswresample-dev
    libswscale-dev libavfilter-dev libavdevice-dev ffmpeg
)
test_packages=(
    containerd runc containernetworking-plugins nftables iptables iproute2
    chromium jq ca-certificates
    libclang-rt-14-dev
    # promtool; Lua as Argo CD runs it
    prometheus lua5.1
)

bench_packages=(
    janus libsrtp2-dev python3-gi gir1.2-gst-plugins-bad-1.0 gstreamer1.0-nice
    gstreamer1.0-plugins-base gstreamer1.0-plugins-good gstreamer1.0-plugins-bad
    gstreamer1.0-libav gstreamer1.0-plugins-ugly gstreamer1.0-tools
)

say() { printf 'setup: %s\n' "$*" >&2; }

installed() { [ "$(dpkg-query -W -f='${db:Status-Status}' "$1" 2>/dev/null)" = installed ]; }

packages() {
    local package missing=()
    for package in "$@"; do installed "$package" || missing+=("$package"); done
    [ ${#missing[@]} -gt 0 ] || return 0
    if [ "$(id -u)" -ne 0 ]; then
        say "these packages are missing; as root run:"
        say "  apt-get update && apt-get install --yes --no-install-recommends ${missing[*]}"
        exit 1
    fi
    say "installing ${missing[*]}"
    apt-get update -qq
    # policy-rc.d: the tests start their own containerd, the system's stays off.
    local policy=/usr/sbin/policy-rc.d
    [ -e $policy ] && policy=
    [ -z "$policy" ] || { printf '#!/bin/sh\nexit 101\n' >"$policy" && chmod +x "$policy"; }
    local status=0
    DEBIAN_FRONTEND=noninteractive apt-get install -qq --yes --no-install-recommends \
        "${missing[@]}" || status=$?
    [ -z "$policy" ] || rm -f "$policy"
    return $status
}

# fresh STAMP FILE...: the stamp was made from these very files.
fresh() {
    local stamp=$1
    shift
    [ "$(cat "$stamp" 2>/dev/null)" = "$(cat "$@" | sha256sum)" ]
}

python() {
    fresh target/venv/stamp scripts/requirements.txt && return 0
    # Debian splits ensurepip off; other Pythons carry it.
    python3 -c 'import ensurepip' 2>/dev/null || packages python3-venv
    say "python packages"
    rm -rf target/venv
    python3 -m venv target/venv
    target/venv/bin/pip install --quiet --disable-pip-version-check -r scripts/requirements.txt
    cat scripts/requirements.txt | sha256sum >target/venv/stamp
}

player() {
    local files=(tests/player/package.json tests/player/package-lock.json)
    fresh target/player/stamp "${files[@]}" && return 0
    say "node packages"
    rm -rf target/player
    mkdir -p target/player
    cp "${files[@]}" target/player/
    (cd target/player && npm ci --silent --no-audit --no-fund --ignore-scripts)
    cat "${files[@]}" | sha256sum >target/player/stamp
}

case ${1:-} in
build) packages "${build_packages[@]}" ;;
test)
    packages "${build_packages[@]}" "${test_packages[@]}"
    mkdir -p target
    python
    player
    ;;
bench)
    packages "${build_packages[@]}" "${test_packages[@]}" "${bench_packages[@]}"
    mkdir -p target
    python
    ;;
*)
    say "say build, test or bench"
    exit 2
    ;;
esac
