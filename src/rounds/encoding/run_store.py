"""Runs of a checkpoint, kept beside it: each query set is encoded once and every later stage reads the result.

A run's folder is named by its content (weights, prompts, precision, texts), never by a model's name, so another
checkpoint, recipe or data file can never be answered with an old run.
"""

import functools
import os
import re
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from sentence_transformers import SentenceTransformer

from rounds.artifacts import hashing, store
from rounds.data import collection, few_shot
from rounds.data.collection import Collection
from rounds.data.images import MODALITY_FILTERS
from rounds.encoding import canary, fingerprint, flagembedding, workers
from rounds.encoding.encoder import encode, encode_ids
from rounds.encoding.workers import EncodingWorker
from rounds.errors import UserError
from rounds.models import vision_tower
from rounds.models.checkpoint import Checkpoint, library_versions
from rounds.models.devices import device_name
from rounds.retrieval import ann_index, search
from rounds.retrieval.run import Run, read_trec, write_trec

DEPTH = 200

RUN_FILE = "run.trec"

VECTORS = "vectors.npy"

UNKNOWN = {"versions": {}, "device": "unknown"}


@dataclass
class Encoder:
    """A checkpoint whose weights are loaded at the first text that has no vectors yet.

    Attributes:
        root: folder that holds the checkpoint's runs.
        embedder: its weights; where they are given, nothing but this process encodes.
        helpers: processes on the checkpoint's other devices; they end with the encoder.
        seen: folder that holds what vision towers saw; None: they look anew each time.
    """

    checkpoint: Checkpoint
    root: Path
    embedder: SentenceTransformer | None = None
    helpers: list[EncodingWorker] = field(default_factory=list)
    seen: Path | None = None

    def vectors(
        self, texts: list[str], kind: str, title: str, before: list[list[str]] | None = None
    ) -> tuple[np.ndarray, Path]:
        """Vectors of `texts` from disk, or encoded and kept; with the folder that holds them.

        Args:
            before: each text's examples (`examples.before`).

        Returns:
            (texts, dim) float32 and its folder.
        """
        texts = list(map(MODALITY_FILTERS[self.checkpoint.options.modality], texts))
        config = content_key(self.checkpoint, texts, kind, before)
        folder = self.root / f"{title}-{hashing.sha256_json(config)[:12]}"
        with store.lock(self.root):  # two stages of `make -j` may want the same vectors
            if not store.is_finished(folder, config):
                self._encode(texts, kind, folder, config, f"encode {title}", before)
        return np.load(folder / VECTORS, mmap_mode="r"), folder

    def _encode(
        self, texts: list[str], kind: str, folder: Path, config: dict, title: str, before: list[list[str]] | None
    ) -> None:
        source = self.checkpoint
        made = {
            "versions": library_versions(),
            "device": ", ".join(device_name(each) for each in source.options.devices),
        }
        with store.writing(folder, {"kind": "vectors", "config": config, "made": made}) as temporary:
            if source.options.engine == "flagembedding":
                np.save(temporary / VECTORS, flagembedding.encode(source, texts, kind, before))
                return
            if self.embedder is None:
                alone = source.is_dual_encoder or source.recipe.model.vision.is_joint
                if alone and len(source.options.devices) > 1:
                    raise UserError(f"{source.name}: separate or joint encoders encode on one device; name one")
                self.helpers = workers.start_workers(source)  # first, so that all load at once
                self.embedder = source.load()
                canary.check(source, self.embedder)
            if self.seen:
                vision_tower.set_cache_folder(self.embedder, self.seen)
            work = functools.partial(workers.encode_on_workers, self.helpers) if self.helpers else encode_ids
            on_disk = functools.partial(np.lib.format.open_memmap, temporary / VECTORS, "w+", np.float32)
            encode(
                self.embedder,
                texts,
                source.recipe.prompts,
                kind,
                source.precision,
                title,
                before,
                work,
                on_disk,
            )

    def run(
        self,
        name: str,
        queries: dict[str, str],
        passages: dict[str, str],
        depth: int = DEPTH,
        before: list[list[str]] | None = None,
        index: str = "exact",
    ) -> tuple[Run, Path]:
        """The ranking of `passages` for `queries`, from disk where it is there and deep enough.

        Args:
            name: the query set's: train, validation or test.
            queries: query id -> text.
            passages: passage id -> text.
            before: each query's examples, in the order of `queries`.
            index: `exact`, or the approximate index that searches (`ranking.build`); its runs have files of their own.

        Returns:
            the run, and the path of its TREC file.
        """
        vectors, folder = self.vectors(list(queries.values()), "query", name, before)
        corpus, corpus_folder = self.vectors(list(passages.values()), "passage", "corpus")
        dim = self.checkpoint.options.truncate_dim
        vectors, corpus = (truncate_vectors(each, dim, self.checkpoint.normalizes) for each in (vectors, corpus))
        ids = hashing.sha256_texts([*queries, *passages])[:12]
        marks = [index] * (index != "exact") + [f"dim{dim}"] * (dim is not None)
        path = folder / "-".join([corpus_folder.name, ids, *marks]) / RUN_FILE
        wanted = min(depth, len(passages))
        if path.is_file():
            run = read_trec(path)
            if run.scores.shape[1] >= wanted:
                return run.top(wanted), path
        self._fingerprint(path, queries, passages, before, (vectors, corpus), (folder, corpus_folder))
        built = None if index == "exact" else ann_index.build_from_file(index, corpus_folder / VECTORS)
        run = search.rank(list(queries), vectors, list(passages), corpus, wanted, built)
        save_run(run, path, self.checkpoint.weights_digest[:12])
        return run, path

    def _fingerprint(
        self,
        path: Path,
        queries: dict[str, str],
        passages: dict[str, str],
        before: list[list[str]] | None,
        vectors: tuple[np.ndarray, np.ndarray],
        folders: tuple[Path, Path],
    ) -> None:
        """Write what the run at `path` comes from; before the run itself, which is the stamp."""
        path.parent.mkdir(parents=True, exist_ok=True)
        made = [(store.read_manifest(folder) or {}).get("made", UNKNOWN) for folder in folders]
        model = {key: value for key, value in self.checkpoint.key.items() if key != "prompts"}
        fingerprint.write(
            path.with_name(fingerprint.FILE), model, self.checkpoint.recipe.prompts, queries, passages, before,
            vectors, dict(zip(("queries", "passages"), made, strict=True)),
        )  # fmt: skip


