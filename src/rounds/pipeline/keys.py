"""Keys: what an artefact is made from, as values that a person can read and compare.

The key is computed from the command that makes the artefact: its flags, the parts of the recipe that its script reads,
and its inputs, each of which counts by its own key or, where it is no artefact, by its content. Whoever runs a stage
script computes the same key from the same command line, so a command that was pasted leaves an artefact that make
finds fresh.
"""

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from rounds.artifacts import hashing, object_storage, store
from rounds.artifacts.file_digests import sha256_weights
from rounds.config import generator, loader, stand_ins
from rounds.config.generator import GeneratorRecipe
from rounds.config.recipe import Recipe, split_source
from rounds.data import remote_files
from rounds.data.eedi_schema import FILES
from rounds.data.source import OFFICIAL_SPLITS
from rounds.pipeline.task_defaults import SAMPLE_OUTSIDE

GENERATOR = 1  # raise it when a sample generator draws other data from the same parameters
OUTSIDE_RULES = 2  # raise it when other outside questions join a split by the same keys
LATEX_WORDS = 2  # raise it when prompts.latex: words makes other texts of the same LaTeX
UNSEEN_RULE = 2  # raise it when evaluations on the data's own labels count other queries as unseen
ENSEMBLE = 2  # raise it when the ensemble is made of other models for the same flags
CV_ROWS = 2  # raise it when the table over folds has other rows for the same flags
PAIRS_GROUPS = 2  # raise it when queries of pairs without a column of groups get other groups
MOST_LISTED = 16  # files of a folder that a key lists one by one
# Files of a model's folder that are for people, other libraries, or a training that goes on.
NEVER_LOADED = frozenset((".md", ".onnx", ".h5", ".msgpack", ".ot", ".tflite", ".pt", ".pth"))


@dataclass(frozen=True)
class Reads:
    """What of a script's command line shapes its output, beside plain flags.

    Attributes:
        output: the flag that names the output.
        recipe: sections or keys of the recipe that the script reads.
        inputs: flags that name artefacts or files; these count by their keys or content, not by their names.
        values: further values, such as the version of a generator.
        is_generator: the recipe is one of `config.generator`.
    """

    output: str
    recipe: tuple[str, ...] = ()
    inputs: tuple[str, ...] = ()
    values: Mapping[str, object] = field(default_factory=dict)
    is_generator: bool = False

    def load_recipe(self, name: str) -> Recipe | GeneratorRecipe:
        """Read a recipe of the script's kind."""
        return generator.load(name) if self.is_generator else loader.load(name)


