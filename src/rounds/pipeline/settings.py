"""Settings: every variable of the Makefile with its default and help text, read from the environment and NAME=value.

Only the standard library and modules that keep to it are imported, so `make help` works before the set-up.
"""

import difflib
import os
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import MISSING, Field, dataclass, field, fields, replace
from pathlib import Path

from rounds.artifacts.object_storage import STORAGE_VARIABLES
from rounds.data.source import FOLDED, MAX_SEED, N_FOLDS, OFFICIAL_SPLITS, PROMPT_TASK, PROMPT_VERSIONS, TASKS
from rounds.errors import UserError
from rounds.pipeline import fold_choice, hosts, value_checks
from rounds.pipeline.task_defaults import (
    DOWNLOADS,
    RECIPES,
    SAMPLE_DEFAULTS,
    SAMPLE_OUTSIDE,
    SAMPLES,
    SMALLER_ON_SAMPLE,
    TASK_DEFAULTS,
    project_path,
)

SPLITS = ("v1", "v2", "v3", "v4", "v5", "v6", *OFFICIAL_SPLITS, "submission")
PRECISIONS = ("", "fp32", "bf16", "fp16")
LAST_ROUND = 100  # a chain of more rounds is a slip of the hand
# Variables that a command line may set without being settings: the Makefile's own, and those of libraries.
OTHER_VARIABLES = ("PY", "SETUP", "SHELL", "PATH", "HOME", "MAKEFLAGS")
OTHER_PREFIXES = (
    *("ROUNDS_", "HF_", "CUDA_", "OMP_", "PIP_", "KAGGLE_", "TORCH_", "TOKENIZERS_", "PYTHON", "WANDB_"),
    *STORAGE_VARIABLES,
)


def _setting(
    default: object,
    help: str,
    choices: tuple[str, ...] = (),
    least: float | None = None,
    most: float | None = None,
    check: Callable[[str], str] | None = None,
):
    """A field; `check` returns what is wrong with a text, or nothing."""
    return field(
        default=default, metadata={"help": help, "choices": choices, "least": least, "most": most, "check": check}
    )


def listed(names: Iterable[str], conjunction: str = "or") -> str:
    """Return names as a sentence lists them: `a, b or c`."""
    *most, last = names
    return f"{', '.join(most)} {conjunction} {last}"