def truncate_vectors(vectors: np.ndarray, dim: int | None, normalize: bool) -> np.ndarray:
    """The first `dim` numbers of each vector (rows, all), of unit length again where asked; None leaves them whole.

    >>> truncate_vectors(np.array([[3.0, 4.0, 12.0]]), 2, True)
    array([[0.6, 0.8]])
    """
    if dim is None:
        return vectors
    if dim > vectors.shape[1]:
        raise UserError(f"truncate_dim {dim}: the vectors have {vectors.shape[1]} dimensions")
    short = vectors[:, :dim]
    return short / np.maximum(np.linalg.norm(short, axis=1, keepdims=True), 1e-12) if normalize else short


def vectors_around(path: Path) -> tuple[np.ndarray, np.ndarray] | None:
    """Whole vectors of a run's queries and passages, from the folders around its TREC file; None where they are gone.

    Returns:
        (queries, dim) and (corpus, dim) float32, memory-mapped, in the order of the query file and of the corpus.
    """
    name = "-".join(path.parent.name.split("-")[:2])  # `corpus-HASH`, without ids and marks
    files = [path.parent.parent / VECTORS, path.parent.parent.parent / name / VECTORS]
    if not all(file.is_file() for file in files):
        return None
    return tuple(np.load(file, mmap_mode="r") for file in files)


def save_run(run: Run, path: Path, tag: str) -> None:
    """Write a run file under a temporary name and rename it into place."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    write_trec(run, temporary, tag)
    temporary.replace(path)


def content_key(checkpoint: Checkpoint, texts: list[str], kind: str, before: list[list[str]] | None = None) -> dict:
    """Everything that a vector depends on."""
    key = {**checkpoint.with_options(truncate_dim=None).key, "kind": kind, "texts": hashing.sha256_texts(texts)}
    passage = kind == "passage"  # with other examples in the queries, the corpus stays encoded
    key["prompts"] = {name: value for name, value in key["prompts"].items() if name.startswith("passage_") == passage}
    return key if before is None else {**key, "examples": hashing.sha256_json(before)}


def encoder_for(checkpoint: Checkpoint, output_root: Path, embedder: SentenceTransformer | None = None) -> Encoder:
    """An encoder that keeps runs beside the checkpoint; those of base models under `output_root/base/`."""
    if checkpoint.folder is not None and checkpoint.manifest is not None:
        root = checkpoint.folder / "runs"
    else:
        slug = re.sub(r"\W+", "-", Path(checkpoint.name).name).strip("-")
        root = output_root / "base" / f"{slug}-{checkpoint.weights_digest[:8]}"
    return Encoder(checkpoint, root, embedder, seen=output_root / "base")


def run_folder(source: Checkpoint, data: Collection, model_output: Path) -> Path:
    """The folder of the checkpoint's run of the validation queries, or of the test queries where there are none."""
    name, queries = ("validation", data.validation) if data.validation else ("test", data.test)
    before = few_shot_examples(source, data, queries)
    return encoder_for(source, model_output).run(name, queries, data.passages, before=before)[1].parent


def few_shot_examples(source: Checkpoint, data: Collection, queries: dict[str, str]) -> list[list[str]] | None:
    """Each query's examples, from the collection's training rows."""
    if source.recipe.prompts.examples == "none":
        return None
    rows = collection.read_rows(data.folder / collection.FINETUNE, ("pos",))
    return few_shot.select_examples(
        collection.example_bank(rows, source.recipe.prompts), [data.metadata[query] for query in queries]
    )