BASE_MODEL = ("name", "model", "prompts", "tuning")
GENERATOR_MODEL = ("name", "model", "prompt", "tuning")
SCRIPTS = {
    "make_sample": Reads("output_dir", values={"generator": GENERATOR}),
    "gen_data_for_hn_mine": Reads(
        "output_dir",
        (
            *("prompts.query", "prompts.passage", "prompts.latex", "prompts.task"),
            *("outside.max_cosine", "outside.duplicate_cosine", "outside.constructs"),
        ),
        ("raw_dir", "explanations", "extra_files"),
    ),
    "gen_prompt_data": Reads("output_dir", (), ("raw_dir",)),
    "prompt_baselines": Reads("output_dir", (), ("data_dir",)),
    "pretrain_vision": Reads("output_dir", ("model.name_or_path", "model.revision", "pretraining"), ("raw_dir",)),
    "hn_mine": Reads("output_file", (*BASE_MODEL, "mining"), ("input_file", "embedder_name_or_path")),
    "finetune": Reads(
        "output_dir",
        (*BASE_MODEL, "mining", "training", "outside.ratio", "outside.first", "outside.weight"),
        ("train_data", "data_dir", "model_name_or_path"),
    ),
    "pseudo_label": Reads("output_file", (), ("model_path", "data_dir", "raw_dir", "held_out_models", "held_out_data")),
    "average": Reads("output_dir", (), ("model_paths",)),
    "eval_llm_embedder": Reads(
        "output_dir", (*BASE_MODEL, "mining.bm25", "training.temperature"), ("model_path", "data_dir", "compare")
    ),
    "baseline": Reads("output_dir", (*BASE_MODEL, "mining", "training"), ("data_dir",)),
    "candidates": Reads("output_dir", (*BASE_MODEL, "mining.bm25"), ("data_dir", "model_paths", "raw_dir")),
    "teach": Reads(
        "output_file",
        (
            *(*BASE_MODEL, "mining.bm25", "distillation.rows", "distillation.candidates"),
            *("ensemble.outside_votes", "ensemble.boosted_trees"),
        ),
        ("folds", "data_dir", "model_paths", "raw_dir"),
        {"ensemble": ENSEMBLE},
    ),
    "distil": Reads(
        "output_dir",
        (*BASE_MODEL, "mining", "training", "outside.ratio", "outside.first", "outside.weight", "distillation"),
        ("train_data", "model_name_or_path"),
    ),
    "tune": Reads(
        "output_dir",
        (*GENERATOR_MODEL, "training", "generation.max_new_tokens"),
        ("data_dir", "model_path"),
        is_generator=True,
    ),
    "predict": Reads(
        "output_dir",
        (*GENERATOR_MODEL, "training.max_length", "generation"),
        ("data_dir", "model_path"),
        is_generator=True,
    ),
    "prompt_checkpoints": Reads("output_dir", (), ("data_dir", "model_path")),
    "prompt_brittle": Reads("output_dir", (), ("data_dir", "model_path")),
    "student_table": Reads("output_file", BASE_MODEL, ("model_path", "teacher", "folds", "model_paths")),
    "rerank": Reads("output_dir", (*BASE_MODEL, "mining", "training", "reranking"), ("folds", "table", "refined")),
    "cv": Reads("output_file", (), ("folds", "rerankers"), {"rows": CV_ROWS, "ensemble": ENSEMBLE}),
    "fuse": Reads("output_file", (), ("folds", "table", "raw_dir"), {"ensemble": ENSEMBLE}),
}
# Where and how a stage runs, and what becomes of an older output: none of it changes what the artefact is.
IGNORED = ("device", "devices", "cluster", "shards", "track", "model_output", "overwrite", "replace_stale")


@dataclass(frozen=True)
class Command:
    """The call of a stage script.

    Attributes:
        script: its name in `scripts/`, without the suffix.
        flags: name and values of each flag, in order; a flag without values is one that is set.
        processes: how many processes run it, on all machines together.
        hosts: the machines, this one first; empty for this one alone. They change nothing about the output.
        launch_by: the command that starts another one on a machine, with `{host}` in its name's place; empty for
            ssh.
        is_sharded: the script itself starts a process for each GPU of its machine.
    """

    script: str
    flags: tuple[tuple[str, tuple[str, ...]], ...]
    processes: int = 1
    hosts: tuple[str, ...] = ()
    launch_by: str = ""
    is_sharded: bool = False

    def value(self, name: str) -> str:
        """The first value of a flag; empty where the flag is not there."""
        return next((values[0] for flag, values in self.flags if flag == name and values), "")

    def has(self, name: str) -> bool:
        """Whether a flag is there."""
        return any(flag == name for flag, _ in self.flags)

    def arguments(self) -> list[str]:
        """The flags as a command line has them."""
        return [part for name, values in self.flags for part in (f"--{name}", *values)]


def command(script: str, extra: Sequence[str] = (), processes: int = 1, **flags: object) -> Command:
    """A script's call; flags that are empty, None or False are left out.

    >>> command("hn_mine", ["--seed=7"], devices="", folds=[], model_paths=["a", "b"], bm25=True).arguments()
    ['--model_paths', 'a', 'b', '--bm25', '--seed', '7']
    """
    listed = []
    for name, value in flags.items():
        if value is True:
            listed.append((name, ()))
        elif isinstance(value, list | tuple):
            if value:
                listed.append((name, tuple(map(str, value))))
        elif value is not None and value is not False and value != "":
            listed.append((name, (str(value),)))
    return Command(script, (*listed, *parse(extra)), processes)