@dataclass(frozen=True)
class Settings:
    """The variables of one call; the upper-case name of a field is its name on the command line.

    `raw` is empty until `resolve` has filled it in, and `fold_split`, whose folds second stages learn from, is v5.
    """

    split: str = _setting(
        "v1", "v1 v2 v3 v4 v5 v6, or submission (train on everything); TASK=beir: official, dev", SPLITS
    )
    model: str = _setting("minilm", "recipe: a name in src/rounds/recipes or a YAML file")
    task: str = _setting("eedi", f"kind of data: {listed((*TASKS, PROMPT_TASK))}", (*TASKS, PROMPT_TASK))
    raw: str = _setting(
        "", "data to read: the competition's CSVs (default: data/raw if filled, else a sample), or TASK's"
    )
    extra: str = _setting(
        "",
        f"FILE,... of outside questions that train too (docs/data.md); {SAMPLE_OUTSIDE}: generated",
        check=value_checks.wrong_extra,
    )
    fields: str = _setting(
        "", "TASK=pairs: query,positive[,group], the names of the columns", check=value_checks.wrong_fields
    )
    embedder: str = _setting(
        "minilm", "TASK=prompt_recovery: embedder of the metric: minilm, sentence-t5-base, or a model's name or folder"
    )
    rows: int | None = _setting(
        None, "TASK=prompt_recovery: validation rows that are kept, evenly spaced; default: all", least=1
    )
    identical: str = _setting(
        "ignore", "TASK=pairs, beir: a query's own id or text in the corpus; rank: rank and mine it", ("ignore", "rank")
    )
    explanations: str = _setting(
        "", "CSV or JSONL with MisconceptionId, Explanation; the recipe's prompts.passage joins them to the passages"
    )
    reranker: str = _setting("minilm-reranker", "make rerank, cv: recipe of the reranker")
    min_precision: float = _setting(
        0.5, "make pseudo_label: precision that labels must have on held-out queries", least=0, most=1
    )
    round: int = _setting(
        2,
        "round that evaluate, mteb, demo, submit and status take; 0: the base model, to evaluate",
        least=0,
        most=LAST_ROUND,
    )
    epochs: int | None = _setting(None, "epochs of a round; default: the recipe's", least=1)
    folds: tuple[int, ...] = _setting(
        fold_choice.all_of(N_FOLDS),
        "folds of v5, or SPLIT=v6, that make cv, best and distil train on; default: all N_FOLDS",
        least=0,
    )
    n_folds: int = _setting(N_FOLDS, "folds of splits v5 and v6: more of them are smaller (docs/data.md)", least=2)
    seed: int = _setting(42, "seeds split, mining and training", least=0, most=MAX_SEED)
    train_seed: int | None = _setting(
        None, "seeds training alone, so that models of one split differ; default: SEED", least=0, most=MAX_SEED
    )
    train_seeds: tuple[int, ...] = _setting(
        (),
        "make candidates, rerank, cv, best: train the rounds with each of these, and take their mean",
        least=0,
        most=MAX_SEED,
    )
    fold: int = _setting(0, "fold of split v5 or v6: 0 to N_FOLDS - 1", least=0)
    device: str = _setting(
        "",
        "cpu, cuda, cuda:N, or several to encode on (cuda:0,cuda:1); default: a GPU if there is one",
        check=value_checks.wrong_device,
    )
    cluster: str = _setting(
        "",
        "auto, or HOST:PORT of a Ray cluster's head: encode, search, mine and list candidates there (docs/cluster.md)",
        check=value_checks.wrong_cluster,
    )
    shards: str = _setting(
        "",
        "URL, such as s3://bucket/folder, that CLUSTER's workers write what they encoded to (docs/cluster.md)",
        check=value_checks.wrong_shards,
    )
    nproc: int = _setting(1, "processes that finetune runs in", least=1)
    hosts: str = _setting(
        "",
        "HOST,HOST,... that finetune runs on, NPROC processes each, this machine first; @HOSTFILE; or slurm, for the "
        "job's nodes (docs/cluster.md)",
        check=value_checks.wrong_hosts,
    )
    launch_by: str = _setting(
        "",
        "what starts a command on one of HOSTS, such as 'kubectl exec {name} --'; default: ssh, or srun for slurm",
        check=value_checks.wrong_launcher,
    )
    questions: int = _setting(1100, "questions of the generated sample", least=1)
    precision: str = _setting(
        "",
        "evaluates the base model in this precision as well (TASK=beir: fp32); make mteb, demo: compute in it",
        PRECISIONS,
    )
    tasks: tuple[str, ...] = _setting((), "make mteb: names of mteb's tasks, such as 'SciFact NFCorpus'")
    engine: str = _setting("rounds", "encoder of mining and evaluation", ("rounds", "flagembedding"))
    runs: tuple[str, ...] = _setting(
        (),
        "rounds, as folders in model_output, that make compare takes and make average averages; evaluate, submit, "
        "bundle and publish take their average, or a single one as it is, in ROUND's place",
    )
    method: str = _setting("mean", "how RUNS are averaged: mean, or slerp for two", ("mean", "slerp"))
    recipes: tuple[str, ...] = _setting(RECIPES, "recipes that make sweep trains")
    only: str = _setting("", "rows that make bench runs: letters of a b c d e f g h s m r")
    small: bool = _setting(False, "1: make gpu_check runs on tiny models, on a CPU")
    minutes: float = _setting(9, "make gpu_check: time for all sections", least=0)
    sections: str = _setting("", "sections that make gpu_check runs: encode,train,fp16,round,search,compile")
    port: int = _setting(8008, "port of make dashboard and make demo on this machine", least=0, most=65535)
    track: str = _setting("none", "sends training curves there", ("none", "wandb", "trackio", "tensorboard"))
    kaggle: bool = _setting(False, "1: make submit really submits")
    owner: str = _setting("", "your name on Kaggle, for make bundle; default: KAGGLE_USERNAME or kaggle.json's")
    competition: str = _setting("eedi-mining-misconceptions-in-mathematics", "the competition, as in its address")
    image: str = _setting("", "pip freeze of the notebook's image; default: only torch is taken to be there")
    wheels: str = _setting("", "all: make bundle takes all wheels, torch too", ("", "all"))
    kaggle_python: str = _setting("3.11", "Python version of the notebook")
    base: str = _setting("", "Kaggle input with an adapter's base model (owner/model/framework/variation/version)")
    merged: bool = _setting(False, "1: make bundle and publish take the adapter merged into its base model")
    repo: str = _setting("", "make publish: OWNER/NAME on the Hugging Face hub", check=value_checks.wrong_repo)
    public: bool = _setting(False, "1: make publish lets everybody see the repository")
    license: str = _setting("", "make publish: the licence that the model card names, such as mit")
    hours: float = _setting(
        8.5, "time limit of the notebook; beyond it, queries get fewer examples, rows the fixed prompt", least=0
    )
    dry: bool = _setting(
        False,
        "1: print the script calls instead of running them (make push: its own commands; make publish: upload nothing)",
    )
    a: str = _setting("", "make parity: a run, evaluation, submission, checkpoint or recipe (@bf16 behind it: in bf16)")
    b: str = _setting("", "make parity: what A is compared with")
    held_out: float = _setting(0.2, "make private_lb: share of the rows that it holds out", least=0)
    unseen: float = _setting(
        0.6, "make private_lb: share of these on misconceptions that the rest never labels", least=0
    )
    gpu: bool = _setting(False, "1: make setup installs for a CUDA machine")
    python: str = _setting("", "make setup: the Python of .venv, such as python3.12; default: python3, or .venv's own")
    mine_flags: str = _setting("", "more flags for scripts/hn_mine.py", check=value_checks.wrong_quotes)
    tune_flags: str = _setting(
        "", "more flags for scripts/finetune.py, or scripts/tune.py", check=value_checks.wrong_quotes
    )
    given: frozenset[str] = frozenset()
    fold_split: str = FOLDED[0]

    @property
    def is_validated(self) -> bool:
        """Whether the split has validation queries."""
        return self.split != "submission"

    @property
    def is_sample(self) -> bool:
        """Whether the data are the generated ones of the task."""
        return SAMPLES.get(self.task) == self.raw

    @property
    def extra_files(self) -> list[str]:
        """The files of outside questions."""
        return [project_path(name.strip()) for name in self.extra.split(",") if name.strip()]

    @property
    def training_seed(self) -> int:
        """What training is seeded with."""
        return self.seed if self.train_seed is None else self.train_seed

    @property
    def host_names(self) -> tuple[str, ...]:
        """The machines that train together, this one first; none where it trains alone."""
        return tuple(name.strip() for name in self.hosts.split(",") if name.strip())

    @property
    def processes(self) -> int:
        """The number of processes that train together."""
        return self.nproc * max(1, len(self.host_names))

    @property
    def first_device(self) -> str:
        """The device of stages that compute on one."""
        return self.device.partition(",")[0].strip()

    def on(self, **changes: object) -> "Settings":
        """The same settings with some changed."""
        return replace(self, **changes)

    def resolve(self, target: str = "", root: Path = Path()) -> "Settings":
        """Fill in what depends on the task, the target and the data at hand.

        Raises:
            UserError: the task has no sample, and RAW names no data, or no labels for SPLIT; HOSTS no machines; or
                SHARDS has no CLUSTER.
        """
        if self.split in OFFICIAL_SPLITS and self.task != "beir":
            raise UserError(f"SPLIT={self.split}: only TASK=beir has files of labels for it; choose one of v1 to v5")
        if self.task == PROMPT_TASK and self.split not in PROMPT_VERSIONS:
            raise UserError(
                f"SPLIT={self.split}: TASK={self.task} has {listed(PROMPT_VERSIONS)} (docs/prompt-recovery.md)"
            )
        if self.split == "v6" and self.task not in ("eedi", PROMPT_TASK):
            raise UserError(f"SPLIT=v6: groups questions by ConstructId, which TASK={self.task} lacks; choose v1 to v5")
        if self.shards and not self.cluster:
            raise UserError(
                f"SHARDS={self.shards}: only CLUSTER's workers write shards; name a cluster, or leave it out"
            )
        if self.extra and self.task != "eedi":
            raise UserError(
                f"EXTRA={self.extra}: outside questions join TASK=eedi alone, not {self.task}; leave it out"
            )
        if self.train_seeds and self.train_seed is not None:
            raise UserError(f"TRAIN_SEED={self.train_seed}: TRAIN_SEEDS names all seeds of training; leave one out")
        if len(self.train_seeds) == 1:
            raise UserError(f"TRAIN_SEEDS={self.train_seeds[0]}: name two seeds or more; a single one is TRAIN_SEED")
        defaults = TASK_DEFAULTS.get(self.task, {}) | {"folds": fold_choice.all_of(self.n_folds)}
        downloaded = Path(DOWNLOADS.get(self.task, ""))
        is_downloaded = downloaded.name != "" and (root / downloaded).exists()
        if target in SMALLER_ON_SAMPLE and not self.raw and not is_downloaded:
            defaults |= SAMPLE_DEFAULTS
        changes = {name: value for name, value in defaults.items() if name not in self.given}
        fold_choice.check(self.on(**changes), target)
        changes["fold_split"] = fold_choice.split_of(self, target)
        raw = project_path(self.raw)
        if not raw:
            raw = str(downloaded.parent) if is_downloaded else SAMPLES.get(self.task, "")
        if not raw:
            raise UserError(f"TASK={self.task}: name its folder with RAW=DIR")
        if self.fields:  # blanks within a name are its own, those beside a comma are not
            changes["fields"] = ",".join(name.strip() for name in self.fields.split(","))
        elif self.task == "pairs":
            changes["fields"] = "query,positive" if self.raw else "question,passage,animal"
        return replace(self, raw=raw, **changes, **self._machines())

    def _machines(self) -> dict[str, object]:
        """What HOSTS stands for, as changes of settings; one machine alone trains as without it."""
        if not self.hosts:
            return {"launch_by": ""}
        machines = hosts.resolve(self.hosts, os.environ, "nproc" in self.given)
        nproc = machines.slots or self.nproc
        if len(machines.names) == 1:
            return {"hosts": "", "launch_by": "", "nproc": nproc}
        launch_by = self.launch_by or machines.launch_by
        return {"hosts": ",".join(machines.names), "launch_by": launch_by, "nproc": nproc}


