#!/usr/bin/env bash
# Fine-tune bge-en-icl with the reference's settings: finetune.py with the flags and defaults of the hand-run pipeline.
# What is not listed here goes to finetune.py as it is (--round 2, --recipe FILE, --device cpu, ...).
set -euo pipefail
here=$(dirname "$0")

num_gpus=1
train_data=$here/../data/hn_mine_data_zero_round/validation_v1/finetune_data_minedHN.jsonl
output_dir=$here/../model_output/icl_finetune_validation_v1_round1
flags=()

while [[ $# -gt 0 ]]; do
  name=${1%%=*}
  if [[ $1 == *=* ]]; then value=${1#*=}; shift; elif [[ $# -gt 1 ]]; then value=$2; shift 2; else
    echo "error: $1 needs a value" >&2; exit 2
  fi
  case $name in
    --num_gpus) num_gpus=$value ;;
    --gpu_ids) export CUDA_VISIBLE_DEVICES=$value ;;
    --train_data) train_data=$value ;;
    --output_dir) output_dir=$value ;;
    --*) flags+=("$name" "$value") ;;
    *) echo "error: $name is not a flag" >&2; exit 2 ;;
  esac
done

python=$here/../.venv/bin/python
[[ -x $python ]] || python=python
[[ $num_gpus =~ ^[1-9][0-9]*$ ]] || { echo "error: --num_gpus $num_gpus: not a number of GPUs" >&2; exit 2; }
launch=("$python")
[[ $num_gpus == 1 ]] || launch+=(-m torch.distributed.run --nproc_per_node "$num_gpus")
exec "${launch[@]}" "$here/finetune.py" --train_data "$train_data" --output_dir "$output_dir" "${flags[@]}"
