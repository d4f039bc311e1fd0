#!/usr/bin/env bash
# Makes a container image without a container engine: an archive in Docker's
# format, which containerd, Podman, kind and Docker all load. The same binaries
# give the same bytes.
# Usage: scripts/image.sh operator   target/image/recording-operator.tar
#        scripts/image.sh pause      target/image/pause.tar, the sandbox image of the tests
# BIN=dir takes the operator's binaries from elsewhere than target/release.
set -euo pipefail
cd "$(dirname "$0")/.."
umask 022

out=$PWD/target/image
mkdir -p "$out"
work=$(mktemp -d "$out/work.XXXX")
trap 'rm -rf "$work"' EXIT
root=$work/root
mkdir -p "$root"

say() { printf 'image: %s\n' "$*" >&2; }

# pack SOURCE TARGET: a tar that depends on nothing but names and contents.
pack() {
    tar --create --format=gnu --sort=name --mtime=@0 --owner=0 --group=0 \
        --numeric-owner --directory "$1" --file "$2" .
}

sum() { sha256sum "$1" | cut -d' ' -f1; }

# libraries BINARY...: every shared object that they load, the loader included.
libraries() {
    local listing
    listing=$(ldd "$@")
    if grep 'not found' <<<"$listing" >&2; then
        say "a shared library is missing"
        exit 1
    fi
    awk '$2 == "=>" { print $3 } $1 ~ "^/.*\\.so" { print $1 }' <<<"$listing" |
        grep -v ':$' | sort -u
}

# archive NAME:TAG FILE JQ-CONFIG: one layer from $root and what goes around it.
archive() {
    local tag=$1 file=$2 config=$3 layer config_sum
    mkdir -p "$work/archive"
    pack "$root" "$work/layer.tar"
    layer=$(sum "$work/layer.tar")
    mv "$work/layer.tar" "$work/archive/$layer.tar"
    jq --null-input --sort-keys --compact-output --arg layer "$layer" --arg arch "$(arch)" \
        '{architecture: $arch, os: "linux", created: "1970-01-01T00:00:00Z",
          config: '"$config"', rootfs: {type: "layers", diff_ids: ["sha256:" + $layer]},
          history: [{created: "1970-01-01T00:00:00Z", comment: "scripts/image.sh"}]}' \
        >"$work/config.json"
    config_sum=$(sum "$work/config.json")
    mv "$work/config.json" "$work/archive/$config_sum.json"
    jq --null-input --compact-output --arg tag "$tag" --arg layer "$layer" --arg config "$config_sum" \
        '[{Config: ($config + ".json"), RepoTags: [$tag], Layers: [$layer + ".tar"]}]' \
        >"$work/archive/manifest.json"
    pack "$work/archive" "$work/$file"
    mv "$work/$file" "$out/$file"
    say "$tag, $(du -h "$out/$file" | cut -f1), target/image/$file"
}

arch() {
    case $(uname -m) in
    x86_64) echo amd64 ;;
    aarch64) echo arm64 ;;
    *) uname -m ;;
    esac
}

workspace_version() {
    awk -F'"' '/^\[/ { section = $0 } section == "[workspace.package]" && /^version/ { print $2 }' Cargo.toml
}

operator() {
    local bin=${BIN:-target/release} program library
    mkdir -p "$root/usr/local/bin" "$root/etc/ssl/certs" "$root/tmp"
    for program in recording-operator recorder; do
        [ -x "$bin/$program" ] || { say "$bin/$program is missing: make build" && exit 1; }
        strip -o "$root/usr/local/bin/$program" "$bin/$program"
    done
    libraries "$bin/recording-operator" "$bin/recorder" >"$work/libraries"
    while read -r library; do
        install -D -m 755 "$library" "$root$library"
    done <"$work/libraries"
    install -m 644 /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/certs/"
    echo 'root:x:0:0:root:/:/sbin/nologin' >"$root/etc/passwd"
    echo 'nonroot:x:65532:65532:nonroot:/tmp:/sbin/nologin' >>"$root/etc/passwd"
    printf 'root:x:0:\nnonroot:x:65532:\n' >"$root/etc/group"
    # Without it glibc asks DNS before /etc/hosts, where the kubelet writes hostAliases.
    echo 'hosts: files dns' >"$root/etc/nsswitch.conf"
    chmod 1777 "$root/tmp"
    # The files must be enough for the loader by themselves; chroot needs root.
    if [ "$(id -u)" -eq 0 ]; then
        local loader
        loader=$(grep -m1 '/ld-linux' "$work/libraries")
        for program in recording-operator recorder; do
            chroot "$root" "$loader" --list "/usr/local/bin/$program" >/dev/null
        done
    fi
    archive "recording-operator:$(workspace_version)" recording-operator.tar \
        '{User: "65532:65532", Entrypoint: ["/usr/local/bin/recording-operator"], WorkingDir: "/tmp",
          Env: ["PATH=/usr/local/bin", "SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt"]}'
}

pause() {
    local bin=target/tools/bin/pause
    [ -x "$bin" ] || { say "$bin is missing: make tools" && exit 1; }
    install -m 755 "$bin" "$root/pause"
    archive localhost/pause:1 pause.tar '{User: "65532:65532", Entrypoint: ["/pause"]}'
}

case ${1:-operator} in
operator | pause) "${1:-operator}" ;;
*)
    say "say operator or pause"
    exit 2
    ;;
esac
