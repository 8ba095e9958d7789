"""Shards: encode a corpus on a cluster, block by block; each block is an artefact, where a later run goes on.

A shard is a block of `TextBlocks`, which one machine encodes at a time, so its vectors do not depend on how many
machines there are. The folders `shards/corpus-HASH/HASH` of a store, or the objects `corpus-HASH-STORE/HASH.zip` of
object storage, are named by what their vectors depend on, and are removed when the corpus's vectors are complete.
"""

import dataclasses
import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from tqdm import tqdm

from rounds.artifacts import disk_space, hashing, store
from rounds.artifacts.manifests import Origin, VectorsManifest
from rounds.cluster import ray_cluster
from rounds.encoding import batch_loop
from rounds.encoding.checkpoint_encoder import CheckpointEncoder
from rounds.encoding.content_key import content_key, stored_dtype
from rounds.encoding.encoder import EncodingOptions
from rounds.encoding.shard_storage import RemoteShards, Shards
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
        lengths: how many vectors each of its distinct texts has.
        vectors: of these texts; None where the worker has written them.
        cuts: what was left out of them.
        tally: counts of texts that could not be read as they are.
        overflowed: texts that were computed again in a wider precision.
        device: the worker's device.
    """

    number: int
    lengths: np.ndarray
    vectors: Vectors | None
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
    dtype: type,
) -> EncodedShard:
    """Encode a shard's distinct texts on a worker.

    Args:
        encoder: the checkpoint, which is loaded unless the worker has it already.
        threads: CPU threads; 0 where a GPU computes.
        dtype: of dense vectors: float32, or float16 where the recipe stores passages so.
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
        "encode a shard",
        allocate=functools.partial(np.empty, dtype=dtype),
        names=names,
        on_cuts=cuts.update,
        on_tally=tally.add,
        on_overflow=lost.append,
    )
    vectors = _loaded.encoder.encode(texts, kind, examples, options)
    lengths = representations.of(vectors).lengths(vectors)
    return EncodedShard(number, lengths, vectors, cuts, tally, sum(lost), source.device)


def _encode_and_write(kept: RemoteShards, name: str, config: dict, *job: object) -> EncodedShard:
    """Encode a shard on a worker, and write it to object storage.

    Args:
        name: of the shard.
        config: what its vectors depend on.
        job: arguments of `_encode_shard`.

    Raises:
        UserError: it cannot be written; the line names the node.
    """
    answer = _encode_shard(*job)
    try:
        _write(kept, name, config, answer)
    except UserError as error:
        raise UserError(f"node {ray_cluster.node_name()}: {error}") from None
    return dataclasses.replace(answer, vectors=None)


def _write(kept: Shards, name: str, config: dict, answer: EncodedShard) -> None:
    """Keep a shard's vectors and what a worker reports of it."""
    representation = representations.of(answer.vectors)
    origin = Origin(versions=library_versions(), device=answer.device)
    with kept.writing(name, VectorsManifest(config=config, made=origin)) as temporary:
        allocate = functools.partial(disk_space.allocate_array, temporary / VECTORS_FILE, dtype=stored_dtype(config))
        rows = range(representation.count(answer.vectors))
        representation.write_rest(representation.take(answer.vectors, rows, allocate), temporary)
        store.write_json(temporary / REPORT_FILE, answer.report())


@dataclass
class _Shard:
    """A block of texts, and the shard of its vectors.

    Attributes:
        block: its rows; the texts themselves are dropped.
        config: what the vectors depend on.
        lengths: as in `EncodedShard`, once the shard is there; so is `report`.
        report: what the worker reported.
    """

    block: TextBlock
    config: dict
    lengths: np.ndarray | None = None
    report: dict | None = None

    @functools.cached_property
    def name(self) -> str:
        """The shard's name."""
        return hashing.sha256_json(self.config)[:12]

    def is_in(self, kept: Shards, representation: Representation) -> bool:
        """Return whether the shard is kept; a damaged one is removed."""
        if not kept.has(self.name):
            return False
        with kept.opened(self.name) as folder:
            try:
                vectors = representation.load(folder)
                is_whole = representation.count(vectors) == len(self.block.first_rows)
                if is_whole and store.is_finished(folder, self.config):
                    self.report = store.read_json(folder / REPORT_FILE)
                    self.lengths = representation.lengths(vectors)
                    return True
            except (OSError, ValueError, EOFError, UserError):  # a truncated file
                pass
        tqdm.write(f"{kept.place(self.name)}: is damaged; it is encoded again")
        kept.remove(self.name)
        return False

    def keep(self, answer: EncodedShard, kept: Shards) -> None:
        """Keep a worker's answer."""
        if answer.vectors is not None:
            _write(kept, self.name, self.config, answer)
        self.lengths, self.report = answer.lengths, answer.report()


