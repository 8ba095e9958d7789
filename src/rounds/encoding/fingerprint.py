"""Write a run's fingerprint: a file beside the run that says what it came from, to compare runs of two machines.

| key | content |
|---|---|
| `corpus`, `queries` | number, hash of the ids (and the passages' texts), hash of the texts as the model reads them |
| `texts` | the settings that shape those texts: prompts, lengths, examples |
| `model` | weights, precision, quantization, pooling |
| `made` | library versions and device that computed the vectors |
| `probes` | 16 queries and 16 passages: ids, texts as the model reads them, vectors |
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from rounds.artifacts import hashing, manifest_parsing, store
from rounds.artifacts.manifests import FingerprintManifest, Origin, Probe, TextsDigest
from rounds.config.recipe import Prompts
from rounds.errors import UserError
from rounds.retrieval import representations
from rounds.retrieval.representation import Vectors

FILE = "fingerprint.json"

PROBES = 16  # texts of each kind that are stored with their vectors

DIGITS = 7  # of a stored vector's numbers


@dataclass(frozen=True)
class EncodedTexts:
    """One side of a run.

    Attributes:
        texts: id -> text.
        read: the texts as the model reads them (`tokenization.model_texts`), in the order of `texts`.
        vectors: (texts, dim), or those of another representation, in the order of `texts`.
        origin: the libraries and the device that computed the vectors.
    """

    texts: dict[str, str]
    read: list[str]
    vectors: Vectors
    origin: Origin


def write(path: Path, model: dict, prompts: Prompts, queries: EncodedTexts, passages: EncodedTexts) -> None:
    """Write a run's fingerprint.

    Args:
        model: `Checkpoint.key` without its prompts.
    """
    query_texts, passage_texts = (dict(zip(side.texts, side.read, strict=True)) for side in (queries, passages))
    content = FingerprintManifest(
        corpus=_describe(passage_texts, [*passages.texts, *passages.texts.values()]),
        queries=_describe(query_texts, [*queries.texts]),
        texts=vars(prompts),
        model=model,
        made={"queries": queries.origin, "passages": passages.origin},
        probes={
            "queries": _probes(query_texts, queries.vectors),
            "passages": _probes(passage_texts, passages.vectors),
        },
    )
    store.write_manifest(path, content)


def _describe(texts: dict[str, str], listed: list[str]) -> TextsDigest:
    return TextsDigest(number=len(texts), list=hashing.sha256_texts(listed), texts=hashing.sha256_texts(texts.values()))


def _probes(texts: dict[str, str], vectors: Vectors) -> dict[str, Probe]:
    """Return some of the texts with their vectors, evenly spread over the sorted ids."""
    rows = {key: row for row, key in enumerate(texts)}
    ids, representation = sorted(texts), representations.of(vectors)
    chosen = [ids[place] for place in np.unique(np.linspace(0, len(ids) - 1, PROBES).round().astype(int))]
    numbers = {key: representation.probe(vectors, rows[key]) for key in chosen}
    return {
        key: Probe(text=texts[key], vector=[round(float(number), DIGITS) for number in numbers[key]]) for key in chosen
    }


def read(path: Path) -> FingerprintManifest:
    """Read a fingerprint.

    Raises:
        UserError: the file is not a fingerprint, or not a complete one.
    """
    content = store.read_json(path)
    if not isinstance(content, dict) or content.get("kind") != "fingerprint":
        raise UserError(f"{path}: is not a run's fingerprint")
    return manifest_parsing.parse(content, str(path))


def short(path: Path) -> str:
    """Return twelve hex digits of the fingerprint's hash, with precision, device, weights and torch's version."""
    content = read(path)
    origin = content.made["queries"]
    return (
        f"{hashing.sha256_json(content.to_json())[:12]} ({content.model['precision']} on {origin.device}, "
        f"weights {content.model['weights'][:12]}, torch {origin.versions.get('torch', 'unknown')})"
    )
