# Rounds: the pipeline, from data to submission. `make help` lists targets and variables.

# On the sample, make rerank, cv and best do less of everything.
ifneq ($(filter folds rerank cv best,$(MAKECMDGOALS)),)
ifeq ($(RAW)$(wildcard data/raw/train.csv),)
ROUND      ?= 1
EPOCHS     ?= 1
FOLDS      ?= 0 1
TUNE_FLAGS ?= --group_size 4
endif
endif

# Questions on pictures have recipes of their own.
ifeq ($(TASK),kbvqa)
MODEL      ?= kbvqa
RECIPES    ?= kbvqa-prompt kbvqa-prompt-shared kbvqa-bottleneck-flat kbvqa-bottleneck kbvqa-projection kbvqa-words \
  kbvqa-words-then-pictures kbvqa
endif

# ---- variables ------------------------------------------------------------------------------------------------
SPLIT      ?= v1          ## v1 v2 v3 v4 v5, or submission (train on everything)
MODEL      ?= minilm      ## recipe: a name in src/rounds/recipes or a YAML file
TASK       ?= eedi        ## kind of data: eedi, pairs, beir, weak_labels or kbvqa
RAW        ?=             ## folder of the competition's CSVs; default: data/raw if filled, else the sample; TASK: its file or folder
FIELDS    ?=             ## TASK=pairs: query,positive[,group], the columns' names
RERANKER   ?= minilm-reranker  ## make rerank, cv: recipe of the reranker
ROUND      ?= 2           ## round that evaluate and submit take
EPOCHS     ?=             ## epochs a round; default: the recipe's
FOLDS      ?= 0 1 2 3     ## folds of split v5 that make cv and make best train on
SEED       ?= 42          ## seeds split, mining and training
FOLD       ?= 0           ## fold of split v5: 0 to 3
DEVICE     ?=             ## cpu, cuda, cuda:N, or several to encode on (cuda:0,cuda:1); default: a GPU where there is one
NPROC      ?= 1           ## processes that finetune runs in
QUESTIONS  ?= 1500        ## questions of the generated sample
ENGINE     ?= rounds      ## who encodes for mining and evaluation: rounds, or flagembedding (make interop installs it)
RUNS       ?=             ## evaluated rounds that make compare takes: folders in model_output (sample-minilm-v1/round1 ...)
RECIPES    ?= minilm minilm-lora minilm-ia3 minilm-bottleneck minilm-prompt minilm-p_tuning minilm-prefix
ONLY       ?=             ## rows that make bench runs: letters of a b c d e s
SMALL      ?=             ## 1: make gpu_check runs on tiny models, on a CPU
MINUTES    ?= 9           ## make gpu_check: time for all sections
SECTIONS   ?=             ## sections that make gpu_check runs: encode,train,fp16,round,search,compile
PORT       ?= 8008        ## make dashboard: on this machine
TRACK      ?= none        ## training curves to: none, wandb, trackio or tensorboard
KAGGLE     ?=             ## 1: make submit really submits
OWNER      ?=             ## your name on Kaggle, for make bundle; default: KAGGLE_USERNAME or kaggle.json's
COMPETITION ?= eedi-mining-misconceptions-in-mathematics  ## the competition, as in its address
IMAGE      ?=             ## pip freeze of the notebook's image; default: torch alone is taken to be there
WHEELS     ?=             ## all: make bundle takes all wheels, torch too
KAGGLE_PYTHON ?= 3.11     ## the notebook's Python
BASE       ?=             ## Kaggle input that holds an adapter's base model (owner/model/framework/variation/version)
MERGED     ?=             ## 1: make bundle takes the adapter merged into its base model
HOURS      ?= 8.5         ## the notebook's time; beyond it, queries get fewer examples
DRY        ?=             ## 1: make push prints its commands only
A          ?=             ## make parity: a run, evaluation, submission, checkpoint or recipe (@bf16 behind it: in bf16)
B          ?=             ## make parity: the other
HELD_OUT   ?= 0.2         ## make private_lb: share of the rows that it holds out
UNSEEN     ?= 0.6         ## make private_lb: share of these on misconceptions that the rest never labels
GPU        ?=             ## 1: make setup installs for a CUDA machine
MINE_FLAGS ?=             ## more flags for scripts/hn_mine.py
TUNE_FLAGS ?=             ## more flags for scripts/finetune.py