def parse(arguments: Iterable[str]) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """Name and values of each flag on a command line.

    >>> parse(["--bm25", "--folds", "a", "b", "--seed=7"])
    (('bm25', ()), ('folds', ('a', 'b')), ('seed', ('7',)))
    """
    flags: list[tuple[str, tuple[str, ...]]] = []
    for argument in arguments:
        if argument.startswith("--"):
            name, has_value, value = argument[2:].partition("=")
            flags.append((name, (value,) if has_value else ()))
        elif flags:
            flags[-1] = (flags[-1][0], (*flags[-1][1], argument))
        else:
            flags.append(("", (argument,)))
    return tuple(flags)


def made_from(call: Command, planned: Mapping[str, str] | None = None) -> dict:
    """What the output of a command is made from, as its manifest records it.

    Args:
        planned: digests of inputs that are still to be made, by path; others are read from the disk.
    """
    reads, flags, planned = SCRIPTS[call.script], dict(call.flags), planned or {}
    inputs = {name: flags[name] for name in reads.inputs if name in flags}
    hidden = {reads.output, "recipe", *reads.inputs, *IGNORED}
    plain = {name: _plain(values) for name, values in sorted(flags.items()) if name not in hidden}
    recipe = reads.load_recipe(call.value("recipe")) if "recipe" in flags else None
    is_sharded = isinstance(recipe, Recipe) and recipe.training.sharding != "none"
    if not is_sharded:  # which takes all cards of the machine
        plain |= {"processes": call.processes} if call.processes > 1 else {}
    record = {
        "script": call.script,
        **plain,
        **reads.values,
        **({"outside_rules": OUTSIDE_RULES} if "extra_files" in inputs else {}),
        **({"groups": PAIRS_GROUPS} if flags.get("task") == ("pairs",) and "group_column" not in flags else {}),
        **({"unseen_rule": UNSEEN_RULE} if call.script == "eval_llm_embedder" and _is_official(call) else {}),
        **({"latex_words": LATEX_WORDS} if isinstance(recipe, Recipe) and _reads_latex(reads, recipe) else {}),
        **({"recipe": _sections(recipe, reads.recipe, planned)} if recipe and reads.recipe else {}),
        **{name: _inputs(call, name, paths, planned) for name, paths in inputs.items()},
    }
    return json.loads(json.dumps(record))


def _is_official(call: Command) -> bool:
    """Whether a script reads a split of the data's own labels, where a query may have no relevant passage."""
    return Path(call.value("data_dir")).name in [f"validation_{split}" for split in OFFICIAL_SPLITS]


def _reads_latex(reads: Reads, recipe: Recipe) -> bool:
    """Whether a script writes LaTeX in words."""
    return "prompts.latex" in reads.recipe and recipe.prompts.latex == "words"


def _plain(values: tuple[str, ...]) -> object:
    """A flag's value as JSON has it: a number where it reads as one."""
    if len(values) != 1:
        return list(values) or True
    try:
        return json.loads(values[0])
    except json.JSONDecodeError:
        return values[0]


def _sections(recipe: Recipe | GeneratorRecipe, names: tuple[str, ...], planned: Mapping[str, str]) -> dict:
    """The parts of a resolved recipe that a script reads, with the content of files that it names only by path."""
    values = recipe.to_dict()
    parts: dict = {}
    for name in names:
        section, _, key = name.partition(".")
        if section not in values or (key and key not in values[section]):
            continue  # it has its default
        if key:
            parts.setdefault(section, {})[key] = values[section][key]
        else:
            parts[section] = values[section]
    if files := _named_files(recipe, names, planned):
        parts["files"] = files
    return parts


def _named_files(
    recipe: Recipe | GeneratorRecipe, names: tuple[str, ...], planned: Mapping[str, str]
) -> dict[str, object]:
    """What stands behind the names in the sections that are read, by name: a model's folder, a checkpoint, a file.

    A hub model that another one stands in for counts by that one's name; one that is fetched from the hub is left out.
    """
    paths: dict[str | None, str] = {}
    if "mining" in names:
        paths[recipe.mining.reranker] = recipe.mining.reranker
    if "tuning" in names:
        paths[recipe.tuning.init_from] = recipe.tuning.init_from
    if "model" in names:
        vision = recipe.model.vision.name_or_path
        paths[vision] = stand_ins.stand_in(vision, only_by_name=True)
    if not {"model", "model.name_or_path"}.isdisjoint(names):
        paths[recipe.model.name_or_path] = stand_ins.stand_in(recipe.model.name_or_path)
    paths = {name: path for name, path in paths.items() if name}
    local = {path for path in paths.values() if os.sep in path or path.startswith(".") or Path(path).is_dir()}
    if "mining" in names:
        files = {path for source in recipe.mining.negatives if (path := split_source(source)[1])}
        paths, local = paths | {path: path for path in files}, local | files
    named: dict[str, object] = {}
    for name, path in sorted(paths.items()):
        content = _file_content(path, planned) if path in local else None
        if content is not None:
            named[name] = content
        elif path != name:
            named[name] = path
    return named


