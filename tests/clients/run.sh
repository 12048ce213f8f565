#!/usr/bin/env bash
# Checks the libraries of deploy/clients, builds their consumers as README.md there
# says, in a copy below the target directory, and judges all of them together: some
# three minutes the first time.
#
#   tests/clients/run.sh              every language
#   tests/clients/run.sh python go    only these
#
# A language whose tools are not there, or cannot be fetched, is skipped, and the
# last line of stdout says so: "SKIPPED: ...".
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

target_dir=$(realpath -m "${CARGO_TARGET_DIR:-target}")
copy=$target_dir/clients
venv=$copy/deploy/clients/python/.venv
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

# build <language> <directory>: as the README says, there.
build() {
    local commands
    commands=$(block_of "build-$1")
    [[ -n $commands ]] || {
        say "deploy/clients/README.md has no block build-$1"
        exit 1
    }
    say "building the consumer in $1"
    (cd "$2" && timeout "$fetch_seconds" bash -euo pipefail -c "$commands") >&2
}

# copy_folder <directory below deploy/clients>: without what earlier runs built, but for the .venv.
copy_folder() {
    mkdir -p "$copy/deploy/clients/$1"
    find "$copy/deploy/clients/$1" -mindepth 1 -maxdepth 1 ! -name '.*' -exec rm -rf {} +
    find "deploy/clients/$1" -mindepth 1 -maxdepth 1 ! -name '.*' \
        -exec cp -r -t "$copy/deploy/clients/$1" {} +
}

skipped=()
built=()

try_python() {
    if ! python3 -c 'import sys, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
        skipped+=("python needs Python 3.11 or newer with venv")
        return
    fi
    copy_folder python
    if ! build python "$copy"; then
        "$venv/bin/python" -c 'import grpc' 2>/dev/null && return 1
        skipped+=("the packages of deploy/clients/python cannot be fetched")
        return
    fi
    built+=(python)
    if ! timeout "$fetch_seconds" "$venv/bin/pip" install --quiet --disable-pip-version-check \
        -r deploy/clients/python/requirements-dev.txt >&2; then
        skipped+=("the tools that check deploy/clients/python cannot be fetched")
        return
    fi
    (
        cd "$copy/deploy/clients/python"
        .venv/bin/ruff check . && .venv/bin/ruff format --check .
        .venv/bin/mypy
        .venv/bin/pytest -q
    ) >&2
}

try_go() {
    if ! command -v go >/dev/null; then
        skipped+=("go is not installed")
        return
    fi
    copy_folder go
    if ! (cd "$copy/deploy/clients/go" && timeout "$fetch_seconds" go mod download) >&2; then
        skipped+=("the modules of deploy/clients/go cannot be fetched, or Go is older than 1.26")
        return
    fi
    build go "$copy"
    built+=(go)
    (
        cd "$copy/deploy/clients/go"
        local unformatted
        unformatted=$(gofmt -l .)
        [[ -z $unformatted ]] || { echo "not as gofmt would have it: $unformatted" && exit 1; }
        go vet ./...
        go test ./...
    ) >&2
}

try_rust() {
    build rust .
    built+=(rust)
}

has_built() { [[ " ${built[*]} " == *" $1 "* ]]; }

# The code of proto/ in the libraries is what their generators make of it today.
expect_generated() {
    if ! has_built python || ! has_built go || [[ ! -x $venv/bin/protoc-gen-mypy_grpc ]]; then
        say "the generated code is not compared: that needs Python and Go"
        return
    fi
    rm -rf "$copy/generated"
    PYTHON=$venv/bin/python deploy/clients/generate.sh "$copy/generated" >&2
    local folder
    for folder in python/src/quorumwatch/v1 go/quorumwatch/v1; do
        diff -r -x __pycache__ "$copy/generated/$folder" "deploy/clients/$folder" >&2 || {
            say "deploy/clients/$folder is not what proto/ says: run deploy/clients/generate.sh"
            exit 1
        }
    done
}

languages=("$@")
[[ $# -gt 0 ]] || languages=(python go rust)
for language in "${languages[@]}"; do
    "try_$language"
done
expect_generated
if [[ ${#built[@]} -gt 0 ]]; then
    say "judging ${built[*]}"
    QUORUMWATCH_CLIENTS=$(IFS=, && echo "${built[*]}") \
        cargo test --locked --test it -- --ignored --test-threads=1 --nocapture clients:: >&2
fi
if [[ ${#skipped[@]} -gt 0 ]]; then
    printf 'SKIPPED: %s\n' "$(printf '%s; ' "${skipped[@]}")"
fi
