#!/usr/bin/env bash
# Builds what tests need beside a Rust toolchain, from Go modules and Python packages, into a cache outside the checkout:
#
#   build.sh kubernetes   etcd and kube-apiserver; prints the folder for KUBEBUILDER_ASSETS
#   build.sh kubectl      kubectl; prints its folder
#   build.sh grpcurl      grpcurl; prints its folder
#   build.sh buf          buf, which looks after the contract; prints its folder
#   build.sh python-grpc  a python3 that has grpcio and grpcio-tools; prints its folder
#
# What is there already is used as it is: KUBEBUILDER_ASSETS, a kubectl on PATH of 1.30 or newer, a grpcurl on PATH, a buf on
# PATH that is not older than ours, a python3 on PATH that has grpcio and grpcio-tools, and whatever an earlier run built. Go is the one on PATH if it is new enough, else the toolchain that the module proxy serves.
set -euo pipefail

readonly kubernetes=v1.35.4 etcd=v3.6.7 grpcurl=v1.9.3 buf=v1.75.0 go_needed=1.26.8 python_grpc=1.85.1
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cache=${ROLLOUTD_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/rolloutd}

say() { echo "$*" >&2; }

at_least() { [ "$(printf '%s\n%s\n' "$1" "$2" | sort -V | head -n 1)" = "$1" ]; } # at_least WANTED HAVE

find_go() {
    local have
    if command -v go >/dev/null; then
        have=$(GOTOOLCHAIN=local go env GOVERSION 2>/dev/null | sed 's/^go//; s/[^0-9.].*//')
        if [ -n "$have" ] && at_least "$go_needed" "$have"; then
            command -v go
            return
        fi
    fi
    local arch toolchain
    case $(uname -m) in
    x86_64) arch=amd64 ;;
    aarch64 | arm64) arch=arm64 ;;
    *) say "no Go toolchain for $(uname -m) on the module proxy; install Go $go_needed or newer" && return 1 ;;
    esac
    toolchain=v0.0.1-go$go_needed.$(uname -s | tr '[:upper:]' '[:lower:]')-$arch
    if [ ! -x "$cache/$toolchain/bin/go" ]; then
        say "fetching Go $go_needed from the module proxy"
        local proxy=${GOPROXY:-https://proxy.golang.org}
        mkdir -p "$cache"
        curl -fsSL --retry 3 "${proxy%%[,|]*}/golang.org/toolchain/@v/$toolchain.zip" -o "$cache/$toolchain.zip"
        python3 - "$cache/$toolchain.zip" "$cache/$toolchain" <<'PY'
import os, sys, zipfile
archive, target = sys.argv[1:]
with zipfile.ZipFile(archive) as files:
    for name in files.namelist():
        path = os.path.join(target + ".part", name.split("/", 2)[2])
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as out:
            out.write(files.read(name))
        os.chmod(path, 0o755 if "/bin/" in name or "/pkg/tool/" in name else 0o644)
os.rename(target + ".part", target)
PY
        rm "$cache/$toolchain.zip"
    fi
    echo "$cache/$toolchain/bin/go"
}

# build NAME MODULE PACKAGE [GO BUILD FLAGS...]: one binary of one wrapper module, into $bin.
build() {
    local name=$1 module=$2 package=$3
    shift 3
    [ -x "$bin/$name" ] && return
    local go
    go=$(find_go)
    say "building $name with $("$go" env GOVERSION)"
    mkdir -p "$bin"
    # Into a name of its own first: an interrupted build leaves nothing that looks finished.
    (cd "$here/modules/$module" && GOTOOLCHAIN=local "$go" build -trimpath "$@" -o "$bin/$name.part" "$package")
    mv "$bin/$name.part" "$bin/$name"
}

version_flags=(-ldflags "-X k8s.io/component-base/version.gitVersion=$kubernetes -X k8s.io/component-base/version.gitMajor=1 -X k8s.io/component-base/version.gitMinor=35")

case ${1:-} in
kubernetes)
    if [ -n "${KUBEBUILDER_ASSETS:-}" ] && [ -x "$KUBEBUILDER_ASSETS/etcd" ] && [ -x "$KUBEBUILDER_ASSETS/kube-apiserver" ]; then
        say "using KUBEBUILDER_ASSETS as it is"
        echo "$KUBEBUILDER_ASSETS"
        exit
    fi
    bin=$cache/kubernetes-$kubernetes-etcd-$etcd
    build etcd etcd go.etcd.io/etcd/server/v3
    build kube-apiserver kubernetes k8s.io/kubernetes/cmd/kube-apiserver "${version_flags[@]}"
    ;;
kubectl)
    if command -v kubectl >/dev/null; then
        have=$(kubectl version --client -o json 2>/dev/null | sed -n 's/.*"gitVersion": *"v\([0-9.]*\).*/\1/p' | head -n 1)
        if [ -n "$have" ] && at_least 1.30 "$have"; then
            say "using kubectl $have from PATH"
            dirname "$(command -v kubectl)"
            exit
        fi
    fi
    bin=$cache/kubectl-$kubernetes
    build kubectl kubectl k8s.io/kubernetes/cmd/kubectl "${version_flags[@]}"
    ;;
grpcurl)
    if command -v grpcurl >/dev/null; then
        say "using grpcurl from PATH"
        dirname "$(command -v grpcurl)"
        exit
    fi
    bin=$cache/grpcurl-$grpcurl
    build grpcurl grpcurl github.com/fullstorydev/grpcurl/cmd/grpcurl
    ;;
buf)
    if command -v buf >/dev/null; then
        # An older one has fewer rules.
        have=$(buf --version 2>&1)
        if at_least "${buf#v}" "$have"; then
            say "using buf $have from PATH"
            dirname "$(command -v buf)"
            exit
        fi
    fi
    bin=$cache/buf-$buf
    build buf buf github.com/bufbuild/buf/cmd/buf -ldflags "-s -w"
    ;;
python-grpc)
    if python3 -c 'import grpc, grpc_tools' 2>/dev/null; then
        say "using grpcio of python3 from PATH"
        dirname "$(command -v python3)"
        exit
    fi
    environment=$cache/python-grpc-$python_grpc
    bin=$environment/bin
    if [ ! -e "$environment/complete" ]; then
        say "installing grpcio $python_grpc"
        rm -rf "$environment"
        python3 -m venv "$environment"
        "$bin/pip" install --quiet --disable-pip-version-check --only-binary :all: "grpcio==$python_grpc" "grpcio-tools==$python_grpc" >&2
        touch "$environment/complete"
    fi
    ;;
*)
    say "usage: build.sh kubernetes|kubectl|grpcurl|buf|python-grpc"
    exit 2
    ;;
esac
echo "$bin"
