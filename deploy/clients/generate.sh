#!/usr/bin/env bash
# Generates the code of proto/quorumwatch/v1 for Python and Go: in place, or below
# another directory.
#
#   deploy/clients/generate.sh [directory]
#
# Needs deploy/clients/python/.venv with requirements-dev.txt, or PYTHON that has it,
# and Go. The plugins for Go are those of go.mod.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
to=$(realpath -m "${1:-$here}")
python=${PYTHON:-$here/python/.venv/bin/python}
proto=$(realpath "$here/../../proto")

mapfile -t messages < <(cd "$proto" && ls quorumwatch/v1/*.proto)
mapfile -t services < <(cd "$proto" && ls quorumwatch/v1/*_service.proto)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
protoc() { "$python" -m grpc_tools.protoc -I "$proto" "$@"; }

mkdir -p "$work/python" "$work/go" "$work/bin"
protoc --python_out="$work/python" --pyi_out="$work/python" "${messages[@]}"
protoc --grpc_python_out="$work/python" \
    --plugin="$(dirname "$("$python" -c 'import sys; print(sys.executable)')")/protoc-gen-mypy_grpc" \
    --mypy_grpc_out="quiet:$work/python" "${services[@]}"

(cd "$here/go" && go build -o "$work/bin/" \
    google.golang.org/protobuf/cmd/protoc-gen-go google.golang.org/grpc/cmd/protoc-gen-go-grpc)
module=quorumwatch.dev/client
protoc --plugin="$work/bin/protoc-gen-go" --go_out="$work/go" --go_opt="module=$module" \
    --plugin="$work/bin/protoc-gen-go-grpc" --go-grpc_out="$work/go" \
    --go-grpc_opt="module=$module" "${messages[@]}"

# replace <generated directory> <directory>
replace() {
    rm -rf "$2"
    mkdir -p "$(dirname "$2")"
    mv "$1" "$2"
}
replace "$work/python/quorumwatch/v1" "$to/python/src/quorumwatch/v1"
replace "$work/go/quorumwatch/v1" "$to/go/quorumwatch/v1"
