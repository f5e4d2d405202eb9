# tests/kube up and down.
# shellcheck shell=bash disable=SC2086,SC2129,SC2154

certificates() {
  local key=(-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes)
  (
    cd "$RUN"
    openssl req -x509 "${key[@]}" -days 30 -subj /CN=hookbridge-kube -keyout ca.key -out ca.crt
    openssl req "${key[@]}" -subj /CN=kube-apiserver -keyout api.key -out api.csr
    printf 'subjectAltName=IP:127.0.0.1,IP:%s,IP:%s,DNS:localhost,DNS:kubernetes,DNS:kubernetes.default,DNS:kubernetes.default.svc' $NODE.1 $SERVICES.1 |
      openssl x509 -req -in api.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days 30 -extfile /dev/stdin -out api.crt
    openssl genrsa -out accounts.key 2048
  ) 2>/dev/null
}

user() { # FILE NAME [GROUP]: creates a token for it, and a kubeconfig
  local token
  token=$(openssl rand -hex 16)
  echo "$token,$2,$2,\"${3:-}\"" >>"$RUN/tokens"
  cat >"$RUN/$1.conf" <<YAML
apiVersion: v1
kind: Config
clusters: [{name: hookbridge, cluster: {server: "https://$NODE.1:6443", certificate-authority: $RUN/ca.crt}}]
users: [{name: $1, user: {token: $token}}]
contexts: [{name: hookbridge, context: {cluster: hookbridge, user: $1}}]
current-context: hookbridge
YAML
}

network() {
  local n
  ip netns add "$SPACE"
  inside ip link set lo up
  inside ip link add hbnode type bridge # holds the nodes' addresses
  for ((n = 1; n <= NODES; n++)); do inside ip addr add "$NODE.$n/32" dev hbnode; done
  inside ip link set hbnode up
  inside ip route add default dev hbnode # leads nowhere, but kubelet and kube-proxy require one
  inside sysctl -qw net.ipv4.ip_forward=1
}

control_plane() {
  local conf=$RUN/controllers.conf
  start etcd etcd --data-dir "$RUN/etcd" --listen-client-urls http://127.0.0.1:2379 --advertise-client-urls http://127.0.0.1:2379 \
    --listen-peer-urls http://127.0.0.1:2380 --initial-advertise-peer-urls http://127.0.0.1:2380 \
    --initial-cluster default=http://127.0.0.1:2380 --unsafe-no-fsync --log-level warn
  start apiserver kube-apiserver --etcd-servers http://127.0.0.1:2379 --advertise-address $NODE.1 --bind-address 0.0.0.0 --secure-port 6443 \
    --tls-cert-file "$RUN/api.crt" --tls-private-key-file "$RUN/api.key" --client-ca-file "$RUN/ca.crt" --token-auth-file "$RUN/tokens" \
    --authorization-mode Node,RBAC --enable-admission-plugins NodeRestriction --allow-privileged --service-cluster-ip-range $SERVICES.0/24 \
    --service-account-issuer https://kubernetes.default.svc --service-account-key-file "$RUN/accounts.key" \
    --service-account-signing-key-file "$RUN/accounts.key" --kubelet-preferred-address-types InternalIP --enable-aggregator-routing \
    --requestheader-client-ca-file "$RUN/ca.crt" --requestheader-allowed-names kube-apiserver --requestheader-username-headers X-Remote-User \
    --requestheader-group-headers X-Remote-Group --requestheader-extra-headers-prefix X-Remote-Extra- \
    --proxy-client-cert-file "$RUN/api.crt" --proxy-client-key-file "$RUN/api.key"
  ready 60 "the API server" inside kubectl get --raw /readyz
  start controllers kube-controller-manager --kubeconfig "$conf" --authentication-kubeconfig "$conf" --authorization-kubeconfig "$conf" \
    --bind-address 127.0.0.1 --root-ca-file "$RUN/ca.crt" --service-account-private-key-file "$RUN/accounts.key" \
    --cluster-signing-cert-file "$RUN/ca.crt" --cluster-signing-key-file "$RUN/ca.key" --use-service-account-credentials \
    --allocate-node-cidrs=false --leader-elect=false --horizontal-pod-autoscaler-sync-period 5s --horizontal-pod-autoscaler-downscale-stabilization 10s
  conf=$RUN/scheduler.conf
  start scheduler kube-scheduler --kubeconfig "$conf" --authentication-kubeconfig "$conf" --authorization-kubeconfig "$conf" \
    --bind-address 127.0.0.1 --leader-elect=false
}

