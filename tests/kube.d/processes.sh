# Processes, and the cgroups that hold them: whatever a cluster starts ends with it.
# shellcheck shell=bash disable=SC2086,SC2129,SC2154

hierarchies() { # prints where cgroups are created: each hierarchy of version 1, or the one of version 2
  if [[ $(stat -fc %T /sys/fs/cgroup) == cgroup2fs ]]; then echo /sys/fs/cgroup; else awk '$3 ~ /^cgroup2?$/ { print $2 }' /proc/mounts; fi
}
ours() { if [[ -d /sys/fs/cgroup/pids ]]; then echo "/sys/fs/cgroup/pids/$SPACE"; else echo "/sys/fs/cgroup/$SPACE"; fi; }

members() { # prints every process of this cluster, also those of its pods: none can leave the cgroup
  [[ ! -d $(ours) ]] || find "$(ours)" -name cgroup.procs -exec cat {} + 2>/dev/null | sort -un || true
}

groups() { # creates the cgroups
  local where file
  for where in $(hierarchies); do
    mkdir -p "$where/$SPACE"
    for file in cpuset.cpus cpuset.mems; do # empty by default in version 1, and then no process may enter
      [[ ! -s $where/$file || $where == /sys/fs/cgroup ]] || cat "$where/$file" >"$where/$SPACE/$file"
    done
    mkdir -p "$where/$SPACE/node1" "$where/$SPACE/node2"
  done
  mkdir -p "$(ours)/system"
}

start() { # NAME COMMAND …
  local name=$1
  shift
  (
    echo "$BASHPID" >"$(ours)/system/cgroup.procs"
    exec setsid nsenter --net="/run/netns/$SPACE" -- "$@" >"$LOG/$name" 2>&1 </dev/null 9>&-
  ) &
  echo $! >"$(ours)/system/cgroup.procs" 2>/dev/null || true # if the shell has not done it yet
  echo $! >"$RUN/$name.pid"
}

alive() { # NAME
  local pid
  pid=$(cat "$RUN/$1.pid" 2>/dev/null) && members | grep -qx "$pid"
}

all_alive() { # whether every process runs; otherwise DEAD names one that has ended
  for DEAD in "$RUN"/*.pid; do
    DEAD=$(basename "$DEAD" .pid)
    [[ $DEAD == '*' ]] || alive "$DEAD" || return 1
  done
}

ready() { # SECONDS WHAT COMMAND …: waits until it succeeds
  local end=$((SECONDS + $1)) what=$2
  shift 2
  until "$@" >/dev/null 2>&1; do
    all_alive || { tail -n 5 "$LOG/$DEAD" >&2; fail "$what is not ready: $DEAD has ended; see $LOG"; }
    ((SECONDS < end)) || fail "$what is not ready; see $LOG"
    sleep 0.2
  done
}

lock() { # one command at a time changes the cluster
  mkdir -p "$ROOT"
  exec 9>"$ROOT/lock"
  flock -w 300 9 || fail "$ROOT is locked by another kube command"
}
