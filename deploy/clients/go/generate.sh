#!/bin/sh
# Generates the Go code of proto/ into generated/. The plugins are those of go.mod; protoc is that
# of the system, or what PROTOC says: PROTOC="python3 -m grpc_tools.protoc" is one, too.
set -eu
cd "$(dirname "$0")"

files="quorumwatch/v1/event.proto quorumwatch/v1/event_service.proto"
package=quorumwatch.example/follow/generated/quorumwatch/v1
options=
for file in $files; do
    options="$options --go_opt=M$file=$package --go-grpc_opt=M$file=$package"
done

go build -o .bin/ \
    google.golang.org/protobuf/cmd/protoc-gen-go google.golang.org/grpc/cmd/protoc-gen-go-grpc
rm -rf generated
mkdir generated
# shellcheck disable=SC2086 # The words are meant to be apart.
${PROTOC:-protoc} -I ../../../proto $options $files \
    --plugin=.bin/protoc-gen-go --go_out=generated --go_opt=paths=source_relative \
    --plugin=.bin/protoc-gen-go-grpc --go-grpc_out=generated --go-grpc_opt=paths=source_relative