# ---- names ----------------------------------------------------------------------------------------------------
SHELL := /bin/bash
comma := ,
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.SECONDARY:
# Values without the blanks that stand before the comments above.
$(foreach V,SPLIT MODEL RERANKER TASK RAW FIELDS ROUND EPOCHS SEED FOLD FOLDS DEVICE NPROC QUESTIONS ENGINE RUNS RECIPES ONLY SMALL MINUTES SECTIONS PORT TRACK KAGGLE OWNER COMPETITION IMAGE WHEELS KAGGLE_PYTHON BASE MERGED \
  HOURS DRY A B HELD_OUT UNSEEN GPU MINE_FLAGS TUNE_FLAGS,\
  $(eval override $(V) := $(strip $($(V)))))

PY      := .venv/bin/python
SETUP   := .venv/.setup$(if $(filter 1,$(GPU)),-gpu)
SAMPLE  := data/sample
VERSIONS := v1 v2 v3 v4 v5 submission
CSVS    := train.csv test.csv misconception_mapping.csv sample_submission.csv
ifeq ($(TASK),eedi)
override RAW := $(patsubst %/,%,$(or $(RAW),$(if $(wildcard data/raw/train.csv),data/raw,$(SAMPLE))))
else
FRENCH  := data/sample-pairs/pairs.csv
PLACES  := data/sample-kbvqa
override FIELDS := $(if $(filter pairs,$(TASK)),$(or $(FIELDS),$(if $(RAW),query$(comma)positive,question$(comma)passage$(comma)animal)))
override RAW := $(patsubst %/,%,$(or $(RAW),$(if $(filter pairs,$(TASK)),$(FRENCH)),$(if $(filter kbvqa,$(TASK)),$(PLACES)),\
  $(error TASK=$(TASK): name its folder with RAW=DIR)))
endif
override SPLIT := $(if $(filter 1 2 3 4 5,$(SPLIT)),v$(SPLIT),$(SPLIT))
RECIPE  := $(if $(filter %.yaml %.yml,$(MODEL)),$(MODEL),src/rounds/recipes/$(MODEL).yaml)
PARENT  := $(patsubst %,src/rounds/recipes/%.yaml,$(shell sed -n 's/^extends: *//p' '$(RECIPE)' 2> /dev/null))
NAME    := $(if $(filter eedi,$(TASK)),$(notdir $(RAW)),$(basename $(notdir $(RAW))))-$(basename $(notdir $(MODEL)))

$(if $(word 2,$(RAW))$(word 2,$(MODEL))$(word 2,$(SPLIT)),$(error RAW, MODEL and SPLIT cannot hold blanks))

# What differs from the defaults goes into a short hash, so that every configuration has folders of its own.
tag     = $(if $(strip $(1)),-$(shell printf '%s' '$(strip $(1))' | sha256sum | cut -c1-8))
dataset = $(filter-out 42-0,$(SEED)-$(1)) $(filter-out eedi,$(TASK)) $(FIELDS)
trained = $(patsubst %,data=%,$(call dataset,$(1))) $(EPOCHS:%=epochs=%) $(DEVICE:%=device=%) $(patsubst %,nproc=%,$(filter-out 1,$(NPROC))) \
  $(patsubst %,engine=%,$(filter-out rounds,$(ENGINE))) \
  $(if $(MINE_FLAGS),mine=$(MINE_FLAGS)) $(if $(TUNE_FLAGS),tune=$(TUNE_FLAGS))
