"""Files of predictions: `predictions.jsonl` with `id` and `prediction`, by a generator or a baseline."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from rounds.artifacts import hashing, store
from rounds.artifacts.prompt_manifests import PredictionsManifest, PromptBaselinesManifest
from rounds.data import lineage
from rounds.data.cells import read_id, read_text
from rounds.errors import UserError
from rounds.generation import baselines
from rounds.generation.rows import PromptRow, texts_digest

PREDICTIONS = "predictions.jsonl"
AGAIN = "predict the rows of this split anew, or remove the folder"


@dataclass(frozen=True)
class Predictions:
    """Predicted prompts of some rows.

    Attributes:
        title: their name in tables.
        texts: one a row, in the order of the rows.
        lineage: training rows of the generator, id -> digest; empty of baselines and untuned ones, None if unknown.
        validation_loss: of the generator; None where it has none.
        columns: the ledger's columns that say what predicted; none if unknown.
    """

    title: str
    texts: list[str]
    lineage: dict[str, str] | None
    validation_loss: float | None = None
    columns: dict[str, str] = field(default_factory=dict)


def write(folder: Path, rows: Sequence[PromptRow], texts: Sequence[str]) -> None:
    """Write the predictions of rows into a folder that is being made."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = ({"id": row.id, "prediction": text} for row, text in zip(rows, texts, strict=True))
    store.write_jsonl(folder / PREDICTIONS, lines)


def read(folder: Path, rows: Sequence[PromptRow]) -> Predictions:
    """Read the predictions of exactly these rows.

    Args:
        folder: a baseline's folder or a generator's, whose manifest, or that of the folder above, names it; or one
            without a manifest, of predictions from elsewhere.

    Raises:
        UserError: the file is missing, a prediction is empty, or rows are missing, repeated or others;
            also others by their texts, where the manifest is a generator's.
    """
    file = Path(folder) / PREDICTIONS
    texts: dict[str, str] = {}
    for number, row in enumerate(store.read_jsonl(file, ("id", "prediction")), 1):
        place = f"{file} line {number}"
        identifier = read_id(row["id"], place, "id", texts)
        texts[identifier] = read_text(row["prediction"], place, "prediction")
    missing = [row.id for row in rows if row.id not in texts]
    if missing or len(texts) != len(rows):
        raise UserError(
            f"{file}: predicts {len(texts)} rows, the split has {len(rows)}"
            + (f" ({missing[0]} has no prediction)" if missing else "")
            + f"; {AGAIN}"
        )
    manifest = store.read_manifest(Path(folder))
    if isinstance(manifest, PredictionsManifest) and manifest.config["rows"] != texts_digest(rows):
        raise UserError(f"{file}: the texts of its rows have changed since, or their order; {AGAIN}")
    return _describe(Path(folder), [texts[row.id] for row in rows])


def join(parts: Sequence[Predictions]) -> Predictions:
    """Return predictions of the same rows, joined row by row; their lineage is that of all parts.

    A single part comes back as it is.
    """
    if len(parts) == 1:
        return parts[0]
    title, fingerprints = " + ".join(part.title for part in parts), [part.columns.get("fingerprint") for part in parts]
    fingerprint = hashing.sha256_json(fingerprints)[:12]
    return Predictions(
        title=title,
        texts=baselines.join([part.texts for part in parts]),
        lineage=lineage.union(*(part.lineage for part in parts)),
        columns={"recipe": "joined", "label": title, "fingerprint": fingerprint} if all(fingerprints) else {},
    )


def read_fixed(folder: Path) -> str:
    """Return the fixed prompt of a folder of baselines.

    Raises:
        UserError: the folder holds no such baselines.
    """
    row = next(iter(store.read_jsonl(folder / "fixed" / PREDICTIONS, ("id", "prediction"))), None)
    if row is None or not isinstance(store.read_manifest(folder), PromptBaselinesManifest):
        raise UserError(f"{folder}: holds no baselines; make evaluate TASK=prompt_recovery writes them")
    return read_text(row["prediction"], str(folder / "fixed" / PREDICTIONS), "prediction")


def _describe(folder: Path, texts: list[str]) -> Predictions:
    above = store.read_manifest(folder.parent)
    if isinstance(above, PromptBaselinesManifest):
        title = above.titles.get(folder.name, folder.name)
        return Predictions(title, texts, {}, columns=baseline_columns(folder.name, above))
    manifest = store.read_manifest(folder)
    title = getattr(manifest, "title", None) or f"{folder.parent.name}/{folder.name}"
    loss = getattr(manifest, "validation_loss", None)
    columns = generator_columns(title, manifest.config) if isinstance(manifest, PredictionsManifest) else {}
    return Predictions(title, texts, getattr(manifest, "lineage", None), loss, columns)


def baseline_columns(name: str, manifest: PromptBaselinesManifest) -> dict[str, str]:
    """Return the ledger's columns that say which baseline predicted, by which embedder, from which training rows."""
    if not {"embedder", "data"} <= manifest.config.keys():
        return {}
    made_of = [name, manifest.config["embedder"], manifest.config["data"]["train.jsonl"]]
    fingerprint = hashing.sha256_json(made_of)[:12]
    return {"recipe": name, "label": manifest.titles.get(name, name), "fingerprint": fingerprint}


def generator_columns(title: str, config: dict) -> dict[str, str]:
    """Return the ledger's columns that say which generator predicted.

    Args:
        title: its name in tables.
        config: of `predicting.PredictionJob`; all but its rows identify the generator and how it writes.
    """
    made_of = {key: value for key, value in config.items() if key != "rows"}
    weights = config["weights"] or config["base"]
    fingerprint = hashing.sha256_json(made_of)[:12]
    return {"recipe": config["recipe"]["name"], "label": title, "weights": weights, "fingerprint": fingerprint}