def _inputs(call: Command, name: str, paths: tuple[str, ...], planned: Mapping[str, str]) -> object:
    if name == "raw_dir":
        raw = remote_files.local_path(paths[0])
        url = {"url": paths[0]} if object_storage.is_url(paths[0]) else {}
        return url | raw_content(raw, _raw_files(call, raw))
    if name == "explanations":
        content = _file_content(paths[0], planned)
        return [paths[0], content] if object_storage.is_url(paths[0]) else content
    if name == "extra_files":  # a file's name is the source of rows that name none
        return [
            [path if object_storage.is_url(path) else Path(path).name, _file_content(path, planned)] for path in paths
        ]
    keys = [_content(path, planned) for path in paths]
    return keys[0] if len(keys) == 1 else keys


def _file_content(name: str, planned: Mapping[str, str]) -> object:
    """The content of a file that people write, also where it lies beside an artefact that it is no part of."""
    path = remote_files.local_path(name)
    return hashing.sha256_file(path)[:16] if name != SAMPLE_OUTSIDE and path.is_file() else _content(name, planned)


def _content(name: str, planned: Mapping[str, str]) -> object:
    """The key of an artefact, or of the artefact that a file is part of; else what stands for the content.

    An epoch of a round is one of several checkpoints in an artefact, so its name counts as well. Foreign folders are
    models: the files that loading may read count, by digests that are kept, as reading weights takes long.
    """
    path = Path(name)
    for place in (path, path.parent):
        key = planned.get(place.as_posix())
        if key is None and (record := store.read_made_from(place)):
            key = hashing.made_from_digest(record)
        if key is not None:
            is_one_of_several = place != path and (path / store.MANIFEST).is_file()
            return hashing.sha256_json([key, path.name])[:16] if is_one_of_several else key
    if path.is_file():
        return hashing.sha256_file(path)[:16]
    if (path / store.MANIFEST).is_file() and not store.has_foreign_manifest(path):
        return hashing.sha256_file(path / store.MANIFEST)[:16]
    if path.is_dir():
        files = [file for file in files_below(path) if file.suffix not in NEVER_LOADED]
        digests = {file.relative_to(path).as_posix(): sha256_weights(file) for file in files}
        return hashing.sha256_json(digests)[:16]
    return None


def _raw_files(call: Command, raw: Path) -> list[Path]:
    """The files that a script reads of the raw data."""
    if call.script == "pretrain_vision":
        return [raw / "captions.jsonl", *_captioned(raw)]
    if raw.is_file():
        return [raw]
    is_eedi = call.script != "gen_prompt_data" and call.value("task") in ("", "eedi")
    return [raw / name for name in FILES] if is_eedi else files_below(raw)


def _captioned(raw: Path) -> list[Path]:
    """Pictures that have captions."""
    captions = raw / "captions.jsonl"
    rows = store.read_jsonl(captions, ("image",)) if captions.is_file() else []
    return sorted({raw / row["image"] for row in rows})


def files_below(folder: Path) -> list[Path]:
    """All files in a folder, symbolic links followed; hidden ones and manifests of samples are left out."""
    return [path for path in hashing.files_below(folder, hidden=False) if path.name != store.MANIFEST]


def raw_content(folder: Path, files: list[Path]) -> dict[str, object]:
    """Digests of files by their names; a long list is shortened to its length and one digest."""
    digests = {
        path.name if path == folder else str(path.relative_to(folder)): hashing.sha256_file(path)[:16]
        for path in files
        if path.is_file()
    }
    if len(digests) <= MOST_LISTED:
        return digests
    return {"files": len(digests), "digest": hashing.sha256_json(digests)[:16]}
