"""Shards: encode a corpus on a cluster, block by block; each block is an artefact, where a later run goes on.

A shard is a block of `TextBlocks`, which one machine encodes at a time, so its vectors do not depend on how many
machines there are. The folders `shards/corpus-HASH/HASH` of a store are named by what their vectors depend on, and are
removed when the corpus's vectors are complete.
"""

import dataclasses
import functools
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from rounds.artifacts import disk_space, hashing, store
from rounds.artifacts.manifests import Origin, VectorsManifest
from rounds.cluster import ray_cluster
from rounds.encoding import batch_loop
from rounds.encoding.checkpoint_encoder import CheckpointEncoder
from rounds.encoding.content_key import content_key
from rounds.encoding.encoder import EncodingOptions
from rounds.encoding.text_blocks import TextBlock, TextBlocks
from rounds.encoding.tokenization import Cuts, Tally, report_once
from rounds.errors import UserError
from rounds.models.library_versions import library_versions
from rounds.models.precision import describe_overflow_of
from rounds.retrieval import representations
from rounds.retrieval.representation import VECTORS_FILE, Representation, Vectors

FOLDER = "shards"

REPORT_FILE = "report.json"


@dataclass(frozen=True)
class EncodedShard:
    """What a worker returns for a shard.

    Attributes:
        number: of the shard.
        vectors: of its distinct texts.
        cuts: what was left out of them.
        tally: counts of texts that could not be read as they are.
        overflowed: texts that were computed again in a wider precision.
        device: the worker's device.
    """

    number: int
    vectors: Vectors
    cuts: Cuts
    tally: Tally
    overflowed: int
    device: str

    def report(self) -> dict:
        """Return everything but the vectors, as JSON holds it."""
        return {
            "cuts": vars(self.cuts),
            "tally": vars(self.tally),
            "overflowed": self.overflowed,
            "device": self.device,
        }


@dataclass
class _Loaded:
    """The model that this worker has loaded: one at a time.

    Attributes:
        key: of its checkpoint.
        encoder: holds the model; None before the first.
    """

    key: str = ""
    encoder: CheckpointEncoder | None = None


_loaded = _Loaded()


def _encode_shard(
    encoder: CheckpointEncoder,
    threads: int,
    number: int,
    texts: list[str],
    kind: str,
    examples: list[Sequence[str]] | None,
    names: list[str],
) -> EncodedShard:
    """Encode a shard's distinct texts on a worker.

    Args:
        encoder: the checkpoint, which is loaded unless the worker has it already.
        threads: CPU threads; 0 where a GPU computes.
    """
    if threads:
        torch.set_num_threads(threads)
    source = encoder.checkpoint
    key = hashing.sha256_json([source.key, source.name])
    if _loaded.key != key:
        _loaded.encoder = None  # makes room for the next
        _loaded.key, _loaded.encoder = key, encoder
    cuts, tally, lost = Cuts(), Tally(), []
    options = EncodingOptions(
        "encode a shard", names=names, on_cuts=cuts.update, on_tally=tally.add, on_overflow=lost.append
    )
    vectors = _loaded.encoder.encode(texts, kind, examples, options)
    return EncodedShard(number, vectors, cuts, tally, sum(lost), source.device)


@dataclass(frozen=True)
class _Shard:
    """A block of texts, and the folder of its vectors.

    Attributes:
        block: its rows; the texts themselves are dropped.
        config: what the vectors depend on.
        folder: where they are, or will be.
    """

    block: TextBlock
    config: dict
    folder: Path

    def load(self, representation: Representation) -> Vectors | None:
        """Return the shard's vectors; None if they are missing, or damaged and therefore removed."""
        if not store.is_finished(self.folder, self.config):
            return None
        try:
            vectors = representation.load(self.folder)
            if representation.count(vectors) == len(self.block.first_rows):
                return vectors
        except (OSError, ValueError, EOFError, UserError):  # a truncated file
            pass
        tqdm.write(f"{self.folder}: is damaged; it is encoded again")
        shutil.rmtree(self.folder)
        return None

    def write(self, answer: EncodedShard, representation: Representation) -> None:
        """Keep a worker's answer."""
        origin = Origin(versions=library_versions(), device=answer.device)
        with store.writing(self.folder, VectorsManifest(config=self.config, made=origin)) as temporary:
            allocate = functools.partial(disk_space.allocate_array, temporary / VECTORS_FILE)
            rows = range(representation.count(answer.vectors))
            representation.write_rest(representation.take(answer.vectors, rows, allocate), temporary)
            store.write_json(temporary / REPORT_FILE, answer.report())


