"""Mine hard negatives, and fine-tune on a few mined rows."""

from pathlib import Path

from rounds.config.recipe import Recipe
from rounds.data import collection
from rounds.mining.stage import MiningJob, mine_file
from rounds.models import checkpoint
from rounds.models.checkpoint import Checkpoint
from rounds.training.stage import finetune_round


def mine(recipe: Recipe, folder: Path, output: Path, seed: int = 42, source: Checkpoint | None = None) -> str:
    """Mine negatives for a collection's training rows, by default with the recipe's base model.

    Runs are kept beside the output file, and an output file of another configuration is refused.
    """
    job = MiningJob(
        checkpoint=source or checkpoint.resolve(None, recipe, "cpu"),
        recipe=recipe.mining,
        input_file=folder / collection.FINETUNE,
        candidate_pool=folder / collection.POOL,
        output_file=output,
        seed=seed,
        model_output=output.parent,
    )
    return mine_file(job)


def finetune(recipe, data: Path, output: Path, where: Path | None = None, start: Path | None = None, **changed) -> str:
    source = checkpoint.resolve(str(start) if start else None, recipe, "cpu")
    flags = {
        "validation": collection.read(where) if where else None,
        "round_number": 2 if start else 1,
        "seed": 42,
        "processes": 1,
        "tracker": "none",
        "allow_leak": False,
        "overwrite": False,
        "model_output": output.parent,
    }
    return finetune_round(source, recipe, data, output, **{**flags, **changed})


def few_rows(mined: Path, folder: Path, rows: int = 20) -> Path:
    """The first rows of a mined file: seconds instead of a minute."""
    path = folder / "few.jsonl"
    path.write_text("".join(mined.read_text(encoding="utf-8").splitlines(keepends=True)[:rows]), encoding="utf-8")
    return path
