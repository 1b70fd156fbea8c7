#!/usr/bin/env bash
# Provides every real part that the tests run against: built once into a cache folder, keyed by version or by the hash
# of its inputs. Quick when all is there. Needs cargo, go and a C++ compiler (`make stack` says so when one is missing).
# Parts of your own are used instead when these are set:
#   KUBEBUILDER_ASSETS  folder with etcd, kube-apiserver and kubectl
#   HELM_BIN, OLLAMA_BIN  the programs themselves
#   KUBECTL_1_32_BIN, KUBECTL_1_34_BIN  older versions of kubectl
# Arguments name further parts: nginx, which `make bench` compares the mirror with. `demo` alone provides no more than
# what `make demo` needs: kubectl, Ollama and a registry.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cache=${XDG_CACHE_HOME:-$HOME/.cache}/drover/stack
ollama_version=v0.17.4
malgo_version=v0.11.24 # its miniaudio.h is the one part of Ollama's vendored headers that Debian lacks
cargo_deny_version=0.20.2
further=$*

say() { echo "stack: $*" >&2; }
die() { say "$*"; exit 1; }

# provide WHAT ESTIMATE COMMAND...: runs the command in a shell of its own that stops at the first failure, with its
# output in a log, the end of which is shown then.
provide() {
  local what=$1 estimate=$2 log=$cache/log/${1// /-}.log start=$SECONDS status
  shift 2
  say "$what is missing; getting it takes about $estimate on 2 cores (log: $log)"
  set +e
  (set -e; "$@") >"$log" 2>&1
  status=$?
  set -e
  [ $status = 0 ] || { tail -n 30 "$log" >&2; die "no $what; all that was said: $log"; }
  say "$what is there, after $((SECONDS - start)) s"
}

# --- Debian packages -------------------------------------------------------------------------------------------
missing=()
want_file() { [ -e "$1" ] || command -v "$1" >/dev/null || missing+=("$2"); }

# Debian keeps each version's programs in a folder of its own.
postgres_bin() { ls -d /usr/lib/postgresql/*/bin 2>/dev/null | sort -V | tail -n 1; }

want_packages() {
  want_file docker-registry docker-registry
  want_file curl curl # for the tour
  if [ "$further" != demo ]; then
    want_file openssl openssl
    want_file ip iproute2 # nodes on machines of their own
    [ -n "$(postgres_bin)" ] || missing+=(postgresql)
    [ -x "$python/python" ] || python3 -c 'import ensurepip, venv' 2>/dev/null || missing+=(python3-venv)
  fi
  [[ " $further " != *" nginx "* ]] || want_file nginx nginx-light
  if [ -z "${OLLAMA_BIN:-}" ] && [ ! -x "$ollama" ]; then
    want_file /usr/include/nlohmann/json.hpp nlohmann-json3-dev
    want_file /usr/include/stb/stb_image.h libstb-dev
  fi
  [ ${#missing[@]} -gt 0 ] || return 0
  say "Debian packages that are missing: ${missing[*]}"
  command -v apt-get >/dev/null || die "this machine has no apt-get; install what they hold"
  [ "$(id -u)" = 0 ] || die "run: sudo apt-get update && sudo apt-get install -y ${missing[*]}"
  provide "Debian packages" "30 s" apt_install "${missing[@]}"
}
apt_install() {
  apt-get update
  # PostgreSQL's package would start a server of its own.
  [ -e /etc/postgresql-common/createcluster.conf ] || install -D <(echo 'create_main_cluster = false') /etc/postgresql-common/createcluster.conf
  DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends -o Dpkg::Options::=--force-confold "$@"
}

# --- Kubernetes: etcd, kube-apiserver, kubectl and helm in one binary ---------------------------------------------
want_kube() {
  [ ! -x "$kube/kubenode" ] || return 0
  provide kubernetes "6 min" go_build_kube
}
go_build_kube() {
  local kubernetes minor helm part version=k8s.io/component-base/version
  cd "$here/kube"
  kubernetes=$(sed -n 's/^\tk8s.io\/kubernetes \(v[0-9.]*\).*/\1/p' go.mod)
  helm=$(sed -n 's/^\thelm.sh\/helm\/v4 \(v[0-9.]*\).*/\1/p' go.mod)
  minor=${kubernetes#v1.}
  CGO_ENABLED=0 go build -trimpath -buildvcs=false -tags notest,grpcnotrace -o "$kube/kubenode.new" -ldflags "-s -w \
-X $version.gitVersion=$kubernetes -X $version.gitMajor=1 -X $version.gitMinor=${minor%%.*} \
-X k8s.io/client-go/pkg/version.gitVersion=$kubernetes -X helm.sh/helm/v4/internal/version.version=$helm" .
  for part in etcd kube-apiserver kubectl helm; do ln -sf kubenode "$kube/$part"; done
  mv "$kube/kubenode.new" "$kube/kubenode" # last: says that the folder is complete
}

# --- kubectl as people have it: older versions, each with module files of its own -----------------------------------
want_kubectl() { # MINOR PROGRAM
  [ ! -x "$2" ] || return 0
  provide "kubectl $1" "2 min" go_build_kubectl "$1" "$2"
}
go_build_kubectl() {
  local version
  cd "$here/kubectl"
  version=$(sed -n 's/^\tk8s.io\/kubectl v0\.\([0-9.]*\).*/v1.\1/p' "$1.mod")
  CGO_ENABLED=0 go build -modfile="$1.mod" -trimpath -buildvcs=false -o "$2.new" -ldflags "-s -w \
-X k8s.io/component-base/version.gitVersion=$version -X k8s.io/client-go/pkg/version.gitVersion=$version" .
  mv "$2.new" "$2"
}

# --- the Kubernetes client of Python, in a place of its own ---------------------------------------------------------
want_python() {
  [ ! -x "$python/python" ] || return 0
  provide "Python's Kubernetes client" "30 s" pip_install_kubernetes
}
pip_install_kubernetes() {
  python3 -m venv "$python/venv"
  "$python/venv/bin/pip" install --no-cache-dir --disable-pip-version-check -r "$here/python/requirements.txt"
  # A link would not find its packages.
  printf '#!/bin/sh\nexec "%s/venv/bin/python" "$@"\n' "$python" >"$python/python.new"
  chmod +x "$python/python.new"
  mv "$python/python.new" "$python/python"
}

# --- Ollama --------------------------------------------------------------------------------------------------------
want_ollama() {
  [ ! -x "$ollama" ] || return 0
  provide ollama "4 min" go_install_ollama
}
# Go module archives leave out folders named vendor, in which Ollama has headers of other projects.
go_install_ollama() {
  local home=${ollama%/*} malgo=github.com/gen2brain/malgo@$malgo_version
  cd "$cache" # a folder without go.mod
  go mod download "$malgo"
  install -D -m 644 "$(go env GOMODCACHE)/$malgo/miniaudio.h" "$home/include/miniaudio/miniaudio.h"
  CGO_ENABLED=1 CGO_CFLAGS=-O2 CGO_CXXFLAGS=-O2 CGO_CPPFLAGS="-I$home/include" GOBIN="$home/new" go install -trimpath \
    -ldflags "-s -w -X github.com/ollama/ollama/version.Version=${ollama_version#v}" "github.com/ollama/ollama@$ollama_version"
  mv "$home/new/ollama" "$ollama"
}

# --- cargo-deny ----------------------------------------------------------------------------------------------------
want_cargo_deny() {
  [ ! -x "$cargo_deny" ] || return 0
  provide cargo-deny "2 min" cargo_install_deny
}
cargo_install_deny() {
  local target=$cache/tmp/cargo-deny
  CARGO_TARGET_DIR=$target cargo install --locked --version "$cargo_deny_version" --root "${cargo_deny%/bin/*}" cargo-deny
  rm -rf "$target"
}

# --- all of it -----------------------------------------------------------------------------------------------------
# Links every program into one folder, which is itself named by where its links lead.
link_parts() { # ENV-FILE NAME PATH...
  local bin env=$cache/$1
  shift
  bin=$cache/bin/$(sha256sum <<<"$*" | cut -c1-16)
  mkdir -p "$bin"
  while [ $# -gt 0 ]; do
    [ -x "$2" ] || die "no program $1 at $2"
    [ "$bin/$1" -ef "$2" ] || ln -sfn "$(realpath -s "$2")" "$bin/$1"
    shift 2
  done
  echo "export DROVER_STACK_BIN=$bin" >"$env.new"
  mv "$env.new" "$env"
}

hash_of() { cat "$@" | sha256sum | cut -c1-16; }

mkdir -p "$cache/log" "$cache/tmp"
exec 9>"$cache/lock"
flock -n 9 || { say "another build is running; waiting for it"; flock 9; }

kube=$cache/kube-$(hash_of "$here"/kube/go.mod "$here"/kube/go.sum "$here"/kube/*.go)
kubectl_132=${KUBECTL_1_32_BIN:-$cache/kubectl-$(hash_of "$here"/kubectl/{main.go,1.32.*})}
kubectl_134=${KUBECTL_1_34_BIN:-$cache/kubectl-$(hash_of "$here"/kubectl/{main.go,1.34.*})}
python=$cache/python-$(hash_of "$here"/python/requirements.txt)
ollama=$cache/ollama-$ollama_version/ollama
cargo_deny=$cache/cargo-deny-$cargo_deny_version/bin/cargo-deny

want_packages
if [ "$further" = demo ]; then
  want_kubectl 1.34 "$kubectl_134"
  [ -n "${OLLAMA_BIN:-}" ] || want_ollama
  link_parts env-demo \
    kubectl "$kubectl_134" \
    ollama "${OLLAMA_BIN:-$ollama}" \
    docker-registry "$(command -v docker-registry)"
  exit
fi
[ -n "${KUBEBUILDER_ASSETS:-}" ] && [ -n "${HELM_BIN:-}" ] || want_kube
want_kubectl 1.32 "$kubectl_132"
want_kubectl 1.34 "$kubectl_134"
want_python
[ -n "${OLLAMA_BIN:-}" ] || want_ollama
want_cargo_deny
link_parts env \
  etcd "${KUBEBUILDER_ASSETS:-$kube}/etcd" \
  kube-apiserver "${KUBEBUILDER_ASSETS:-$kube}/kube-apiserver" \
  kubectl "${KUBEBUILDER_ASSETS:-$kube}/kubectl" \
  kubectl-1.32 "$kubectl_132" \
  kubectl-1.34 "$kubectl_134" \
  helm "${HELM_BIN:-$kube/helm}" \
  ollama "${OLLAMA_BIN:-$ollama}" \
  python "$python/python" \
  docker-registry "$(command -v docker-registry)" \
  postgres "$(postgres_bin)/postgres" \
  initdb "$(postgres_bin)/initdb" \
  cargo-deny "$cargo_deny"
