# Rounds: from data to a submission. `make help` lists targets and variables; `make status` shows what is up to date.
# Each target brings the stages that it needs up to date, in order; src/rounds/pipeline/ says what they write and when
# they are stale, and reads make's variables (SPLIT=v1, MODEL=minilm, ...). make -n or DRY=1 prints the script calls.

SHELL         := /bin/bash
.SHELLFLAGS   := -eu -o pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS     += -r  # with its built-in rules, make would link `round`

PY       := .venv/bin/python
SETUP    := .venv/.setup$(if $(filter 1,$(GPU)),-gpu)
DEV      := .venv/.setup-dev
# A stamp is worth nothing where .venv's Python is gone, or is another than PYTHON asks for.
RENEW    := $(shell test -x $(PY) && { test -z '$(PYTHON)' || test "$$($(PY) -V)" = "$$($(PYTHON) -V)"; } || echo FORCE)
# Fast set-up: by uv where it is installed, and without bytecode, which the first import of a module then writes.
PIP       = $(if $(shell command -v uv),uv pip install --python $(PY),$(PY) -m pip install --disable-pip-version-check --no-compile)
unexport PYTHONDONTWRITEBYTECODE
INSTALL   = $(PIP) -q -c .ci/constraints.txt
# `+` lets make -n reach the pipeline, which then prints calls. The line itself does nothing when pasted: no MAKELEVEL.
PIPELINE  = +@$${MAKELEVEL:+env ROUNDS_GOALS="$(MAKECMDGOALS)" $(PY) -m rounds.pipeline $@}

# ---- set-up -------------------------------------------------------------------------------------------------------
setup: $(SETUP)  ## install into .venv (GPU=1 for a CUDA machine, PYTHON=python3.12 by that Python)

$(SETUP): pyproject.toml .ci/constraints.txt $(RENEW)
	@PYTHONPATH=src PYTHON=$(PYTHON) $(or $(PYTHON),python3) -m rounds.pipeline.virtual_environment
	@$(INSTALL) -e '.[kaggle,report$(GPU:1=,gpu)]' 2> >(grep -v '^WARNING: Location' >&2)
	$(if $(filter 1,$(GPU)),@$(PY) -m pip uninstall -q -y faiss-cpu && $(PY) -m pip install -q faiss-gpu-cu12)
	@touch $@ .venv/.setup

$(DEV): $(SETUP)
	@$(INSTALL) -e '.[dev]' 2> >(grep -v '^WARNING: Location' >&2) && touch $@

# ---- data ---------------------------------------------------------------------------------------------------------
sample: $(SETUP)  ## generate the sample (QUESTIONS=1100, SEED=42); the other targets do so where there are no data
	$(PIPELINE)

download: $(SETUP)  ## fetch COMPETITION's CSVs into data/raw, or data/raw-prompts (kaggle client)
	$(PIPELINE)

data: $(SETUP)  ## queries, corpus and qrels of SPLIT
	$(PIPELINE)

pretrain: $(SETUP)  ## pretrain the vision tower of a recipe for images, on RAW's captions
	$(PIPELINE)

# ---- rounds: mine, finetune, evaluate -----------------------------------------------------------------------------
# Round N mines with round N-1's checkpoint, continues from it and is evaluated beside those before; 0 is the base model.
round: ; @echo "error: round: name its number, such as make round1 (make help lists all)" >&2; exit 2
round%: $(SETUP) FORCE
	$(PIPELINE)

tune: $(SETUP)  ## TASK=prompt_recovery: tune MODEL's generator (docs/prompt-recovery.md)
	$(PIPELINE)
predict: $(SETUP)  ## TASK=prompt_recovery: let the tuned generator write prompts
	$(PIPELINE)

evaluate: $(SETUP)  ## print ROUND's table again
	$(PIPELINE)
pseudo_label: $(SETUP)  ## label SPLIT's unlabelled training answers with ROUND's checkpoint, for EXTRA (docs/data.md)
	$(PIPELINE)
average: $(SETUP)  ## average the weights of RUNS and evaluate that; submit, bundle and publish take it with RUNS
	$(PIPELINE)

submit: $(SETUP)  ## write and check submissions/NAME.csv with ROUND's checkpoint
	$(PIPELINE)

# ---- second stages: they refine ROUND's ranking of the validation queries, or SPLIT=submission's test queries ------
candidates: $(SETUP)  ## the passages that ROUND ranks first, with features, for rerank, cv and best
	$(PIPELINE)
rerank: $(SETUP)  ## train RERANKER on what the other FOLDS rank first, and rerank each fold with it
	$(PIPELINE)
cv: $(SETUP)  ## what each stage scores on FOLDS of v5; second stages never learn from the fold that they rank
	$(PIPELINE)

best: $(SETUP)  ## submissions/best.csv, with a hash behind it for EXTRA, N_FOLDS, ...: ROUND on all of train, fused as FOLDS teach
	$(PIPELINE)
distil: $(SETUP)  ## distil the ensemble of best into one embedder, and write its submission
	$(PIPELINE)

