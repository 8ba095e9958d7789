"""Fine-tune on a few mined rows."""

from pathlib import Path

from rounds.data import collection
from rounds.models import checkpoint
from rounds.training.stage import finetune_round


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
