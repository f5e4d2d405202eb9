# Images, made without an engine.
# shellcheck shell=bash disable=SC2086,SC2129,SC2154

load() { # FILE …: loads them on each node
  local file socket
  for file; do
    for socket in "$RUN"/node*/containerd.sock; do
      inside ctr -a "$socket" -n k8s.io images import "$file" >"$LOG/load" 2>&1 || { cat "$LOG/load" >&2; fail "$file cannot be loaded"; }
    done
  done
}

image() { # NAME FOLDER [COMMAND …]
  local tar
  tar=$(mktemp "$RUN/image.XXXXXX")
  IMAGE_USER=${IMAGE_USER-65532:65532} IMAGE_ENV=${IMAGE_ENV-} python3 - "$tar" "$@" <<'PY'
import hashlib, io, json, os, sys, tarfile

out, name, folder, command = sys.argv[1], sys.argv[2], sys.argv[3], sys.argv[4:]


def plain(member):
    member.uid = member.gid = member.mtime = 0
    member.uname = member.gname = ""
    return member


layer = io.BytesIO()
with tarfile.open(fileobj=layer, mode="w") as tar:
    tar.add(os.path.realpath(folder), arcname=".", filter=plain)
environment = ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", *os.environ["IMAGE_ENV"].split()]
config = {"architecture": "amd64", "os": "linux", "config": {"User": os.environ["IMAGE_USER"], "Entrypoint": command, "Env": environment},
          "rootfs": {"type": "layers", "diff_ids": ["sha256:" + hashlib.sha256(layer.getvalue()).hexdigest()]}}
manifest = [{"Config": "config.json", "RepoTags": [name], "Layers": ["layer.tar"]}]
with tarfile.open(out, "w") as tar:
    for path, data in (("config.json", json.dumps(config).encode()), ("layer.tar", layer.getvalue()), ("manifest.json", json.dumps(manifest).encode())):
        member = tarfile.TarInfo(path)
        member.size = len(data)
        tar.addfile(member, io.BytesIO(data))
PY
  load "$tar"
  rm -f "$tar"
}

program() { # NAME FILE [PATH]
  local root path=${3:-/usr/local/bin/$(basename "$2")} library
  root=$(mktemp -d "$RUN/program.XXXXXX")
  chmod 755 "$root"
  mkdir -p "$root/tmp" "$root/etc/ssl/certs" "$root$(dirname "$path")"
  chmod 1777 "$root/tmp"
  cp "$2" "$root$path"
  for library in $(ldd "$2" 2>/dev/null | grep -o '/[^ ]*' || true); do
    mkdir -p "$root$(dirname "$library")"
    cp -L "$library" "$root$library"
  done
  [[ ! -e /etc/ssl/certs/ca-certificates.crt ]] || cp -L /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/certs/"
  printf '%s\n' root:x:0:0:root:/root:/sbin/nologin nonroot:x:65532:65532:nonroot:/tmp:/sbin/nologin >"$root/etc/passwd"
  image "$1" "$root" "$path"
  rm -rf "$root"
}