experiment = model_output/$(NAME)-$(1)$(call tag,$(call trained,$(2)))
DATADIR := $(NAME)$(call tag,$(call dataset,$(FOLD)))
DATA    := data/$(DATADIR)/$(if $(filter submission,$(SPLIT)),submission,validation_$(SPLIT))
EXP     := $(call experiment,$(SPLIT),$(FOLD))
INPUTS  := data/.inputs/$(DATADIR)
SUBMISSION := $(notdir $(EXP))-round$(ROUND)
PRIVATE := data/private-$(notdir $(RAW))$(call tag,$(filter-out 0.2-0.6-42,$(HELD_OUT)-$(UNSEEN)-$(SEED)))
FIELD   := $(subst $(comma), ,$(FIELDS))
CARD    := $(firstword $(subst $(comma), ,$(DEVICE)))
VALIDATED := $(filter-out submission,$(SPLIT))
RUN     := PYTHONUNBUFFERED=1 $(PY)
LAUNCH  := $(if $(filter 1,$(NPROC)),$(RUN),$(RUN) -m torch.distributed.run --nproc_per_node $(NPROC))

# ---- set-up and data ------------------------------------------------------------------------------------------
setup: $(SETUP)  ## install into .venv (GPU=1 for a CUDA machine)

$(SETUP): pyproject.toml .ci/constraints.txt
	@test -x $(PY) || { echo "setting up .venv (a minute or two)"; python3 -m venv .venv; }
	@$(PY) -m pip install -q --disable-pip-version-check -c .ci/constraints.txt \
	  -e '.[dev,kaggle$(if $(filter 1,$(GPU)),$(comma)gpu)]' 2> >(grep -v '^WARNING: Location' >&2)
ifeq ($(GPU),1)
	@$(PY) -m pip uninstall -q -y faiss-cpu && $(PY) -m pip install -q faiss-gpu-cu12
endif
	@touch $@ .venv/.setup

sample: $(SETUP)  ## generate the sample anew (QUESTIONS=1500, SEED=42)
	@$(RUN) scripts/make_sample.py --output_dir $(SAMPLE) --questions $(QUESTIONS) --seed $(SEED) --overwrite

$(SAMPLE)/manifest.json: | $(SETUP)
	@echo "no competition data: generating a sample in $(SAMPLE)" \
	  "(for the real data, make download, or RAW=DIR with the competition's CSVs)"
	@$(RUN) scripts/make_sample.py --output_dir $(SAMPLE) --questions $(QUESTIONS)

$(addprefix $(SAMPLE)/,$(CSVS)): $(SAMPLE)/manifest.json ;

data/sample-pairs/pairs.csv: | $(SETUP)
	@echo "no pairs: generating French ones in $(@D) (for your own, RAW=FILE FIELDS=query,positive,group)"
	@$(RUN) scripts/make_sample.py --task pairs --output_dir $(@D) --overwrite

data/sample-kbvqa/manifest.json: | $(SETUP)
	@echo "no questions on pictures: generating some in $(@D) (for your own, RAW=DIR)"
	@$(RUN) scripts/make_sample.py --task kbvqa --output_dir $(@D) --overwrite

download: $(SETUP)  ## fetch the competition's CSVs into data/raw (kaggle client)
	@$(RUN) scripts/download.py --output_dir data/raw

# Rewritten only when the content of the data or the recipe changes, whatever the files' times say.
$(INPUTS): $(addprefix $(RAW)/,$(if $(filter $(SAMPLE),$(RAW)),$(CSVS))) $(filter $(FRENCH),$(RAW)) \
  $(addsuffix /manifest.json,$(filter $(PLACES),$(RAW))) FORCE
	@mkdir -p $(@D)
	@[[ ' $(VERSIONS) ' == *' $(SPLIT) '* ]] || { echo "error: SPLIT=$(SPLIT): not one of $(VERSIONS)" >&2; exit 2; }
	@[[ '$(NPROC)' =~ ^[1-9][0-9]*$$ ]] || { echo "error: NPROC=$(NPROC): not a number of processes" >&2; exit 2; }
	@test -e '$(RAW)' || { echo "error: RAW=$(RAW): no such folder" >&2; exit 2; }
	@test -f '$(RECIPE)' || { echo "error: MODEL=$(MODEL): no recipe $(RECIPE)" >&2; exit 2; }
	@(sha256sum '$(RECIPE)' $(PARENT); $(if $(filter eedi,$(TASK)),cd '$(RAW)'; sha256sum $(CSVS) 2> /dev/null || true,find '$(RAW)' -type f | sort | xargs -d '\n' sha256sum)) > $@.$$$$.tmp; \
	  cmp -s $@.$$$$.tmp $@ && rm $@.$$$$.tmp || mv $@.$$$$.tmp $@

