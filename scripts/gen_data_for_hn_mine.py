"""Write one split's queries, corpus, qrels and fine-tuning rows."""

from dataclasses import dataclass, field
from pathlib import Path

from rounds import cli
from rounds.artifacts import hashing, store
from rounds.config import loader
from rounds.config.recipe import Outside
from rounds.config.sections.prompts import DEFAULT_PASSAGE
from rounds.data import collection, official_split, outside, remote_files, splits
from rounds.data.loaders import outside as outside_loader
from rounds.data.loaders import registry
from rounds.data.loaders.registry import Columns
from rounds.data.prompts import check_passage_format, has_passage_parts
from rounds.data.source import IDENTICAL_TASKS, N_FOLDS, OFFICIAL_SPLITS
from rounds.errors import UserError
from rounds.flags import RecipeByName, Replacing, Seeded, project_root


@dataclass(kw_only=True)
class Flags(RecipeByName, Replacing, Seeded):
    """The data, the split and the query format."""

    mode: str = field(default="validation", metadata={"help": "validation, or submission (train on everything)"})
    validation_version: str = field(
        default="v1", metadata={"help": "v1 to v6 (1 means v1); task beir: official or dev"}
    )
    task: str = field(default="eedi", metadata={"help": f"kind of data: {', '.join(registry.LOADERS)}"})
    raw_dir: str = field(
        default=str(project_root() / "data" / "raw"),
        metadata={
            "help": "folder of the competition's CSVs, or of the task's files; pairs: a CSV, JSONL or parquet file"
        },
    )
    query_column: str = field(default="query", metadata={"help": "pairs: column of the queries"})
    positive_column: str = field(default="positive", metadata={"help": "pairs: column of their passages"})
    group_column: str = field(
        default="", metadata={"help": "pairs: column of what must not stand on both sides of a split"}
    )
    identical: str = field(
        default="ignore",
        metadata={"help": "pairs, beir: ignore a query's own id or text in the corpus, or rank and mine it"},
    )
    explanations: str = field(
        default="",
        metadata={"help": "eedi: CSV or JSONL with MisconceptionId, Explanation, for the recipe's prompts.passage"},
    )
    extra_files: list[str] = field(
        default_factory=list,
        metadata={"help": "eedi: CSV or JSONL files of outside questions, which join the training queries"},
    )
    sub_dir_name: str = "hn_mine_data_zero_round"
    output_root: str = field(
        default=str(project_root() / "data"), metadata={"help": "SUB_DIR_NAME/SPLIT is made in here"}
    )
    output_dir: str = field(default="", metadata={"help": "default: OUTPUT_ROOT/SUB_DIR_NAME/SPLIT"})
    fold: int = field(default=0, metadata={"help": "v5 and v6 only: 0 to N_FOLDS - 1"})
    n_folds: int = field(default=N_FOLDS, metadata={"help": "v5 and v6 only: number of folds"})


def main(flags: Flags) -> None:
    """Write one split's queries, corpus, qrels and fine-tuning rows."""
    if flags.mode not in ("validation", "submission"):
        raise UserError(f"mode {flags.mode!r} is not validation or submission")
    version = "submission" if flags.mode == "submission" else splits.parse_version(flags.validation_version)
    recipe = loader.load(flags.recipe)
    raw = remote_files.local_path(flags.raw_dir)
    explanations = remote_files.local_path(flags.explanations) if flags.explanations else None
    default = Path(flags.output_root) / flags.sub_dir_name / collection.folder_name(version)
    folder = Path(flags.output_dir) if flags.output_dir else default
    check_passage_format(recipe.prompts, flags.task, flags.explanations)
    columns = Columns(
        query=flags.query_column,
        positive=flags.positive_column,
        group=flags.group_column,
        identical=flags.identical,
        passage=recipe.prompts.passage,
        explanations=str(explanations or ""),
    )
    task, unused = registry.load_dataset(flags.task, raw, columns)
    prompts = ("query", "latex", "task", *(["passage"] if has_passage_parts(recipe.prompts) else []))
    if flags.extra_files and flags.task != "eedi":
        raise UserError(f"extra_files: outside questions join task eedi alone, not {flags.task}; leave it out")
    files = [remote_files.local_path(name) for name in flags.extra_files]
    outside_rows = outside_loader.load(files, task.passages) if files else []
    config = {
        "data": registry.source_digests(flags.task, raw),
        **({} if flags.task == "eedi" else {"task": flags.task, "columns": _columns_of(flags.task, columns)}),
        "split": version,
        "seed": flags.seed,
        "fold": flags.fold,
        **({} if flags.n_folds == N_FOLDS else {"n_folds": flags.n_folds}),
        "prompts": {name: getattr(recipe.prompts, name) for name in prompts},
        **({"explanations": hashing.sha256_file(explanations)} if explanations else {}),
        **({"outside": _outside_config(files, recipe.outside)} if files else {}),
    }
    if store.is_finished(folder, config, flags.overwrite, flags.made_from):
        print(f"{folder}: up to date")
        return
    split, messages = None, []
    if version in OFFICIAL_SPLITS:
        task, split, messages = official_split.divide(task, version, flags.seed)
    for line in [*unused, *messages]:
        print(line)
    split = split or splits.make_split(task, version, flags.seed, flags.fold, flags.n_folds)
    questions = outside.join(task, split, outside_rows, recipe.outside) if files else None
    if questions:
        print(questions.message(), *questions.warnings(recipe.outside, bool(split.validation)), sep="\n")
    sizes = collection.write(task, split, recipe.prompts, folder, config, flags.made_from, questions)
    unseen = "" if sizes["unseen_share"] is None else f" ({sizes['unseen_share']:.0%} unseen)"
    print(
        f"{folder}: {sizes['train_queries']} training queries, {sizes['validation_queries']} validation queries"
        f"{unseen}, {sizes['corpus']} passages, {sizes['question_texts_on_both_sides']} question texts on both sides"
    )


def _outside_config(files: list[Path], settings: Outside) -> dict:
    """Return what the manifest says of the outside questions: their files, and the keys that choose among them."""
    return {
        "files": [[file.name, hashing.sha256_file(file)] for file in files],
        "max_cosine": settings.max_cosine,
        "duplicate_cosine": settings.duplicate_cosine,
        "constructs": settings.constructs,
    }


def _columns_of(task: str, columns: Columns) -> dict[str, str]:
    """Return what the manifest says of the columns: what shapes this kind of task, as far as it is not the default."""
    hidden = {"explanations"} if task in IDENTICAL_TASKS else {"explanations", "identical"}
    if task != "beir" or columns.passage == DEFAULT_PASSAGE:
        hidden.add("passage")
    return {name: value for name, value in vars(columns).items() if name not in hidden}


if __name__ == "__main__":
    cli.run(main, Flags)