node() { # NUMBER: its directories, and containerd in a mount namespace where they replace the system's
  local n=$1 dir=$RUN/node$1 first=$((($1 - 1) * 100 + 2))
  mkdir -p "$dir/cni"
  cat >"$dir/cni/10-hookbridge.conflist" <<JSON
{"cniVersion": "0.4.0", "name": "hookbridge", "plugins": [
  {"type": "bridge", "bridge": "hbpods", "isGateway": true, "hairpinMode": true, "ipMasq": false, "ipam": {"type": "host-local", "dataDir": "$dir/ipam",
    "ranges": [[{"subnet": "$PODS.0/24", "gateway": "$PODS.1", "rangeStart": "$PODS.$first", "rangeEnd": "$PODS.$((first + 99))"}]], "routes": [{"dst": "0.0.0.0/0"}]}},
  {"type": "portmap", "capabilities": {"portMappings": true}}]}
JSON
  cat >"$dir/containerd.toml" <<TOML
version = 2
root = "$dir/containerd"
state = "$dir/state"
disabled_plugins = ["io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.zfs", "io.containerd.snapshotter.v1.aufs", "io.containerd.snapshotter.v1.devmapper"]
[grpc]
  address = "$dir/containerd.sock"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "hookbridge/pause:1"
  restrict_oom_score_adj = true       # lowering it needs a capability that may be missing
  netns_mounts_under_state_dir = true
  disable_apparmor = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "$dir/cni"
TOML
  start "containerd-$n" unshare --mount --propagation private bash -ec '
    mount --make-rshared /
    for path in /run/containerd /var/lib/cni /var/lib/kubelet /var/log/containers /var/log/pods; do
      mkdir -p "$path" "$1$path"
      mount --bind "$1$path" "$path"
    done
    exec containerd --config "$1/containerd.toml"' - "$dir"
  cat >"$dir/kubelet.yaml" <<YAML
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
address: $NODE.$n
healthzPort: 0
authentication: {anonymous: {enabled: true}, webhook: {enabled: false}}
authorization: {mode: AlwaysAllow}
containerRuntimeEndpoint: unix://$dir/containerd.sock
cgroupDriver: cgroupfs
cgroupRoot: /$SPACE/node$n
failCgroupV1: false
failSwapOn: false
syncFrequency: 10s # a changed Secret appears in its pods within this time
enforceNodeAllocatable: []
evictionHard: {memory.available: 100Mi}
imageGCHighThresholdPercent: 100 # never, as images cannot be pulled again
maxPods: 90
clusterDomain: cluster.local
clusterDNS: [$SERVICES.10]
resolvConf: $RUN/resolv.conf
volumePluginDir: $dir/plugins
configMapAndSecretChangeDetectionStrategy: Watch
YAML
  ready 30 containerd inside ctr -a "$dir/containerd.sock" version
}

up() {
  local n
  [[ -e $BIN/coredns.version && -e $BIN/kubernetes.version ]] || fail "run tests/kube install"
  [[ $NODES == [12] ]] || fail "HOOKBRIDGE_KUBE_NODES: 1 or 2"
  lock
  end
  mkdir -p "$LOG"
  groups
  network
  certificates
  (
    umask 077
    user admin admin system:masters
    user controllers system:kube-controller-manager
    user scheduler system:kube-scheduler
    user proxy system:kube-proxy
    user node1 system:node:node1 system:nodes
    user node2 system:node:node2 system:nodes
  )
  : >"$RUN/resolv.conf"
  for ((n = 1; n <= NODES; n++)); do node $n; done
  control_plane
  image hookbridge/pause:1 "$ROOT/pause" /pause
  for ((n = 1; n <= NODES; n++)); do
    start kubelet-$n nsenter "--mount=/proc/$(cat "$RUN/containerd-$n.pid")/ns/mnt" -- kubelet --config "$RUN/node$n/kubelet.yaml" \
      --kubeconfig "$RUN/node$n.conf" --cert-dir "$RUN/node$n/pki" --hostname-override node$n --node-ip $NODE.$n
  done
  cat >"$RUN/proxy.yaml" <<YAML
apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
mode: iptables
clientConnection: {kubeconfig: $RUN/proxy.conf}
clusterCIDR: $PODS.0/24
conntrack: {maxPerCore: 0, min: 0, tcpEstablishedTimeout: 0s, tcpCloseWaitTimeout: 0s}
iptables: {minSyncPeriod: 0s}
metricsBindAddress: 127.0.0.1:10249
healthzBindAddress: 127.0.0.1:10256
YAML
  start proxy kube-proxy --config "$RUN/proxy.yaml" --hostname-override node1
  program hookbridge/coredns:1 "$BIN/coredns" /coredns
  manifests | inside kubectl apply --server-side -f - >"$LOG/apply"
  for ((n = 1; n <= NODES; n++)); do ready 60 "node$n" inside kubectl wait --for=condition=Ready node/node$n --timeout=1s; done
  ready 60 DNS inside kubectl -n kube-system wait --for=condition=Available deployment/coredns --timeout=1s
  ready 30 "the default service account" inside kubectl get serviceaccount default
  say "up in $SECONDS s: kube do kubectl get nodes"
}
end() { # ends all processes of the cluster, if there are any; its mounts end with them
  local where pids
  while pids=$(members) && [[ $pids ]]; do
    # shellcheck disable=SC2086 # a list
    kill -KILL $pids 2>/dev/null || true
    sleep 0.1
  done
  ip netns del "$SPACE" 2>/dev/null || true
  for where in $(hierarchies); do
    [[ ! -d $where/$SPACE ]] || find "$where/$SPACE" -depth -type d -exec rmdir {} + 2>/dev/null || true
  done
  rm -rf --one-file-system "${RUN:?}"
}

down() {
  lock
  end
}