data: $(DATA)/manifest.json  ## queries, corpus and qrels of SPLIT

$(DATA)/manifest.json: $(INPUTS) | $(SETUP)
	@$(RUN) scripts/gen_data_for_hn_mine.py --raw_dir '$(RAW)' --recipe '$(RECIPE)' --seed $(SEED) --fold $(FOLD) \
	  $(if $(VALIDATED),--mode validation --validation_version $(SPLIT),--mode submission) \
	  $(if $(filter-out eedi,$(TASK)),--task $(TASK)) $(if $(filter pairs,$(TASK)),--query_column $(word 1,$(FIELD)) \
	  --positive_column $(word 2,$(FIELD)) $(if $(word 3,$(FIELD)),--group_column $(word 3,$(FIELD)))) \
	  --output_root data --sub_dir_name $(DATADIR) --overwrite

# A recipe that sees names its vision model; one in model_output is pretrained on RAW's captions.
VISION  := $(shell sed -n 's|^ *name_or_path: *\(model_output/vision[^ #]*\).*|\1|p' '$(RECIPE)' $(PARENT) 2> /dev/null | head -1)
SEEING  := $(VISION:%=%/manifest.json)

# Rewritten only when the captions are others.
$(VISION:%=%.sha256): FORCE | $(DATA)/manifest.json
	@mkdir -p $(@D); (sha256sum < '$(RAW)/captions.jsonl' 2> /dev/null || echo none) > $@.tmp; \
	  cmp -s $@.tmp $@ && rm $@.tmp || mv $@.tmp $@

$(SEEING): $(VISION:%=%.sha256) $(RECIPE) $(PARENT)
	@echo "== pretrain: vision"
	@$(RUN) scripts/pretrain_vision.py --raw_dir '$(RAW)' --recipe '$(RECIPE)' --output_dir $(@D) --seed $(SEED) \
	  $(if $(CARD),--device $(CARD)) --overwrite

pretrain: $(SEEING)  ## a vision model for recipes that see, from RAW's captions

# ---- rounds ---------------------------------------------------------------------------------------------------
# Round 0 is the base model: its row and BM25's stand in every later table.
$(EXP)/round0/eval/manifest.json: $(DATA)/manifest.json $(SEEING)
	@$(RUN) scripts/eval_llm_embedder.py --recipe '$(RECIPE)' --data_dir $(DATA) --bm25 --engine $(ENGINE) \
	  $(if $(DEVICE),--device $(DEVICE)) --output_dir $(@D) --overwrite > /dev/null

# Round N mines with round N-1's checkpoint, continues from it, and evaluates: $(1) is N, $(2) is N-1, $(3) the rest.
define ROUND_RULES
$(EXP)/round$(1)/finetune_data_minedHN.manifest.json: $(DATA)/manifest.json $(SEEING) $(if $(3),$(EXP)/round$(2)/train/manifest.json)
	@echo "== round $(1): mine"
	@$(RUN) scripts/hn_mine.py $(if $(3),--embedder_name_or_path $(EXP)/round$(2)/train,--recipe '$(RECIPE)') \
	  --input_file $(DATA)/finetune_data.jsonl --output_file $(EXP)/round$(1)/finetune_data_minedHN.jsonl \
	  $(if $(DEVICE),--devices $(DEVICE)) --engine $(ENGINE) --seed $(SEED) $(MINE_FLAGS) --overwrite

$(EXP)/round$(1)/finetune_data_minedHN.jsonl: $(EXP)/round$(1)/finetune_data_minedHN.manifest.json ;

