"""Fingerprint: what a run came from, in one file beside it, so that runs of two machines can be told apart.

| key | content |
|---|---|
| `corpus`, `queries` | how many, a hash of ids (and the passages' texts), a hash of the texts as the model reads them |
| `texts` | the settings that shape those texts: prompts, lengths, examples |
| `model` | weights, precision, quantization, pooling |
| `made` | library versions and device that computed the vectors |
| `probes` | 16 queries and 16 passages: ids, texts as the model reads them, vectors |
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from rounds.artifacts import hashing, store
from rounds.config.recipe import Prompts
from rounds.data.prompts import prefix_and_suffix
from rounds.errors import UserError

FILE = "fingerprint.json"

PROBES = 16

DIGITS = 7


def write(
    path: Path,
    model: dict,
    prompts: Prompts,
    queries: dict[str, str],
    passages: dict[str, str],
    before: Sequence[Sequence[str]] | None,
    vectors: tuple[np.ndarray, np.ndarray],
    made: dict[str, dict],
) -> None:
    """Write a run's fingerprint.

    Args:
        model: `Checkpoint.key` without its prompts.
        queries, passages: id -> text.
        before: each query's examples.
        vectors: of the queries and of the passages, (texts, dim) each.
        made: by `queries` and `passages`, the versions and the device that computed them.
    """
    read = {
        "queries": _formatted(queries, prompts, "query", before),
        "passages": _formatted(passages, prompts, "passage", None),
    }
    about = {
        "kind": "fingerprint",
        "corpus": {
            "number": len(passages),
            "list": hashing.sha256_texts([*passages, *passages.values()]),
            "texts": hashing.sha256_texts(read["passages"].values()),
        },
        "queries": {
            "number": len(queries),
            "list": hashing.sha256_texts(queries),
            "texts": hashing.sha256_texts(read["queries"].values()),
        },
        "texts": vars(prompts),
        "model": model,
        "made": made,
        "probes": {
            name: _probes(read[name], own) for name, own in zip(("queries", "passages"), vectors, strict=True)
        },
    }  # fmt: skip
    store.write_json(path, about)


def _formatted(
    texts: dict[str, str], prompts: Prompts, kind: str, before: Sequence[Sequence[str]] | None
) -> dict[str, str]:
    start, end = prefix_and_suffix(prompts, kind)
    leads = ["\n\n".join([*examples, ""]) for examples in before] if before is not None else [""] * len(texts)
    return {key: f"{lead}{start}{text}{end}" for lead, (key, text) in zip(leads, texts.items(), strict=True)}


def _probes(texts: dict[str, str], vectors: np.ndarray) -> dict[str, dict]:
    """Some of the texts, evenly spread over their ids."""
    rows = {key: row for row, key in enumerate(texts)}
    ids = sorted(texts)
    chosen = [ids[place] for place in np.unique(np.linspace(0, len(ids) - 1, PROBES).round().astype(int))]
    return {
        key: {"text": texts[key], "vector": [round(float(each), DIGITS) for each in vectors[rows[key]]]}
        for key in chosen
    }


def read(path: Path) -> dict:
    """Read a fingerprint.

    Raises:
        UserError: the file is none.
    """
    found = store.read_json(path)
    if not isinstance(found, dict) or found.get("kind") != "fingerprint":
        raise UserError(f"{path}: is not a run's fingerprint")
    return found


def short(path: Path) -> str:
    """Twelve hex digits that stand for all of it, and what a person looks for first."""
    found = read(path)
    made = found["made"]["queries"]
    return (
        f"{hashing.sha256_json(found)[:12]} ({found['model']['precision']} on {made['device']}, "
        f"weights {found['model']['weights'][:12]}, torch {made['versions'].get('torch', 'unknown')})"
    )
