#!/usr/bin/env bash
# Print the path of a Helm 3, installing one with Go where there is none.
#
#   helm=$(tools/helm.sh) && "$helm" lint deploy/helm
#
# $HELM names one to use as it is; a Helm 3 on the PATH is used next. Otherwise `go install` puts one into
# ${XDG_CACHE_HOME:-~/.cache}/mcp-oauth2-proxy/, once. HELM_VERSION=v3.x.y asks for a certain one. Exit code 1,
# with the reason on stderr, where that is not possible.
set -euo pipefail

is_helm3() { "$1" version --short 2>/dev/null | grep -q '^v3\.'; }

if [ -n "${HELM:-}" ]; then
    echo "$HELM"
    exit
fi
if [ -z "${HELM_VERSION:-}" ] && found=$(command -v helm) && is_helm3 "$found"; then
    echo "$found"
    exit
fi

version=${HELM_VERSION:-latest}
directory="${XDG_CACHE_HOME:-$HOME/.cache}/mcp-oauth2-proxy/helm-$version"
helm="$directory/helm"
if [ ! -x "$helm" ]; then
    if ! command -v go >/dev/null; then
        echo "no Helm here, and no Go to install it with" >&2
        exit 1
    fi
    mkdir -p "$directory"
    # Into a directory of its own first: an interrupted build leaves nothing that looks finished.
    building=$(mktemp -d "$directory/building.XXXXXX")
    trap 'rm -rf "$building"' EXIT
    # Helm's own build sets the Kubernetes that `helm template` renders for; without it, that is 1.20.
    kubernetes=helm.sh/helm/v3/pkg/chartutil.k8sVersion
    if ! said=$(GOBIN="$building" go install -trimpath \
        -ldflags="-s -w -X ${kubernetes}Major=1 -X ${kubernetes}Minor=34" \
        "helm.sh/helm/v3/cmd/helm@$version" 2>&1); then
        printf 'go install of Helm %s failed:\n%s\n' "$version" "$said" >&2
        exit 1
    fi
    mv -f "$building/helm" "$helm"
fi
echo "$helm"