$(EXP)/round$(1)/train/manifest.json: $(EXP)/round$(1)/finetune_data_minedHN.jsonl
	@echo "== round $(1): finetune"
	@$(LAUNCH) scripts/finetune.py --recipe '$(RECIPE)' --round $(1) --train_data $$< --data_dir $(DATA) \
	  $(if $(3),--model_name_or_path $(EXP)/round$(2)/train) $(if $(EPOCHS),--epochs $(EPOCHS)) \
	  $(if $(CARD),--device $(CARD)) --seed $(SEED) --track $(TRACK) $(TUNE_FLAGS) \
	  --output_dir $(EXP)/round$(1)/train --overwrite

$(EXP)/round$(1)/eval/manifest.json: $(EXP)/round$(1)/train/manifest.json $(EXP)/round$(2)/eval/manifest.json
	@echo "== round $(1): evaluate"
	@$(RUN) scripts/eval_llm_embedder.py --model_path $(EXP)/round$(1)/train --data_dir $(DATA) --engine $(ENGINE) \
	  $(if $(DEVICE),--device $(DEVICE)) --compare $(foreach N,$(3) $(2),$(EXP)/round$(N)/eval) \
	  --output_dir $$(@D) --overwrite

round$(1): $(if $(VALIDATED),$(EXP)/round$(1)/eval/manifest.json,$(EXP)/round$(1)/train/manifest.json)
.PHONY: round$(1)
endef

$(eval $(call ROUND_RULES,1,0,))
$(eval $(call ROUND_RULES,2,1,0))
$(eval $(call ROUND_RULES,3,2,0 1))
$(eval $(call ROUND_RULES,4,3,0 1 2))
$(eval $(call ROUND_RULES,5,4,0 1 2 3))
$(eval $(call ROUND_RULES,6,5,0 1 2 3 4))

ifneq ($(VALIDATED),)
evaluate: $(EXP)/round$(ROUND)/eval/manifest.json  ## print ROUND's table again
	@$(RUN) scripts/compare.py --runs $(foreach N,$(shell seq 0 $(ROUND)),$(EXP)/round$(N)/eval)
else
evaluate baseline:
	@echo "error: SPLIT=submission trains on everything: it has no validation queries" >&2; exit 2
endif

submit: $(EXP)/round$(ROUND)/train/manifest.json  ## write and check submissions/NAME.csv with ROUND's checkpoint
	@$(RUN) scripts/make_submission.py --model_path $(EXP)/round$(ROUND)/train --data_dir $(DATA) --raw_dir '$(RAW)' \
	  $(if $(DEVICE),--device $(DEVICE)) $(if $(filter 1,$(KAGGLE)),--kaggle) --competition $(COMPETITION) \
	  --output_file submissions/$(SUBMISSION).csv

# ---- second stages --------------------------------------------------------------------------------------------
# What refines ROUND's ranking of the validation queries or, with SPLIT=submission, of the test queries.
tables = $(foreach F,$(1),$(call experiment,v5,$(F))/round$(ROUND)/candidates)
JUDGED  = $(patsubst %,src/rounds/recipes/%.yaml,$(shell sed -n 's/^extends: *//p' '$(JUDGE)' 2> /dev/null))
JUDGE   = $(if $(filter %.yaml %.yml,$(RERANKER)),$(RERANKER),src/rounds/recipes/$(RERANKER).yaml)
OTHERS  = $(call tables,$(filter-out $(if $(VALIDATED),$(FOLD)),$(FOLDS)))

$(EXP)/round$(ROUND)/candidates/manifest.json: $(EXP)/round$(ROUND)/$(if $(VALIDATED),eval,train)/manifest.json
	@$(RUN) scripts/candidates.py --recipe '$(RECIPE)' --data_dir $(DATA) $(if $(CARD),--device $(CARD)) \
	  --model_paths $(foreach N,$(shell seq 1 $(ROUND)),$(EXP)/round$(N)/train) --output_dir $(@D) --overwrite

candidates: $(EXP)/round$(ROUND)/candidates/manifest.json  ## what ROUND's ranking is refined with: votes, words, tokens