def variables() -> list[Field]:
    """The settings' fields, in the order of the help text."""
    return [variable for variable in fields(Settings) if "help" in variable.metadata]


def read(arguments: Sequence[str] = (), environment: Mapping[str, str] | None = None) -> Settings:
    """Read settings from NAME=value arguments and, where those say nothing, from the environment.

    >>> read(["SPLIT=3", "EPOCHS= 1 ", "FOLDS=0 1"], {}).split
    'v3'

    Raises:
        UserError: an unknown name in `arguments`, or a value of the wrong kind.
    """
    names = {variable.name.upper(): variable for variable in variables()}
    environment = os.environ if environment is None else environment
    texts = {name: environment[name] for name in names if name in environment}
    for argument in arguments:
        name, _, text = argument.partition("=")
        check_name(name)
        if name in names:
            texts[name] = text
    texts = {name: text.strip() for name, text in texts.items()}
    values = {names[name].name: _parse(names[name], text) for name, text in texts.items() if text}
    return Settings(**values, given=frozenset(values))


def check_name(name: str) -> None:
    """Refuse a variable that nothing reads, and name the nearest one.

    Raises:
        UserError: neither a setting nor a variable of a library.
    """
    names = [variable.name.upper() for variable in variables()]
    if name in names or name in OTHER_VARIABLES:
        return
    near = difflib.get_close_matches(name.upper(), names, n=1, cutoff=0.8)
    if near or not name.startswith(OTHER_PREFIXES):
        near = near or difflib.get_close_matches(name.upper(), names, n=1, cutoff=0.0)
        raise UserError(f"{name}: no such variable; did you mean {near[0]}? make help lists all")