def encode(
    encoder: CheckpointEncoder,
    folder: Path,
    texts: Sequence[str],
    kind: str,
    examples: list[list[str]] | None,
    options: EncodingOptions,
) -> Vectors:
    """Embed texts on the checkpoint's cluster; shards that are there already are not encoded again.

    Args:
        encoder: the checkpoint, which this process does not load.
        folder: folder of the shards.
        kind: `query` or `passage`.
        examples: few-shot examples of each text.
        options: as `encoder.encode` takes them.

    Returns:
        the vectors that `CheckpointEncoder.encode` computes on one machine.

    Raises:
        UserError: a worker failed; the line says where and why.
    """
    cluster = ray_cluster.join(encoder.checkpoint.options.cluster)
    remote = encoder.checkpoint.with_options(devices=("cuda" if cluster.has_gpus else "cpu",), cluster="")
    common = dataclasses.replace(encoder, checkpoint=remote), cluster.cpus
    representation = representations.KINDS[encoder.checkpoint.representation]
    blocks, shards, encoded = TextBlocks(texts, examples), [], 0

    def jobs() -> Iterator[tuple]:
        for number, block in enumerate(blocks):
            config = content_key(encoder.checkpoint, block.texts, kind, block.examples)
            rows_only = dataclasses.replace(block, texts=[], examples=None)
            shards.append(_Shard(rows_only, config, folder / hashing.sha256_json(config)[:12]))
            if shards[-1].load(representation) is None:
                yield *common, number, block.texts, kind, block.examples, options.names_of(block.first_rows.tolist())

    with batch_loop.progress_bar(blocks.distinct_count, options.title) as bar:
        for answer in cluster.map(_encode_shard, jobs()):
            shards[answer.number].write(answer, representation)
            bar.update(representation.count(answer.vectors))
            encoded += 1
    if done := len(shards) - encoded:
        tqdm.write(f"{options.title}: {done} of {len(shards)} shards were there already")
    _report(shards, encoder, kind, options)
    return _join(shards, blocks.count, representation, options)


def remove(folder: Path) -> None:
    """Remove the shards of vectors that are complete."""
    shutil.rmtree(folder, ignore_errors=True)


def _report(shards: list[_Shard], encoder: CheckpointEncoder, kind: str, options: EncodingOptions) -> None:
    """Say what could not be read or computed as it is, in all shards together."""
    tally, cuts, lost, device = Tally(), Cuts(), 0, "cpu"
    for shard in shards:
        report = store.read_json(shard.folder / REPORT_FILE)
        tally.add(Tally(**report["tally"]))
        parts = ({int(row): value for row, value in part.items()} for part in report["cuts"].values())
        cuts.update(shard.block.cuts_of_rows(Cuts(*parts)))
        lost, device = lost + report["overflowed"], report["device"]
    tally.report(encoder.checkpoint.recipe.prompts, kind)
    source = encoder.checkpoint
    if lost:
        report_once(describe_overflow_of(f"model {source.name}", source.precision, device, lost, tally.texts, "texts"))
    if options.on_cuts:
        options.on_cuts(cuts)


def _join(shards: list[_Shard], count: int, representation: Representation, options: EncodingOptions) -> Vectors:
    """Return the vectors of all rows, from those of each shard's distinct texts."""
    lengths = np.ones(count, np.int64)
    for shard in shards:
        lengths[shard.block.rows] = representation.lengths(representation.load(shard.folder))[shard.block.places]
    builder = representation.builder(lengths, options.allocate)
    for shard in shards:
        vectors = representation.load(shard.folder)
        for rows, places in shard.block.parts():
            builder.put(rows, representation.select(vectors, places))
    return builder.finish()
