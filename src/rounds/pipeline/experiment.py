"""Experiment: the names and paths of what one call of make writes.

A folder's name says what it was made from: the data, the recipe and the split; what differs from the defaults goes
into a short hash behind them, so that every configuration has folders of its own. A recipe or data folder given by its
path carries a hash of that path. The device is no part of a name: it does not change what an artefact is.
"""

import hashlib
import os
import re
from dataclasses import dataclass
from pathlib import Path

from rounds.data.source import IDENTICAL_TASKS, MINED
from rounds.pipeline import fold_choice
from rounds.pipeline.settings import Settings
from rounds.pipeline.task_defaults import DOWNLOADED, DOWNLOADED_PROMPTS, SAMPLE_DEFAULTS, SAMPLES

RECIPE_SUFFIXES = (".yaml", ".yml")
NAMED_SETTINGS = (
    "folds",
    "n_folds",
    "round",
    "epochs",
    "seed",
    "train_seed",
    "train_seeds",
    "engine",
    "mine_flags",
    "tune_flags",
)
PRIVATE = "data/private-"  # followed by the name of the data that make private_lb holds questions out of


def short_hash(text: str) -> str:
    """Eight hexadecimal digits that stand for a text."""
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def tag(differences: list[str]) -> str:
    """The end of a folder's name: empty where nothing differs from the defaults.

    >>> tag([]), tag(["epochs=1"])
    ('', '-41e5b1e5')
    """
    return f"-{short_hash(' '.join(differences))}" if differences else ""


def path_name(path: str, stem: bool) -> str:
    """A name for a path that no other path has; paths inside the project are taken relative to it.

    Args:
        stem: leave out the suffix.
    """
    place = os.path.abspath(path)
    inside = os.path.relpath(place)
    last = Path(place).stem if stem else Path(place).name
    plain = re.sub(r"[^\w.-]", "_", last)
    return f"{plain}-{short_hash(place if inside.startswith('..') else inside)}"