def default_text(variable: Field) -> str:
    """A setting's default as a person would type it.

    >>> [default_text(variable) for variable in variables() if variable.name in ("epochs", "folds", "kaggle")]
    ['', '0 1 2 3', '']
    """
    value = variable.default
    if value is None or value is False or value is MISSING:
        return ""
    return " ".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _parse(variable: Field, text: str) -> object:
    """The value of a setting; `variable.type` says its kind."""
    name, kind = variable.name.upper(), variable.type
    if variable.name == "split" and f"v{text}" in SPLITS:
        text = f"v{text}"
    if kind is bool:
        return _parse_flag(name, text)
    if typing.get_origin(kind) is tuple:
        item = typing.get_args(kind)[0]
        value: object = tuple(_convert(name, part, item, text) for part in text.split())
        if len(set(value)) < len(value):  # a fold named twice would teach the fusion that ranks it
            raise UserError(f"{name}={text}: names one twice; name each once")
    else:
        item = next((part for part in typing.get_args(kind) if part is not type(None)), kind)
        value = _convert(name, text, item, text)
    _check_bounds(variable, value, text)
    return value


def _parse_flag(name: str, text: str) -> bool:
    if text not in ("0", "1"):
        raise UserError(f"{name}={text}: must be 1, or 0 or nothing")
    return text == "1"


def _convert(name: str, part: str, kind: type, text: str) -> object:
    try:
        return kind(part)
    except ValueError:
        kinds = {int: "a whole number", float: "a number"}
        raise UserError(f"{name}={text}: {part!r} is not {kinds[kind]}") from None


def _check_bounds(variable: Field, value: object, text: str) -> None:
    name, choices, check = variable.name.upper(), variable.metadata["choices"], variable.metadata["check"]
    if choices and value not in choices:
        near = difflib.get_close_matches(text, choices, n=1, cutoff=0.6)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise UserError(f"{name}={text}: not one of {', '.join(filter(None, choices))}{hint}")
    if check and (wrong := check(text)):
        raise UserError(f"{name}={text}: {wrong}")
    least, most = variable.metadata["least"], variable.metadata["most"]
    for number in value if isinstance(value, tuple) else (value,):
        if least is not None and not least <= number < float("inf"):
            raise UserError(f"{name}={text}: must be at least {least}")
        if most is not None and number > most:
            raise UserError(f"{name}={text}: must be at most {most}")
