#!/usr/bin/env bash
# Builds the programs of deploy/clients as their README.md says, in a copy below
# the target folder, and runs the tests that judge them: some two minutes the first
# time.
#
#   tests/clients/run.sh              both
#   tests/clients/run.sh python       only this one
#
# A language whose tools are not there, or cannot be fetched, is skipped, and the
# last line of stdout says so: "SKIPPED: ...".
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

target_dir=$(realpath -m "${CARGO_TARGET_DIR:-target}")
copy=$target_dir/clients
# The first build compiles what it fetches; without a registry it is not waited for longer.
fetch_seconds=400

say() { printf 'clients: %s\n' "$*" >&2; }

# block_of <name>: the commands of deploy/clients/README.md after <!-- run: name -->.
block_of() {
    awk -v marker="<!-- run: $1 -->" '
        $0 == marker { marked = 1; next }
        marked && /^```/ { if (inside) exit; inside = 1; next }
        inside && /^\$ / { sub(/^\$ /, ""); print }
    ' deploy/clients/README.md
}

# build <language>: as the README says, in the copy.
build() {
    local commands
    commands=$(block_of "build-$1")
    [[ -n $commands ]] || {
        say "deploy/clients/README.md has no block build-$1"
        exit 1
    }
    (cd "$copy" && timeout "$fetch_seconds" bash -euo pipefail -c "$commands") >&2
}

copy_sources() {
    mkdir -p "$copy/deploy/clients/python" "$copy/deploy/clients/go"
    rm -rf "$copy/proto"
    cp -r proto "$copy/proto"
    cp deploy/clients/python/*.{py,txt} "$copy/deploy/clients/python/"
    cp deploy/clients/go/{*.go,go.mod,go.sum,generate.sh} "$copy/deploy/clients/go/"
}

skipped=()
tests=()

try_python() {
    if ! python3 -c 'import sys, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
        skipped+=("python needs Python 3.11 or newer with venv")
    elif build python; then
        tests+=(clients::python)
    elif [[ -x $copy/deploy/clients/python/.venv/bin/python ]] &&
        "$copy/deploy/clients/python/.venv/bin/python" -c 'import grpc_tools' 2>/dev/null; then
        return 1
    else
        skipped+=("the packages of deploy/clients/python cannot be fetched")
    fi
}

try_go() {
    local protoc=${PROTOC:-}
    [[ -n $protoc ]] || ! command -v protoc >/dev/null || protoc=protoc
    [[ -n $protoc || ! -d $copy/deploy/clients/python/.venv ]] ||
        protoc="$copy/deploy/clients/python/.venv/bin/python -m grpc_tools.protoc"
    if ! command -v go >/dev/null; then
        skipped+=("go is not installed")
    elif [[ -z $protoc ]]; then
        skipped+=("go needs protoc, or Python's grpcio-tools")
    elif ! (cd "$copy/deploy/clients/go" && timeout "$fetch_seconds" go mod download) >&2; then
        skipped+=("the modules of deploy/clients/go cannot be fetched, or Go is older than 1.26")
    else
        PROTOC=$protoc build go
        (cd "$copy/deploy/clients/go" && go vet . && [[ -z $(gofmt -l main.go) ]])
        tests+=(clients::go)
    fi
}

copy_sources
languages=("$@")
[[ $# -gt 0 ]] || languages=(python go)
for language in "${languages[@]}"; do
    "try_$language"
done
if [[ ${#tests[@]} -gt 0 ]]; then
    cargo test --locked --test it -- --ignored --test-threads=1 --nocapture "${tests[@]}" >&2
fi
if [[ ${#skipped[@]} -gt 0 ]]; then
    printf 'SKIPPED: %s\n' "$(printf '%s; ' "${skipped[@]}")"
fi