def encode(
    encoder: CheckpointEncoder,
    kept: Shards,
    texts: Sequence[str],
    kind: str,
    examples: list[list[str]] | None,
    options: EncodingOptions,
) -> Vectors:
    """Embed texts on the checkpoint's cluster; shards that are there already are not encoded again.

    Args:
        encoder: the checkpoint, which this process does not load.
        kept: the shards of the corpus.
        kind: `query` or `passage`.
        examples: few-shot examples of each text.
        options: as `encoder.encode` takes them.

    Returns:
        the vectors that `CheckpointEncoder.encode` computes on one machine.

    Raises:
        UserError: a worker failed, or the shards cannot be kept; the line says where and why.
    """
    kept.require_writable()
    cluster = ray_cluster.join(encoder.checkpoint.options.cluster)
    remote = encoder.checkpoint.with_options(devices=("cuda" if cluster.has_gpus else "cpu",), cluster="", shards="")
    common = dataclasses.replace(encoder, checkpoint=remote), cluster.cpus
    representation = representations.KINDS[encoder.checkpoint.representation]
    blocks, shards, encoded = TextBlocks(texts, examples), [], 0
    is_remote = isinstance(kept, RemoteShards)

    def jobs() -> Iterator[tuple]:
        for number, block in enumerate(blocks):
            config = content_key(encoder.checkpoint, block.texts, kind, block.examples)
            rows_only = dataclasses.replace(block, texts=[], examples=None)
            shards.append(shard := _Shard(rows_only, config))
            if not shard.is_in(kept, representation):
                names = options.names_of(block.first_rows.tolist())
                job = *common, number, block.texts, kind, block.examples, names, stored_dtype(config)
                yield (kept, shard.name, config, *job) if is_remote else job

    with batch_loop.progress_bar(blocks.distinct_count, options.title) as bar:
        for answer in cluster.map(_encode_and_write if is_remote else _encode_shard, jobs()):
            shards[answer.number].keep(answer, kept)
            bar.update(len(answer.lengths))
            encoded += 1
    if done := len(shards) - encoded:
        tqdm.write(f"{options.title}: {done} of {len(shards)} shards were there already")
    _report(shards, encoder, kind, options)
    return _join(shards, kept, blocks.count, representation, options)


def _report(shards: list[_Shard], encoder: CheckpointEncoder, kind: str, options: EncodingOptions) -> None:
    """Say what could not be read or computed as it is, in all shards together."""
    tally, cuts, lost, device = Tally(), Cuts(), 0, "cpu"
    for shard in shards:
        report = shard.report
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


def _join(
    shards: list[_Shard], kept: Shards, count: int, representation: Representation, options: EncodingOptions
) -> Vectors:
    """Return the vectors of all rows, from those of each shard's distinct texts."""
    lengths = np.ones(count, np.int64)
    for shard in shards:
        lengths[shard.block.rows] = shard.lengths[shard.block.places]
    builder = representation.builder(lengths, options.allocate)
    for shard in shards:
        with kept.opened(shard.name) as folder:
            try:
                vectors = representation.load(folder)
            except (OSError, ValueError, EOFError):
                raise UserError(f"{kept.place(shard.name)}: is damaged; run again, and it is encoded again") from None
            for rows, places in shard.block.parts():
                builder.put(rows, representation.select(vectors, places))
    return builder.finish()
