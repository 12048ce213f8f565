#!/usr/bin/env bash
# Prints the kubeconfig with which quorumwatch reads a cluster, once this directory was
# applied there:
#
#   kubectl --context prod-eu apply -k deploy/kubernetes/watched-cluster
#   deploy/kubernetes/watched-cluster/kubeconfig.sh prod-eu > prod-eu
#   kubectl -n quorumwatch create secret generic quorumwatch-kubeconfigs --from-file=prod-eu
#   quorumwatch clusters add prod-eu --kubeconfig /etc/quorumwatch/kubeconfigs/prod-eu
#
# The one argument is a context of your own kubeconfig. What is printed is a credential: it reads
# every Event of that cluster. It carries the address that you use yourself; the replicas must reach
# the cluster under it, too.
set -euo pipefail

if [[ $# -ne 1 ]]; then
    echo "usage: kubeconfig.sh CONTEXT > FILE" >&2
    exit 2
fi
context=$1
namespace=quorumwatch-reader
secret=quorumwatch-reader
attempts=20

get_secret() {
    kubectl --context "$context" --namespace "$namespace" get secret "$secret" \
        --output "jsonpath={.data.$1}"
}

# The cluster fills the Secret in shortly after it was created.
token=
for ((attempt = 0; attempt < attempts; attempt++)); do
    token=$(get_secret token | base64 -d)
    [[ -z $token ]] || break
    sleep 0.5
done
if [[ -z $token ]]; then
    echo "the Secret $namespace/$secret has no token yet; is the cluster's controller manager well?" >&2
    exit 1
fi
server=$(kubectl --context "$context" config view --minify --output 'jsonpath={.clusters[0].cluster.server}')

cat <<KUBECONFIG
apiVersion: v1
kind: Config
current-context: $context
clusters:
  - name: $context
    cluster:
      server: $server
      certificate-authority-data: $(get_secret 'ca\.crt')
users:
  - name: $secret
    user:
      token: $token
contexts:
  - name: $context
    context:
      cluster: $context
      user: $secret
KUBECONFIG