# Rewritten only when it is another reranker.
$(EXP)/round$(ROUND)/reranker.sha256: FORCE
	@test -f '$(JUDGE)' || { echo "error: RERANKER=$(RERANKER): no recipe $(JUDGE)" >&2; exit 2; }
	@mkdir -p $(@D); cat '$(JUDGE)' $(JUDGED) | sha256sum > $@.tmp; \
	  cmp -s $@.tmp $@ && rm $@.tmp || mv $@.tmp $@

$(EXP)/round$(ROUND)/rerank/manifest.json: $(EXP)/round$(ROUND)/candidates/manifest.json $(EXP)/round$(ROUND)/reranker.sha256
	@$(RUN) scripts/rerank.py --recipe '$(RERANKER)' --folds $(OTHERS) --table $(<D) --output_dir $(@D) \
	  --refined $(EXP)/round$(ROUND)/train $(if $(CARD),--device $(CARD)) --seed $(SEED) --overwrite

reranked: $(EXP)/round$(ROUND)/rerank/manifest.json

# Each fold has folders of its own, so that a stopped run goes on where it was.
AGAIN = $(MAKE) --no-print-directory MODEL='$(MODEL)' ROUND=$(ROUND) EPOCHS='$(EPOCHS)' FOLDS='$(FOLDS)' TUNE_FLAGS='$(TUNE_FLAGS)'

folds:
	@for fold in $(FOLDS); do echo "== fold $$fold"; $(AGAIN) candidates SPLIT=v5 FOLD=$$fold; done

rerank: folds  ## train RERANKER on what the other FOLDS rank first, and rerank each fold with it
	@for fold in $(FOLDS); do echo "== fold $$fold: rerank"; $(AGAIN) reranked SPLIT=v5 FOLD=$$fold; done

cv: rerank  ## what each stage scores on FOLDS of v5; second stages never learn from the fold that they rank
	@$(RUN) scripts/cv.py --folds $(call tables,$(FOLDS)) --ablate --output model_output/cv-$(NAME)

best: folds  ## submissions/best.csv: ROUND on all of train, fused as FOLDS teach
	@echo "== all of train"; $(AGAIN) candidates SPLIT=submission
	@$(RUN) scripts/cv.py --folds $(call tables,$(FOLDS)) --output model_output/cv-$(NAME)
	@$(RUN) scripts/fuse.py --folds $(call tables,$(FOLDS)) --table $(call experiment,submission,0)/round$(ROUND)/candidates \
	  --raw_dir '$(RAW)' --output_file submissions/best.csv

# ---- Kaggle ---------------------------------------------------------------------------------------------------
# The competition takes a notebook without internet: a bundle of wheels and weights, and a notebook that runs it.
bundle: $(EXP)/round$(ROUND)/train/manifest.json  ## submissions/bundle and submissions/notebook for ROUND's checkpoint
	@$(RUN) scripts/bundle.py --model_path $(EXP)/round$(ROUND)/train --data_dir $(DATA) --name $(SUBMISSION) \
	  --competition $(COMPETITION) --hours $(HOURS) --python $(KAGGLE_PYTHON) $(if $(OWNER),--owner '$(OWNER)') \
	  $(if $(IMAGE),--image '$(IMAGE)') $(if $(filter all,$(WHEELS)),--everything) $(if $(BASE),--base '$(BASE)') \
	  $(if $(filter 1,$(MERGED)),--merged)

push: | $(SETUP)  ## upload bundle and notebook, run it on Kaggle, submit what it wrote (DRY=1: print the commands)
	@$(RUN) scripts/push.py $(if $(filter 1,$(DRY)),--dry)

lb: | $(SETUP)  ## write Kaggle's scores of our submissions into the ledger
	@$(RUN) scripts/lb.py --competition $(COMPETITION)

ledger: | $(SETUP)  ## CV and LB of all checkpoints side by side, with their correlation
	@$(RUN) scripts/ledger.py

# Where RAW is such a folder already, ROUND's submission is written and scored against its held-out labels, once.
private_lb: $(if $(filter data/private-%,$(RAW)),submit $(VALIDATED:%=$(EXP)/round$(ROUND)/eval/manifest.json),$(INPUTS))  ## hold questions out of RAW; with RAW=data/private-X: score
ifneq ($(filter data/private-%,$(RAW)),)
	@$(RUN) scripts/private_lb.py --folder '$(RAW)' --submission submissions/$(SUBMISSION).csv
