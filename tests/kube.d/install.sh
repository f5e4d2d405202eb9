# tests/kube install: builds the programs from their Go modules.
# shellcheck shell=bash disable=SC2086,SC2129,SC2154

apt() { # PACKAGE …: installs those that are missing, without starting services
  local package missing=() policy=/usr/sbin/policy-rc.d
  for package; do
    [[ $(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null) == installed ]] || missing+=("$package")
  done
  ((${#missing[@]})) || return 0
  say "apt-get install ${missing[*]}"
  if [[ ! -e $policy ]]; then
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod 755 "$policy"
    trap 'rm -f /usr/sbin/policy-rc.d' EXIT
  fi
  apt-get -q update >&2
  DEBIAN_FRONTEND=noninteractive apt-get -q -o DPkg::Lock::Timeout=300 install -y --no-install-recommends "${missing[@]}" >&2
}

version() { [[ $(cat "$BIN/$1.version" 2>/dev/null) == "$2" ]]; } # NAME VERSION: whether that version is installed

folder() { # NAME MODULE@VERSION: prints the directory of its source
  (cd "$SRC/$1" && go mod download -json "$2" | python3 -c 'import json, sys; print(json.load(sys.stdin)["Dir"])' 2>/dev/null) ||
    fail "$2 cannot be downloaded"
}

module() { # NAME MODULE VERSION [LINE …]: makes a module that requires it; LINEs are added to its go.mod
  rm -rf "${SRC:?}/$1"
  mkdir -p "$SRC/$1"
  printf 'module hookbridge/%s\n\ngo %s\n\nrequire %s v%s\n' "$1" "$(go env GOVERSION | sed -E 's/^go([0-9]+\.[0-9]+).*/\1/')" "$2" "$3" >"$SRC/$1/go.mod"
  printf '%s\n' "${@:4}" >>"$SRC/$1/go.mod"
}

build() { # NAME VERSION FLAGS PACKAGE …: builds into bin/ (GOGC saves a fifth of the CPU time for more memory)
  local since=$SECONDS
  say "building $1 $2"
  (cd "$SRC/$1" && CGO_ENABLED=0 GOGC=${GOGC:-400} nice -n 10 go build -mod=mod -trimpath -ldflags "-s -w $3" -o "$BIN/" "${@:4}") >"$ROOT/$1.log" 2>&1 ||
    { grep -v downloading "$ROOT/$1.log" | tail -n 20 >&2; fail "$1 cannot be built; see $ROOT/$1.log"; }
  echo "$2" >"$BIN/$1.version"
  say "$1 built in $((SECONDS - since)) s"
}

install() { # PART…
  local name
  (($#)) || set -- cluster
  for name; do [[ $name =~ ^(cluster|helm|$ADD_ONS)$ ]] || fail "no such part: $name"; done
  mkdir -p "$BIN" "$SRC" "$ROOT/pause"
  for name; do "install_$name"; done
}

install_cluster() {
  local flags from=k8s.io/kubernetes dir
  (($(id -u) == 0)) || fail "a cluster needs root"
  apt containerd runc containernetworking-plugins iptables conntrack iproute2 openssl procps python3 socat util-linux
  if ! version kubernetes $KUBERNETES; then
    module kubernetes $from $KUBERNETES
    dir=$(folder kubernetes $from@v$KUBERNETES)
    grep -oE 'k8s.io/[a-z-]+ v0\.0\.0$' "$dir/go.mod" | sort -u |
      awk -v v="v0.${KUBERNETES#1.}" '{ print "replace " $1 " => " $1 " " v }' >>"$SRC/kubernetes/go.mod" # the modules in its staging directory
    grep -E '^godebug' "$dir/go.mod" >>"$SRC/kubernetes/go.mod" || true
    flags="-X k8s.io/component-base/version.gitVersion=v$KUBERNETES -X k8s.io/component-base/version.gitMajor=1"
    build kubernetes $KUBERNETES "$flags -X k8s.io/component-base/version.gitMinor=$(cut -d. -f2 <<<$KUBERNETES)" \
      $from/cmd/{kube-apiserver,kube-controller-manager,kube-scheduler,kube-proxy,kubelet,kubectl}
  fi
  if ! version etcd $ETCD; then
    module etcd go.etcd.io/etcd/server/v3 $ETCD
    printf 'package main\n\nimport (\n\t"os"\n\n\t"go.etcd.io/etcd/server/v3/etcdmain"\n)\n\nfunc main() { etcdmain.Main(os.Args) }\n' >"$SRC/etcd/main.go"
    build etcd $ETCD '' .
  fi
  install_helm
  if ! version coredns $COREDNS; then
    module coredns github.com/coredns/coredns $COREDNS
    cat >"$SRC/coredns/main.go" <<'GO'
package main

import (
	_ "github.com/coredns/coredns/plugin/cache"
	_ "github.com/coredns/coredns/plugin/errors"
	_ "github.com/coredns/coredns/plugin/health"
	_ "github.com/coredns/coredns/plugin/kubernetes"
	_ "github.com/coredns/coredns/plugin/ready"

	"github.com/coredns/coredns/core/dnsserver"
	"github.com/coredns/coredns/coremain"
)

func init() { dnsserver.Directives = []string{"health", "ready", "errors", "cache", "kubernetes"} }

func main() { coremain.Run() }
GO
    build coredns $COREDNS '' .
  fi
  if [[ ! -x $ROOT/pause/pause ]]; then
    printf '%s\n' '#include <signal.h>' '#include <unistd.h>' 'static void end(int s) { (void)s; _exit(0); }' \
      'int main(void) { signal(SIGTERM, end); signal(SIGINT, end); signal(SIGCHLD, SIG_IGN); for (;;) pause(); }' |
      cc -static -O1 -x c -o "$ROOT/pause/pause" -
  fi
}

install_helm() {
  local flags name
  version helm $HELM && return
  module helm helm.sh/helm/v3 $HELM
  flags="-X helm.sh/helm/v3/internal/version.version=v$HELM"
  for name in lint/rules chartutil; do # the version of Kubernetes that `helm template` and `helm lint` assume
    flags+=" -X helm.sh/helm/v3/pkg/$name.k8sVersionMajor=1 -X helm.sh/helm/v3/pkg/$name.k8sVersionMinor=$(cut -d. -f2 <<<$KUBERNETES)"
  done
  build helm $HELM "$flags" helm.sh/helm/v3/cmd/helm
}

install_keda() {
  local from=github.com/kedacore/keda/v2 dir
  version keda $KEDA && return
  module keda $from $KEDA
  dir=$(folder keda $from@v$KEDA)
  sed -n '/^replace /,/^)/p' "$dir/go.mod" >>"$SRC/keda/go.mod"
  kubectl kustomize "$dir/config/default" | sed 's/imagePullPolicy: Always/imagePullPolicy: Never/' >"$ROOT/keda.yaml"
  build keda $KEDA "-X $from/version.Version=$KEDA" $from/cmd/{operator,adapter,webhooks}
}

install_metrics() {
  version metrics $METRICS && return
  module metrics sigs.k8s.io/metrics-server $METRICS
  build metrics $METRICS '' sigs.k8s.io/metrics-server/cmd/metrics-server
}

install_policies() {
  apt ipset
  version policies $POLICIES && return
  module policies github.com/cloudnativelabs/kube-router/v2 $POLICIES
  sed -n '/^replace /,/^)/p' "$(folder policies github.com/cloudnativelabs/kube-router/v2@v$POLICIES)/go.mod" >>"$SRC/policies/go.mod"
  build policies $POLICIES '' github.com/cloudnativelabs/kube-router/v2/cmd/kube-router
}

install_crds() {
  local dir
  version crds "$GATEWAY $PROMETHEUS_OPERATOR" && return
  module crds sigs.k8s.io/gateway-api $GATEWAY
  dir=$(folder crds sigs.k8s.io/gateway-api@v$GATEWAY)
  awk 'FNR == 1 { print "---" } 1' "$dir"/config/crd/standard/*.yaml >"$ROOT/crds.yaml"
  dir=$(folder crds github.com/prometheus-operator/prometheus-operator@v$PROMETHEUS_OPERATOR)
  awk 'FNR == 1 { print "---" } 1' "$dir"/example/prometheus-operator-crd/*.yaml >>"$ROOT/crds.yaml"
  echo "$GATEWAY $PROMETHEUS_OPERATOR" >"$BIN/crds.version"
}
