"""Record the refusals that kept numbers honest, so that the report can show them."""

import json
import time
from pathlib import Path

from rounds.artifacts import store

FILE = "refusals.jsonl"


def record(model_output: Path, stage: str, arguments: list[str], reason: str) -> None:
    """Append a refusal to `model_output/refusals.jsonl`; do nothing if the folder does not exist."""
    if not model_output.is_dir():
        return
    row = {"when": time.strftime("%Y-%m-%d %H:%M"), "stage": stage, "arguments": arguments, "reason": reason}
    with store.lock(model_output), open(model_output / FILE, "a", encoding="utf-8", errors="replace") as file:
        file.write(json.dumps(row, ensure_ascii=False) + "\n")


def read(model_output: Path, experiment: str) -> list[dict]:
    """Return the refusals whose arguments or reason name an experiment's folder, oldest first."""
    file = model_output / FILE
    rows = store.read_jsonl(file, ("when", "stage", "arguments", "reason")) if file.is_file() else []
    return [row for row in rows if any(_names(text, experiment) for text in (*row["arguments"], row["reason"]))]


def _names(text: str, experiment: str) -> bool:
    """Return whether a path in the text goes through the experiment's folder.

    >>> _names("out/a-v1/round1/train: trained on", "a-v1"), _names("out/a-v1-0f/round1", "a-v1")
    (True, False)
    """
    return any(experiment in word.rstrip(":;,").split("/") for word in text.split())
