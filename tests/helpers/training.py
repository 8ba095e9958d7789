"""Mine hard negatives, and fine-tune on a few mined rows."""

from pathlib import Path

from rounds.config.recipe import Recipe
from rounds.data import collection
from rounds.mining.stage import MiningJob, mine_file
from rounds.models import checkpoint
from rounds.models.checkpoint import Checkpoint
from rounds.training.stage import FinetuneJob, finetune_round


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


def finetune(
    recipe: Recipe,
    data: Path,
    output: Path,
    collection_folder: Path | None = None,
    start: Path | None = None,
    seed: int = 42,
) -> str:
    """Fine-tune on a mined file, on the CPU, and return the lines that `finetune_round` prints.

    Args:
        collection_folder: collection whose validation queries evaluate each epoch; None evaluates none.
        start: folder of round 1, for a round 2; None starts round 1 from the recipe's base model.
    """
    job = FinetuneJob(
        start=checkpoint.resolve(str(start) if start else None, recipe, "cpu"),
        recipe=recipe,
        train_data=data,
        output=output,
        model_output=output.parent,
        seed=seed,
        round_number=2 if start else 1,
        validation=collection.read(collection_folder) if collection_folder else None,
    )
    return finetune_round(job)


def few_rows(mined: Path, folder: Path, rows: int = 20) -> Path:
    """Write the first rows of a mined file, which train in seconds rather than a minute, and return the file."""
    path = folder / "few.jsonl"
    path.write_text("".join(mined.read_text(encoding="utf-8").splitlines(keepends=True)[:rows]), encoding="utf-8")
    return path
