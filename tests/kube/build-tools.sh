#!/usr/bin/env bash
# Builds the real control plane that tests/kube runs against: kube-apiserver,
# etcd, etcdctl, etcdutl, and beside it grpcurl and kustomize, from Go modules
# and without containers.
#
#   build-tools.sh           builds what is missing
#   build-tools.sh --print   builds nothing; fails if something is missing
#
# Progress goes to stderr; the last line of stdout is the directory with the
# binaries. It lies in the user's cache and is named after the versions in
# tools/*/go.mod, so the next run returns at once and a version bump cannot
# meet old binaries. When KUBEBUILDER_ASSETS holds a kube-apiserver and an etcd,
# they are used as they are, and only what is missing there is built.
#
# Exit codes: 0 done, 1 failed or (--print) incomplete, 2 usage, 3 no usable Go.
set -euo pipefail

tools_dir=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)/tools
cache_dir=${XDG_CACHE_HOME:-$HOME/.cache}/quorumwatch
binaries=(etcd etcdctl etcdutl grpcurl kube-apiserver kustomize)

say() { printf 'build-tools: %s\n' "$*" >&2; }

# version_of <tool module> <required module>: as written in go.mod, without the v.
version_of() {
    sed -n -E "s#^(require)?[[:space:]]*$2 v([^ ]+).*#\2#p" "$tools_dir/$1/go.mod" | head -n 1
}

kube_version=$(version_of apiserver k8s.io/kubernetes)
etcd_version=$(version_of etcd go.etcd.io/etcd/server/v3)
grpcurl_version=$(version_of grpcurl github.com/fullstorydev/grpcurl)
kustomize_version=$(version_of kustomize sigs.k8s.io/kustomize/kustomize/v5)
built_root=$cache_dir/kube-$kube_version-etcd-$etcd_version-grpcurl-$grpcurl_version-kustomize-$kustomize_version
built_dir=$built_root/bin

assets_dir=
if [[ -n ${KUBEBUILDER_ASSETS:-} ]]; then
    if [[ -x $KUBEBUILDER_ASSETS/kube-apiserver && -x $KUBEBUILDER_ASSETS/etcd ]]; then
        assets_dir=$(cd "$KUBEBUILDER_ASSETS" && pwd)
    else
        say "KUBEBUILDER_ASSETS holds no kube-apiserver and etcd, ignoring it"
    fi
fi

# source_of <binary>: where the binary is, or will be once it is built.
source_of() {
    if [[ -n $assets_dir && -x $assets_dir/$1 ]]; then
        echo "$assets_dir/$1"
    else
        echo "$built_dir/$1"
    fi
}

# missing: the binaries that are nowhere yet, one per line.
missing() {
    local name
    for name in "${binaries[@]}"; do
        [[ -x $(source_of "$name") ]] || echo "$name"
    done
}

# print_folder: the one directory that has everything. Assets and built binaries
# lie in two places, so for them it is a third directory, of links.
print_folder() {
    if [[ -z $assets_dir ]]; then
        echo "$built_dir"
        return
    fi
    local links_dir name source
    links_dir=$cache_dir/assets-$(printf '%s\n%s' "$assets_dir" "$built_dir" | cksum | tr ' ' '-')/bin
    mkdir -p "$links_dir"
    for name in "${binaries[@]}"; do
        source=$(source_of "$name")
        # A link that is right stays: a test may be starting it this moment.
        [[ $(readlink "$links_dir/$name" || true) == "$source" ]] ||
            ln -sfn "$source" "$links_dir/$name"
    done
    echo "$links_dir"
}

require_go() {
    if ! command -v go >/dev/null; then
        say "Go is not installed. Install Go 1.26 or newer and put it in PATH"
        exit 3
    fi
    local error
    if ! error=$(cd "$tools_dir/apiserver" && GOWORK=off go list -m 2>&1 >/dev/null); then
        say "this Go cannot read tools/apiserver/go.mod; install Go 1.26 or newer: $error"
        exit 3
    fi
}

# build <binary> <tool module> <package> <ldflags>: mv within one file system is
# atomic, so the directory never has half a binary, however this run ends.
build() {
    local began=$SECONDS
    say "building $1 (the first time takes minutes)"
    (cd "$tools_dir/$2" &&
        CGO_ENABLED=0 GOWORK=off go build -trimpath -ldflags "-s -w $4" -o "$staging_dir/$1" "$3") >&2
    mv -f "$staging_dir/$1" "$built_dir/$1"
    say "built $1 in $((SECONDS - began)) s"
}

build_named() {
    local version=k8s.io/component-base/version major minor _
    case $1 in
    kube-apiserver)
        IFS=. read -r major minor _ <<<"$kube_version"
        build "$1" apiserver k8s.io/kubernetes/cmd/kube-apiserver \
            "-X $version.gitVersion=v$kube_version -X $version.gitMajor=$major -X $version.gitMinor=$minor"
        ;;
    etcd) build "$1" etcd go.etcd.io/etcd/server/v3 "" ;;
    etcdctl | etcdutl) build "$1" etcd "go.etcd.io/etcd/$1/v3" "" ;;
    grpcurl)
        build "$1" grpcurl github.com/fullstorydev/grpcurl/cmd/grpcurl "-X main.version=v$grpcurl_version"
        ;;
    kustomize)
        build "$1" kustomize sigs.k8s.io/kustomize/kustomize/v5 \
            "-X sigs.k8s.io/kustomize/api/provenance.version=v$kustomize_version"
        ;;
    esac
}

# build_missing: one run at a time builds; the others wait and find it done.
build_missing() {
    require_go
    mkdir -p "$built_dir"
    if command -v flock >/dev/null; then
        exec 9>"$built_root/lock"
        if ! flock --nonblock 9; then
            say "another run is building, waiting for it"
            flock 9
        fi
        # Nobody else builds now, so what is staged belongs to a run that was killed.
        rm -rf "$built_root"/staging.*
    else
        say "no flock here: a concurrent run may do the same work twice, nothing worse"
    fi
    staging_dir=$(mktemp -d "$built_root/staging.XXXXXX")
    trap 'rm -rf "$staging_dir"' EXIT
    local name
    for name in $(missing); do
        build_named "$name"
    done
}

case ${1:-} in
"")
    [[ -z $(missing) ]] || build_missing
    ;;
--print)
    if [[ -n $(missing) ]]; then
        say "not built yet: $(missing | tr '\n' ' ')(run this script without --print)"
        exit 1
    fi
    ;;
*)
    say "usage: build-tools.sh [--print]"
    exit 2
    ;;
esac
print_folder
