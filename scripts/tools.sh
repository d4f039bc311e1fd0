#!/usr/bin/env bash
# Builds the real servers under test, and the publisher that loads them, into
# target/tools/bin, from the Go modules pinned in tests/tools/*/go.mod. What was built from the same sums is kept.
# mediamtx and floor are for benchmarks and built only when named.
# Usage: scripts/tools.sh [kubernetes|livekit|witness|versitygw|helm|load|kstatus|monitoring|pause|mediamtx|floor]...
set -euo pipefail
cd "$(dirname "$0")/.."

root=$PWD
bin=$root/target/tools/bin
stamps=$root/target/tools/stamps
mkdir -p "$bin" "$stamps"
# Two builds at once would only fight for the cores.
exec 9>"$root/target/tools/lock"
flock 9

export CGO_ENABLED=0

say() { printf 'tools: %s\n' "$*" >&2; }

# version FAMILY MODULE: the version that go.mod requires.
version() {
    awk -v module="$2" '{ sub(/^require /, "") } $1 == module { print $2; exit }' \
        "tests/tools/$1/go.mod"
}

# stamp FAMILY: what the programs of a family are made of. Our own recipe counts too.
stamp() {
    { cat "tests/tools/$1"/* scripts/tools.sh; go version; } | sha256sum | cut -d' ' -f1
}

# current FAMILY PROGRAM...: everything is there and made of the same parts.
current() {
    local family=$1 program
    shift
    [ "$(cat "$stamps/$family" 2>/dev/null)" = "$(stamp "$family")" ] || return 1
    for program in "$@"; do [ -x "$bin/$program" ] || return 1; done
}

# compile FAMILY LDFLAGS PACKAGE=PROGRAM...
compile() {
    local family=$1 flags=$2 out pair package program started=$SECONDS
    shift 2
    local packages=() programs=()
    for pair in "$@"; do packages+=("${pair%=*}") programs+=("${pair##*=}"); done
    if current "$family" "${programs[@]}"; then
        say "$family: already built"
        return
    fi
    say "$family: building ${programs[*]}"
    rm -f "$stamps/$family"
    out=$(mktemp -d "$root/target/tools/$family.XXXX")
    # One invocation for the whole family: while one program links, others compile.
    (cd "tests/tools/$family" &&
        go build -trimpath -buildvcs=false -ldflags "-s -w $flags" -o "$out/" "${packages[@]}")
    for pair in "$@"; do
        package=${pair%=*} program=${pair##*=}
        # Go names a program after the last element that is not a major version.
        [[ ${package##*/} =~ ^v[0-9]+$ ]] && package=${package%/*}
        # A rename, so that a running server of an earlier build is not disturbed.
        mv -f "$out/${package##*/}" "$bin/$program"
    done
    rmdir "$out"
    stamp "$family" >"$stamps/$family"
    say "$family: built in $((SECONDS - started)) s"
}

kubernetes() {
    local v flags='' key
    v=$(version kubernetes k8s.io/kubernetes)
    # Without these the node reports v0.0.0-master and version skew checks misfire.
    local minor=${v#v1.}
    for key in "gitVersion=$v" gitMajor=1 "gitMinor=${minor%%.*}" gitTreeState=clean; do
        flags+=" -X k8s.io/component-base/version.$key -X k8s.io/client-go/pkg/version.$key"
    done
    compile kubernetes "$flags" \
        k8s.io/kubernetes/cmd/kube-apiserver=kube-apiserver \
        k8s.io/kubernetes/cmd/kube-controller-manager=kube-controller-manager \
        k8s.io/kubernetes/cmd/kube-scheduler=kube-scheduler \
        k8s.io/kubernetes/cmd/kubelet=kubelet \
        k8s.io/kubernetes/cmd/kube-proxy=kube-proxy \
        k8s.io/kubernetes/cmd/kubectl=kubectl \
        go.etcd.io/etcd/server/v3=etcd
}

livekit() { compile livekit '' github.com/livekit/livekit-server/cmd/server=livekit-server; }

versitygw() {
    compile versitygw "-X main.Version=$(version versitygw github.com/versity/versitygw)" \
        github.com/versity/versitygw/cmd/versitygw=versitygw
}

helm() {
    compile helm "-X helm.sh/helm/v4/internal/version.version=$(version helm helm.sh/helm/v4)" \
        helm.sh/helm/v4/cmd/helm=helm
}

# Our own: a second subscriber that writes down what it was sent.
witness() { compile witness '' recording-operator.io/tests/tools/witness=witness; }

# Our own, on the modules of the LiveKit server.
load() { compile load '' recording-operator.io/tests/tools/load=load-publisher; }

# Our own: what Flux takes an object for.
kstatus() { compile kstatus '' recording-operator.io/tests/tools/kstatus=kstatus; }

# The Prometheus operator's definitions, as they are in its module: nothing is compiled.
monitoring() {
    if current monitoring; then
        say "monitoring: already there"
        return
    fi
    local module=github.com/prometheus-operator/prometheus-operator crds
    crds=$(cd tests/tools/monitoring && go mod download -json $module | jq -r .Dir)/example/prometheus-operator-crd
    mkdir -p "$root/target/tools/crds"
    install -m 644 "$crds"/monitoring.coreos.com_{podmonitors,prometheusrules}.yaml "$root/target/tools/crds/"
    stamp monitoring >"$stamps/monitoring"
    say "monitoring: copied"
}

# Its release process downloads a player for browsers, which is not used here, and writes its version.
mediamtx() {
    if current mediamtx mediamtx; then
        say "mediamtx: already built"
        return
    fi
    say "mediamtx: building"
    local module=github.com/bluenviron/mediamtx copy=$root/target/tools/mediamtx.source
    rm -rf "$copy"
    cp -r "$(cd tests/tools/mediamtx && go mod download -json $module | jq -r .Dir)" "$copy"
    chmod -R u+w "$copy"
    : >"$copy/internal/servers/hls/hls.min.js"
    printf %s "$(version mediamtx $module)" >"$copy/internal/core/VERSION"
    (cd "$copy" && go build -trimpath -buildvcs=false -ldflags '-s -w' -o "$bin/mediamtx" .)
    rm -rf "$copy"
    stamp mediamtx >"$stamps/mediamtx"
    say "mediamtx: built"
}

floor() {
    if current floor floor; then
        say "floor: already built"
        return
    fi
    gcc -O2 -Wall -Werror -o "$bin/floor" tests/tools/floor/floor.c -lsrtp2
    stamp floor >"$stamps/floor"
    say "floor: built"
}

pause() {
    if current pause pause; then
        say "pause: already built"
        return
    fi
    gcc -Os -static -s -Wall -Werror -o "$bin/pause" tests/tools/pause/pause.c
    stamp pause >"$stamps/pause"
    say "pause: built"
}

[ $# -gt 0 ] || set -- pause livekit load witness versitygw helm kubernetes kstatus monitoring
for family in "$@"; do
    case $family in
    kubernetes | livekit | witness | versitygw | helm | load | kstatus | monitoring | pause | mediamtx | floor) "$family" ;;
    *)
        say "no such family: $family"
        exit 2
        ;;
    esac
done