# ---- Kaggle: a bundle of wheels and weights, and a notebook that runs it without internet --------------------------
bundle: $(SETUP)  ## submissions/bundle and submissions/notebook for ROUND's checkpoint
	$(PIPELINE)
push: $(SETUP)  ## upload bundle and notebook, run it on Kaggle, submit what it wrote (DRY=1: print the commands)
	$(PIPELINE)
publish: $(SETUP)  ## ROUND's model and a card in submissions/publish, uploaded to REPO on the Hugging Face hub (DRY=1: not)
	$(PIPELINE)

lb: $(SETUP)  ## write Kaggle's scores of our submissions into the ledger
	$(PIPELINE)
ledger: $(SETUP)  ## CV and LB of all checkpoints side by side, with their correlation
	$(PIPELINE)

private_lb: $(SETUP)  ## hold questions out of RAW; with RAW=data/private-X: score
	$(PIPELINE)

parity: $(SETUP)  ## whether the runs A and B agree, and if not, which setting is the cause
	$(PIPELINE)

# ---- measuring ----------------------------------------------------------------------------------------------------
baseline: $(SETUP)  ## the stock sentence-transformers trainer beside round 1 (and 2, if made)
	$(PIPELINE)
compare: $(SETUP)  ## RUNS with significance, beside chance and BM25: all metrics, or MAP@25 over several folds
	$(PIPELINE)
sweep: $(SETUP)  ## round 1 of each of RECIPES on one split, in one table; TASK=prompt_recovery: ways of tuning MODEL
	$(PIPELINE)
tune_bm25: $(SETUP)  ## grid over BM25's k1 and b, on SPLIT's training queries
	$(PIPELINE)
dims: $(SETUP)  ## ROUND's vectors cut to fewer dimensions, before and after training
	$(PIPELINE)
mteb: $(SETUP)  ## ROUND's scores on TASKS of mteb (0: the base model's), with mteb's own result files beside ours
	$(PIPELINE)

report: $(SETUP)  ## model_output/report-NAME/report.html: what the rounds did, on one page
	$(PIPELINE)
dashboard: $(SETUP)  ## the report on http://127.0.0.1:PORT/, live while a round trains in another terminal
	$(PIPELINE)
demo: $(SETUP)  ## http://127.0.0.1:PORT/: type a question, see what ROUND and zero-shot rank (.venv/bin/python -m pip install -e '.[demo]' first)
	$(PIPELINE)
brittle: $(SETUP)  ## how far ROUND's query vectors move with an added space, a newline, a word in other case
	$(PIPELINE)

tokens: $(SETUP)  ## what the recipe's tokenizer makes of the texts: unknown and cut shares, longest
	$(PIPELINE)
fit_batch: $(SETUP)  ## how many tokens of a training chunk fit into memory, and how fast they go
	$(PIPELINE)

bench: $(SETUP)  ## speed and memory beside the peers' (ONLY=a for row a); all rows: into docs/benchmarks.md
	$(PIPELINE)

gpu_check: $(SETUP)  ## what a GPU does with a 7B decoder, for docs/gpu.md (SMALL=1: the same on tiny models, on a CPU)
	$(PIPELINE)

status: $(SETUP)  ## each stage up to ROUND: fresh, stale (and why) or missing
	$(PIPELINE)

# ---- the rest -----------------------------------------------------------------------------------------------------
test: $(DEV)  ## lint and fast tests
	@$(PY) -m ruff check . && $(PY) -m ruff format --check .
	@OMP_NUM_THREADS=1 $(PY) -m pytest -m 'not slow and not interop' -n 2

test_slow: $(DEV)  ## whole rounds, two processes, kills
	@OMP_NUM_THREADS=1 $(PY) -m pytest -m slow -n 2 --dist loadscope

interop: $(DEV)  ## tests against FlagEmbedding itself, which this installs
	@$(INSTALL) -e '.[dev,interop]' 2> >(grep -v '^WARNING: Location' >&2)
	@$(PY) -m pytest -m interop

help:  ## this list
	@printf 'targets:\n  %-14s %s\n' 'roundN' "mine with the round before, fine-tune, evaluate; missing rounds run first (N = 1, 2, ...)"
	@awk -F ':.*## ' '/^[a-z_0-9]+:.*## / { printf "  %-14s %s\n", $$1, $$2 } END { print "variables and their defaults:" }' Makefile
	@PYTHONPATH=src $(or $(wildcard $(PY)),python3) -m rounds.pipeline.help

clean:  ## remove what the pipeline made (not data/raw, not the ledger, not .venv)
	@rm -rf model_output/*/ model_output/.locks data/sample data/sample-{pairs,kbvqa,outside,rewrites}
	@rm -rf submissions/{*.csv,*.manifest.json,bundle,notebook,publish} $(filter-out data/raw/%,$(dir $(wildcard data/*/validation_*/manifest.json data/*/submission/manifest.json)))
	@find data -mindepth 1 -maxdepth 1 -type d -empty ! -name raw -delete

FORCE:
.PHONY: $(shell awk -F : '/^[a-z_0-9]+:/ { print $$1 }' Makefile) FORCE
