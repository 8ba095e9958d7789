"""Write a run's fingerprint: a file beside the run that says what it came from, to compare runs of two machines.

| key | content |
|---|---|
| `corpus`, `queries` | number, hash of the ids (and the passages' texts), hash of the texts as the model reads them |
| `texts` | the settings that shape those texts: prompts, lengths, examples |
| `model` | weights, precision, quantization, pooling |
| `made` | library versions and device that computed the vectors |
| `probes` | 16 queries and 16 passages: ids, texts as the model reads them, vectors |
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np

from rounds.artifacts import hashing, manifest_parsing, store
from rounds.artifacts.manifests import FingerprintManifest, Origin, Probe, TextsDigest
from rounds.config.recipe import Prompts
from rounds.data.passage_pool import ids_of, sorted_rows
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

    texts: Mapping[str, str]
    read: Sequence[str]
    vectors: Vectors
    origin: Origin


def write(path: Path, model: dict, prompts: Prompts, queries: EncodedTexts, passages: EncodedTexts) -> None:
    """Write a run's fingerprint.

    Args:
        model: `Checkpoint.key` without its prompts.
    """
    content = FingerprintManifest(
        corpus=_describe(passages, chain(passages.texts, passages.texts.values())),
        queries=_describe(queries, queries.texts),
        texts=vars(prompts),
        model=model,
        made={"queries": queries.origin, "passages": passages.origin},
        probes={"queries": _probes(queries), "passages": _probes(passages)},
    )
    store.write_manifest(path, content)


def _describe(side: EncodedTexts, listed: Iterable[str]) -> TextsDigest:
    return TextsDigest(number=len(side.texts), list=hashing.sha256_texts(listed), texts=hashing.sha256_texts(side.read))


def _probes(side: EncodedTexts) -> dict[str, Probe]:
    """Return some of the texts with their vectors, evenly spread over the sorted ids."""
    representation, ids, order = representations.of(side.vectors), ids_of(side.texts), sorted_rows(side.texts)
    places = np.unique(np.linspace(0, len(order) - 1, PROBES).round().astype(int))
    probes = {}
    for row in (int(order[place]) for place in places):
        numbers = representation.probe(side.vectors, row)
        vector = [round(float(number), DIGITS) for number in numbers]
        probes[ids[row]] = Probe(text=side.read[row], vector=vector)
    return probes


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