else
	@$(RUN) scripts/private_lb.py --raw_dir '$(RAW)' --folder '$(PRIVATE)' --size $(HELD_OUT) --unseen $(UNSEEN) --seed $(SEED)
	@echo "next: make round1 RAW=$(PRIVATE), then make private_lb RAW=$(PRIVATE) ROUND=1 (submits and scores)"
endif

parity: $(DATA)/manifest.json  ## whether the runs A and B agree, and if not, which setting is the cause
	@test -n '$(A)' -a -n '$(B)' || { echo "error: A and B: name two runs, such as A=minilm@fp32 B=minilm@bf16" >&2; exit 2; }
	@$(RUN) scripts/parity.py --a '$(A)' --b '$(B)' --data_dir $(DATA) $(if $(CARD),--device $(CARD))

# ---- measuring ------------------------------------------------------------------------------------------------
# The stock sentence-transformers trainer on the same split, query text and epochs, beside our rounds.
$(EXP)/baseline/train/manifest.json: $(DATA)/manifest.json
	@echo "== baseline: sentence-transformers as it comes"
	@$(RUN) scripts/baseline.py --recipe '$(RECIPE)' --data_dir $(DATA) $(if $(EPOCHS),--epochs $(EPOCHS)) \
	  $(if $(CARD),--device $(CARD)) --seed $(SEED) --output_dir $(@D) --overwrite

$(EXP)/baseline/eval/manifest.json: $(EXP)/baseline/train/manifest.json
	@$(RUN) scripts/eval_llm_embedder.py --model_path $(EXP)/baseline/train --data_dir $(DATA) \
	  $(if $(DEVICE),--device $(DEVICE)) --output_dir $(@D) --overwrite > /dev/null

ifneq ($(VALIDATED),)
baseline: $(EXP)/baseline/eval/manifest.json $(EXP)/round1/eval/manifest.json  ## the stock trainer beside round 1 (and 2, if made)
	@$(RUN) scripts/compare.py --runs $(EXP)/round0/eval $(EXP)/baseline/eval $(EXP)/round1/eval $(wildcard $(EXP)/round2/eval)
endif

ifneq ($(VALIDATED),)
compare: $(DATA)/manifest.json  ## all metrics of RUNS with superscripts, beside chance and BM25
	@test -n '$(RUNS)' || { echo "error: RUNS: name evaluated rounds, such as RUNS='$(notdir $(EXP))/round1'" >&2; exit 2; }
	@$(RUN) scripts/compare.py --runs $(RUNS:%=model_output/%/eval) --data_dir $(DATA) \
	  --output model_output/compared-$(notdir $(RAW))-$(SPLIT)

tune_bm25: $(DATA)/manifest.json  ## grid over BM25's k1 and b, on SPLIT's training queries
	@$(RUN) scripts/tune_bm25.py --data_dir $(DATA)

dims: $(EXP)/round$(ROUND)/eval/manifest.json  ## ROUND's vectors cut to fewer dimensions, before and after training
	@$(RUN) scripts/dims.py --recipe '$(RECIPE)' --model_path $(EXP)/round$(ROUND)/train --data_dir $(DATA) \
	  $(if $(CARD),--device $(CARD))

report: $(EXP)/round$(ROUND)/eval/manifest.json  ## model_output/report-NAME/report.html: what the rounds did, on one page
	@$(RUN) scripts/report.py --experiment $(EXP) --data_dir $(DATA) --output_dir model_output/report-$(notdir $(EXP))

dashboard: $(DATA)/manifest.json  ## the report on http://127.0.0.1:PORT/, live while a round trains in another terminal
	@$(RUN) scripts/dashboard.py --experiment $(EXP) --data_dir $(DATA) --port $(PORT)

