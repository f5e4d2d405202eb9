# What runs beside the cluster: add-ons, and ports of the loopback.
# shellcheck shell=bash disable=SC2086,SC2129,SC2154

expose() { # PORT …: forwards by a process, as a rule of iptables would change the address that network policies see
  local port
  lock
  for port; do
    alive "expose-$port" || start "expose-$port" socat "TCP-LISTEN:$port,bind=$NODE.1,fork,reuseaddr,backlog=128" "TCP:127.0.0.1:$port"
    ready 5 "port $port" inside bash -c "exec 3<>/dev/tcp/$NODE.1/$port"
  done
}

add_keda() {
  local registry name
  version keda $KEDA || fail "run tests/kube install keda"
  registry=$(sed -n 's|.*image: \(.*\)/keda:main$|\1|p' "$ROOT/keda.yaml")
  program "$registry/keda:main" "$BIN/operator" /keda
  program "$registry/keda-metrics-apiserver:main" "$BIN/adapter" /keda-adapter
  program "$registry/keda-admission-webhooks:main" "$BIN/webhooks" /keda-admission-webhooks
  inside kubectl apply --server-side --force-conflicts -f "$ROOT/keda.yaml" >>"$LOG/apply"
  inside kubectl -n keda wait --for=condition=Available deployment --all --timeout=180s >>"$LOG/apply"
  inside kubectl wait --for=condition=Available apiservice/v1beta1.external.metrics.k8s.io --timeout=60s >>"$LOG/apply"
}

add_metrics() {
  version metrics $METRICS || fail "run tests/kube install metrics"
  alive metrics || start metrics metrics-server --kubeconfig "$KUBECONFIG" --authentication-kubeconfig "$KUBECONFIG" \
    --authorization-kubeconfig "$KUBECONFIG" --bind-address $NODE.1 --secure-port 4443 --cert-dir "$RUN/metrics" \
    --kubelet-insecure-tls --kubelet-preferred-address-types InternalIP --metric-resolution 10s --kubelet-request-timeout 5s
  inside kubectl apply --server-side -f - >>"$LOG/apply" <<YAML
apiVersion: v1
kind: Service
metadata: {name: metrics-server, namespace: kube-system}
spec: {ports: [{name: https, port: 443, targetPort: 4443}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: metrics-server, namespace: kube-system, labels: {kubernetes.io/service-name: metrics-server}}
addressType: IPv4
ports: [{name: https, port: 4443}]
endpoints: [{addresses: [$NODE.1]}]
---
apiVersion: apiregistration.k8s.io/v1
kind: APIService
metadata: {name: v1beta1.metrics.k8s.io}
spec:
  {group: metrics.k8s.io, version: v1beta1, service: {name: metrics-server, namespace: kube-system}, insecureSkipTLSVerify: true, groupPriorityMinimum: 100, versionPriority: 100}
YAML
  ready 90 metrics-server inside kubectl top nodes
}

add_policies() {
  version policies $POLICIES || fail "run tests/kube install policies"
  [[ ! -e $RUN/node2 ]] || fail "policies: one node only, as kube-router sees the pods of one node"
  alive policies || start policies kube-router --kubeconfig "$KUBECONFIG" --run-router=false --run-service-proxy=false --run-firewall=true \
    --run-loadbalancer=false --hostname-override node1 --service-cluster-ip-range $SERVICES.0/24 --health-port 0 --metrics-port 0
  ready 30 kube-router inside iptables -w -n -L KUBE-ROUTER-FORWARD
}

add_crds() {
  version crds "$GATEWAY $PROMETHEUS_OPERATOR" || fail "run tests/kube install crds"
  inside kubectl apply --server-side -f "$ROOT/crds.yaml" >>"$LOG/apply"
  inside kubectl wait --for=condition=Established crd --all --timeout=30s >>"$LOG/apply"
}

add() {
  local name
  lock
  for name; do
    [[ $name =~ ^($ADD_ONS)$ ]] || fail "no such add-on: $name"
    "add_$name"
  done
}

status() {
  local file name all=0
  [[ -e $KUBECONFIG ]] || { echo down; return 1; }
  for file in "$RUN"/*.pid; do
    name=$(basename "$file" .pid)
    if alive "$name"; then
      printf '%-14s pid %-8s %5s MiB\n' "$name" "$(cat "$file")" "$(awk '/^VmRSS/ { print int($2 / 1024) }' "/proc/$(cat "$file")/status")"
    else
      printf '%-14s ended\n' "$name"
      all=1
    fi
  done
  return $all
}
