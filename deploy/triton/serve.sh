#!/usr/bin/env bash
# Serves an exported reward model on a real Triton server on loopback, without a GPU and without a container.
#
#   deploy/triton/serve.sh MODEL_FOLDER [GRPC_PORT [HTTP_PORT]]
#
# Makes the environment .venvs/triton on first use: the package nvidia-pytriton carries the tritonserver binary.
# Ends with the server; its model repository is a temporary folder.
set -euo pipefail

if [[ $# -lt 1 || ! -f $1/model.onnx ]]; then
  echo "usage: $0 MODEL_FOLDER [GRPC_PORT [HTTP_PORT]]; MODEL_FOLDER is written by 'pilothouse export'" >&2
  exit 2
fi
model=$(realpath "$1")
grpc_port=${2:-8001}
http_port=${3:-8000}
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)
venv=$root/.venvs/triton

[[ -f $venv/.installed ]] || make --directory "$root" .venvs/triton/.installed >&2
python=$venv/bin/python
site=$("$python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
minor=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
triton=$site/pytriton/tritonserver

work=$(mktemp --directory)
server=
stop() {
  [[ -z $server ]] || kill "$server" 2>/dev/null || true
  [[ -z $server ]] || wait "$server" 2>/dev/null || true
  rm -rf "$work"
}
trap stop EXIT
trap 'exit 0' TERM INT

mkdir --parents "$work/backends/python"
cp --recursive "$triton/backends/python/." "$work/backends/python/"
cp "$triton/python_backend_stubs/$minor/triton_python_backend_stub" "$work/backends/python/"

cp --recursive --dereference "$here/reward" "$work/repository-reward"
mkdir "$work/repository"
mv "$work/repository-reward" "$work/repository/reward"
cp "$model"/model.onnx* "$work/repository/reward/1/"
version=$("$python" -c 'import json, sys; print(json.load(open(sys.argv[1]))["version"])' "$model/reward.json")
sed --in-place "s/REWARD_VERSION/$version/" "$work/repository/reward/config.pbtxt"

export PATH=$venv/bin:$PATH PYTHONPATH=$site
# The stub's own libraries lie beside the wheel.
export LD_LIBRARY_PATH=$site/nvidia_pytriton.libs${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
"$triton/bin/tritonserver" \
  --model-repository="$work/repository" --backend-directory="$work/backends" \
  --grpc-address=127.0.0.1 --grpc-port="$grpc_port" \
  --http-address=127.0.0.1 --http-port="$http_port" \
  --allow-metrics=false &
server=$!
wait "$server"
