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
  IMAGE_USER=${IMAGE_USER-65532:65532} IMAGE_ENV=${IMAGE_ENV-} IMAGE_DIR=${IMAGE_DIR-/} python3 - "$tar" "$@" <<'PY'
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
config = {"architecture": "amd64", "os": "linux", "config": {"User": os.environ["IMAGE_USER"], "Entrypoint": command, "Env": environment,
                     "WorkingDir": os.environ["IMAGE_DIR"]},
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

new_root() { # prints a new directory with what each image has
  local root
  root=$(mktemp -d "$RUN/root.XXXXXX")
  chmod 755 "$root"
  mkdir -p "$root/tmp" "$root/etc/ssl/certs" "$root/usr/local/bin"
  chmod 1777 "$root/tmp"
  [[ ! -e /etc/ssl/certs/ca-certificates.crt ]] || cp -L /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/certs/"
  printf '%s\n' root:x:0:0:root:/root:/sbin/nologin nonroot:x:65532:65532:nonroot:/tmp:/sbin/nologin >"$root/etc/passwd"
  echo "$root"
}

libraries() { # ROOT FILE …: adds the libraries that the files are linked with
  local root=$1 library
  shift
  # A library of the image itself is in its place already.
  for library in $(for file; do ldd "$file" 2>/dev/null; done | grep -o '/[^ ]*' | grep -v "^$root/" | sort -u || true); do
    mkdir -p "$root$(dirname "$library")"
    cp -L "$library" "$root$library"
  done
}

program() { # NAME FILE [PATH]
  local root path=${3:-/usr/local/bin/$(basename "$2")}
  root=$(new_root)
  mkdir -p "$root$(dirname "$path")"
  cp "$2" "$root$path"
  libraries "$root" "$2"
  image "$1" "$root" "$path"
  rm -rf "$root"
}

python_image() { # NAME PYTHON FOLDER
  local root standard packages files
  root=$(new_root)
  standard=$("$2" -c 'import sysconfig; print(sysconfig.get_path("stdlib"))')
  packages=$("$2" -c 'import sysconfig; print(sysconfig.get_path("platlib"))')
  mkdir -p "$root/usr/local/lib/$(basename "$standard")" "$root/packages" "$root/worker"
  cp "$(realpath "$2")" "$root/usr/local/bin/python"
  tar -C "$standard" -c --exclude site-packages --exclude dist-packages --exclude __pycache__ --exclude './config-*' --exclude ./test \
    . | tar -C "$root/usr/local/lib/$(basename "$standard")" -x
  cp -r "$packages/." "$root/packages"
  cp "$3"/*.py "$root/worker"
  mapfile -t files < <(find "$root" -name '*.so*' -type f)
  libraries "$root" "$root/usr/local/bin/python" "${files[@]}"
  IMAGE_DIR=/worker IMAGE_ENV="PYTHONPATH=/packages PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1" image "$1" "$root"
  rm -rf "$root"
}

node_image() { # NAME NODE FOLDER
  local root program
  root=$(new_root)
  program=$(type -P "$2")
  cp -L "$program" "$root/usr/local/bin/node"
  cp -r "$3" "$root/worker"
  libraries "$root" "$program"
  IMAGE_DIR=/worker image "$1" "$root"
  rm -rf "$root"
}
