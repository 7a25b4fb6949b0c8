# Sourced by build, sbom and local-base: which program builds and runs images, and how.

# Sets `builder` to buildah, podman or docker: the one asked for, else the first that is installed.
choose_builder() {
  builder=${1:-}
  if [[ -z $builder ]]; then
    local name
    for name in buildah podman docker; do
      if command -v "$name" >/dev/null; then
        builder=$name
        break
      fi
    done
  fi
  case $builder in
    buildah | podman | docker) ;;
    '') fail "found none of buildah, podman and docker; install one of them" ;;
    *) fail "--builder is buildah, podman or docker, not '$builder'" ;;
  esac
  command -v "$builder" >/dev/null || fail "$builder is not installed, or not on PATH"
  # Needs neither user namespaces nor cgroups, so it works inside a container or a bare virtual machine too.
  if [[ $builder == buildah ]]; then export BUILDAH_ISOLATION=${BUILDAH_ISOLATION:-chroot}; fi
}

fail() {
  echo "$(basename "$0"): $*" >&2
  exit 1
}

say() { echo "$(basename "$0"): $*" >&2; }

# Runs a command in a fresh container without network that ends with it: run_in IMAGE HOST_FOLDER COMMAND...
# The folder is at /mounted, read-only.
run_in() {
  local image=$1 folder=$2
  shift 2
  if [[ $builder == buildah ]]; then
    local container status=0
    container=$(buildah from --pull-never "$image")
    buildah run --volume "$folder:/mounted:ro" "$container" -- "$@" || status=$?
    buildah rm "$container" >/dev/null
    return $status
  fi
  "$builder" run --rm --read-only --network none --volume "$folder:/mounted:ro" --entrypoint "$1" "$image" "${@:2}"
}
