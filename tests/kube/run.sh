#!/usr/bin/env bash
# Runs quorumwatch against real API servers: builds kube-apiserver and etcd once
# (minutes, then kept in the user's cache) and runs the tests of tests/kube, some
# five minutes.
#
#   tests/kube/run.sh              all of them
#   tests/kube/run.sh restored     those whose names contain this
#
# QUORUMWATCH_KUBE_AWAY_SECONDS: for how long a subscriber is away in the test
# about that; 60 where it is not set, less than the five minutes of history that
# an API server keeps.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

# The tests find the binaries by themselves; here they only have to be there.
status=0
tests/kube/build-tools.sh >/dev/null || status=$?
if [[ $status -eq 3 ]]; then
    # Without Go nothing can be built.
    cat >&2 <<'TEXT'
SKIPPED: every test against a real API server.
  They need kube-apiserver, etcd, etcdctl, etcdutl, grpcurl and kustomize, which
  are built with Go. Install Go 1.26 or newer and put it in PATH. With KUBEBUILDER_ASSETS
  naming a folder that has all six of them (that of envtest has the first two),
  Go is not needed.
TEXT
    exit 0
elif [[ $status -ne 0 ]]; then
    exit "$status"
fi

# One after the other: each has its own control planes, which are hungry at the
# start.
exec cargo test --locked --test kube -- --ignored --test-threads=1 --nocapture "$@"