brittle: $(EXP)/round$(ROUND)/train/manifest.json  ## ROUND's queries with a space, a newline, a word in other case: what changes
	@$(RUN) scripts/probe.py --probe brittle --model_path $(EXP)/round$(ROUND)/train --data_dir $(DATA) $(if $(CARD),--device $(CARD))

# Each recipe has folders of its own, so that a stopped sweep goes on where it was.
sweep: $(DATA)/manifest.json  ## round 1 of each of RECIPES on one split, in one table
	@for recipe in $(RECIPES); do echo "== sweep: $$recipe"; $(MAKE) --no-print-directory round1 MODEL=$$recipe; done
	@$(RUN) scripts/sweep.py --data_dir $(DATA) --output model_output/sweep-$(notdir $(RAW))-$(SPLIT) \
	  --rounds $$(for recipe in $(RECIPES); do $(MAKE) -s --no-print-directory folder MODEL=$$recipe; done)

folder:
	@echo $(EXP)/round1
endif

tokens: $(DATA)/manifest.json  ## what the recipe's tokenizer makes of the texts: unknown and cut shares, longest
	@$(RUN) scripts/probe.py --probe tokens --recipe '$(RECIPE)' --data_dir $(DATA)

fit_batch: $(DATA)/manifest.json  ## how many tokens of a training chunk fit into memory, and how fast they go
	@$(RUN) scripts/probe.py --probe fit_batch --recipe '$(RECIPE)' --data_dir $(DATA) $(if $(CARD),--device $(CARD))

bench: $(EXP)/round1/finetune_data_minedHN.jsonl  ## speed and memory beside the peers' (ONLY=a for row a); all rows: into README.md
	@$(RUN) scripts/bench.py --recipe '$(RECIPE)' --data_dir $(DATA) --train_data $< \
	  $(if $(ONLY),--only $(ONLY),--readme README.md)

gpu_check: | $(SETUP)  ## what a GPU does with the flagship, for docs/gpu.md (SMALL=1: the same on tiny models, on a CPU)
	@$(RUN) scripts/gpu_check.py --minutes $(MINUTES) $(if $(SECTIONS),--sections $(SECTIONS)) $(if $(filter 1,$(SMALL)),--small)

# ---- the rest -------------------------------------------------------------------------------------------------
test: $(SETUP)  ## lint and fast tests
	@$(PY) -m ruff check . && $(PY) -m ruff format --check .
	@OMP_NUM_THREADS=1 $(PY) -m pytest -m 'not slow and not interop' -n 2

test_slow: $(SETUP)  ## whole rounds, two processes, kills
	@$(PY) -m pytest -m slow

interop: $(SETUP)  ## tests against FlagEmbedding itself, which this installs
	@$(PY) -m pip install -q --disable-pip-version-check -c .ci/constraints.txt -e '.[dev,interop]' \
	  2> >(grep -v '^WARNING: Location' >&2)
	@$(PY) -m pytest -m interop

help:  ## this list
	@echo "targets:"
	@printf '  %-14s %s\n' 'round1..round6' "mine with the round before, fine-tune, evaluate; missing rounds run first"
	@awk -F ':.*## ' '/^[a-z_]+:.*## / { printf "  %-14s %s\n", $$1, $$2 }' Makefile
	@echo "variables and their defaults:"
	@awk -F ' *[?]= *| *## *' '/^[A-Z_]+ +[?]=.*## / { printf "  %-14s %-8s %s\n", $$1, $$2, $$3 }' Makefile

clean:  ## remove what the pipeline made (not data/raw, not the ledger, not .venv)
	@rm -rf model_output/*/ data/.inputs data/sample data/sample-pairs data/sample-kbvqa submissions/*.csv submissions/*.manifest.json
	@rm -rf $(dir $(wildcard data/*/*/manifest.json)) submissions/bundle submissions/notebook
	@find data -mindepth 1 -maxdepth 1 -type d -empty -delete

FORCE:
.PHONY: setup sample download data pretrain evaluate submit bundle push lb ledger private_lb parity baseline compare tune_bm25 dims report dashboard brittle tokens fit_batch sweep folder candidates reranked folds rerank cv best bench gpu_check test test_slow interop help clean FORCE