@dataclass(frozen=True)
class Experiment:
    """Names and paths of one configuration; `settings` must be resolved."""

    settings: Settings

    @property
    def data_name(self) -> str:
        """Name of the raw data."""
        raw, is_folder = self.settings.raw, self.settings.task == "eedi"
        name = Path(raw).name if is_folder else Path(raw).stem
        is_plain = (
            raw in (DOWNLOADED, DOWNLOADED_PROMPTS, *SAMPLES.values())
            or raw == f"{PRIVATE}{name.removeprefix('private-')}"
        )
        return name if is_plain else path_name(raw, stem=not is_folder)

    @property
    def recipe_name(self) -> str:
        """Name of the recipe."""
        model = self.settings.model
        return path_name(model, stem=True) if model.endswith(RECIPE_SUFFIXES) else model

    @property
    def name(self) -> str:
        """Data and recipe."""
        return f"{self.data_name}-{self.recipe_name}"

    @property
    def data(self) -> Path:
        """The split's collection."""
        split = f"validation_{self.settings.split}" if self.settings.is_validated else "submission"
        return Path("data") / f"{self.name}{tag(self._data_differences)}" / split

    @property
    def folder(self) -> Path:
        """What all rounds write into."""
        return Path("model_output") / f"{self.name}-{self.settings.split}{tag(self._differences)}"

    @property
    def submission(self) -> str:
        """Name of the submission of the chosen round, or of the run or the average of RUNS."""
        runs = self.settings.runs
        if len(runs) == 1 and Path(runs[0]).parent.name == self.folder.name:
            return f"{self.folder.name}-{Path(runs[0]).name}"
        return f"{self.folder.name}-{self.average.name if runs else f'round{self.settings.round}'}"

    @property
    def published(self) -> Path:
        """Folder of the chosen round's model as the hub takes it."""
        return Path("submissions") / "publish" / self.submission

    @property
    def report(self) -> Path:
        """Folder of the report."""
        return Path("model_output") / f"report-{self.folder.name}"

    @property
    def cross_validation(self) -> Path:
        """Table of all folds, without its suffix."""
        return self.table_over_folds("cv")

    @property
    def cv_tag(self) -> str:
        """The hash that the cross-validation's table ends in; empty without one."""
        return tag(self._over_folds).removeprefix("-")

    @property
    def fused_submission(self) -> Path:
        """The CSV of make best: `best.csv`, with another recipe or the table's hash in its name where there is one.

        That of data with held-out questions is named after them: it answers other questions than Kaggle asks.
        """
        data = f"-{self.data_name}" if self.is_private else ""
        recipe = "" if self.recipe_name == Settings.model else f"-{self.recipe_name}"
        return Path("submissions") / f"best{data}{recipe}{tag(self._over_folds)}.csv"

    def table_over_folds(self, kind: str) -> Path:
        """A table of what all folds teach (`cv`, `distil`), without its suffix."""
        return Path("model_output") / f"{kind}-{self.name}{tag(self._over_folds)}"

    def table(self, kind: str) -> Path:
        """A table over several recipes (`sweep`, `compared`), without its suffix."""
        return Path("model_output") / f"{kind}-{self.data_name}-{self.settings.split}{self._table_end}"

    @property
    def table_tag(self) -> str:
        """What such tables are tagged with: a hash of EXPLANATIONS, EXTRA and N_FOLDS, or nothing."""
        return self._table_end.removeprefix("-")

    @property
    def private(self) -> Path:
        """Where make private_lb writes the data without the questions that it holds out."""
        given = self.settings
        parts = f"{given.held_out:g}-{given.unseen:g}-{given.seed}"
        return Path(f"{PRIVATE}{self.data_name}{tag([] if parts == '0.2-0.6-42' else [parts])}")

    @property
    def is_private(self) -> bool:
        """Whether the data are such a folder already."""
        return self.settings.raw.startswith(PRIVATE)

    @property
    def is_private_sample(self) -> bool:
        """Whether the data are such a folder of generated data."""
        return self.settings.raw.startswith(f"{PRIVATE}{Path(SAMPLES['eedi']).name}")

    def round(self, number: int) -> Path:
        """What one round writes into; round 0 is the base model."""
        return self.folder / f"round{number}"

    @property
    def average(self) -> Path:
        """What the average of RUNS is written into; of a single run, its metrics alone."""
        runs = self.settings.runs
        if len(runs) == 1:
            return self.folder / f"run-{short_hash(runs[0])}"
        return self.folder / f"average-{short_hash(' '.join([self.settings.method, *runs]))}"

    def mined(self, number: int) -> Path:
        """A round's training rows with their negatives."""
        return self.round(number) / MINED

    def train(self, number: int) -> Path:
        """A round's checkpoints."""
        return self.round(number) / "train"

    def evaluation(self, number: int) -> Path:
        """A round's metrics and table."""
        return self.round(number) / "eval"

    def mteb(self, number: int) -> Path:
        """A round's results on tasks of mteb, in mteb's own layout."""
        return self.round(number) / "mteb"

    @property
    def of_each_seed(self) -> list["Experiment"]:
        """The experiments whose rounds second stages refine: one for each of TRAIN_SEEDS, or this one."""
        seeds = self.settings.train_seeds
        return [Experiment(self.settings.on(train_seed=seed, train_seeds=())) for seed in seeds] or [self]

    def second_stage(self, number: int) -> Path:
        """Where second stages write; those of several seeds in a folder that names these."""
        seeds = "-".join(map(str, self.settings.train_seeds))
        return self.round(number) / f"seeds-{seeds}" if seeds else self.round(number)

    def candidates(self, number: int) -> Path:
        """What a round's ranking is refined with."""
        return self.second_stage(number) / "candidates"

    def reranker(self, number: int) -> Path:
        """A cross-encoder that refines a round's ranking, and its scores."""
        return self.second_stage(number) / "rerank"

    @property
    def _data_differences(self) -> list[str]:
        given = self.settings
        drawn = f"{given.seed}-{given.fold}"
        parts = ["" if drawn == "42-0" else drawn, "" if given.task == "eedi" else given.task]
        parts += fold_choice.parts_of_split(given)
        parts.append(given.fields if given.task == "pairs" else "")
        parts.append(given.identical if given.task in IDENTICAL_TASKS and given.identical != "ignore" else "")
        return [part for part in parts if part] + self._added_texts

    @property
    def _table_end(self) -> str:
        return tag(self._added_texts + fold_choice.parts_of_split(self.settings))

    @property
    def _added_texts(self) -> list[str]:
        """The files that EXPLANATIONS and EXTRA add to the data."""
        given = self.settings
        parts = [f"explanations={path_name(given.explanations, stem=False)}"] if given.explanations else []
        return parts + [f"extra={path_name(name, stem=False)}" for name in given.extra_files]

    @property
    def _over_folds(self) -> list[str]:
        """What tables over all folds depend on, as far as it was given and differs from the second stages' defaults."""
        given = self.settings
        defaults = {name: getattr(Settings, name) for name in NAMED_SETTINGS}
        defaults |= {"folds": fold_choice.all_of(given.n_folds)} | (SAMPLE_DEFAULTS if given.is_sample else {})
        changed = [name for name in NAMED_SETTINGS if name in given.given and getattr(given, name) != defaults[name]]
        named = [f"{name}={getattr(given, name)}" for name in changed]
        return self._added_texts + fold_choice.split_parts(given) + named

    @property
    def _differences(self) -> list[str]:
        given = self.settings
        named = {
            "epochs": given.epochs,
            "train_seed": None if given.training_seed == given.seed else str(given.train_seed),
            "nproc": None if given.processes == 1 else given.processes,
            "engine": None if given.engine == "rounds" else given.engine,
            "mine": given.mine_flags,
            "tune": given.tune_flags,
        }
        parts = [f"data={part}" for part in self._data_differences]
        return parts + [f"{name}={value}" for name, value in named.items() if value]
