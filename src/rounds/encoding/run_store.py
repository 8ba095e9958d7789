"""Store a checkpoint's vectors and runs beside it: each set of texts is encoded once, and every later stage reads it.

Folders are named by a hash of everything that their content depends on (weights, prompts, precision, texts), never by
a model's name, so that another checkpoint, recipe or data file never gets a stored result that is not its own.

```
ROOT/validation-HASH/vectors.npy                           vectors of the query set, with cuts.json beside it
ROOT/corpus-HASH/vectors.npy                               vectors of the passages
ROOT/validation-HASH/corpus-HASH-IDS[-MARKS]/run.trec      the run, with fingerprint.json beside it
```
"""

import functools
import itertools
import json
import re
import secrets
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from sentence_transformers import SentenceTransformer
from tqdm import tqdm

from rounds.artifacts import disk_space, hashing, store
from rounds.artifacts.manifests import Origin, VectorsManifest
from rounds.cluster import ray_cluster
from rounds.cluster import search as cluster_search
from rounds.data import collection, few_shot
from rounds.data.collection import Collection
from rounds.data.images import MODALITY_FILTERS
from rounds.data.passage_pool import convert_texts, ids_of, texts_of
from rounds.encoding import fingerprint, shards
from rounds.encoding.checkpoint_encoder import CheckpointEncoder
from rounds.encoding.content_key import content_key, stored_dtype
from rounds.encoding.encoder import EncodingOptions
from rounds.encoding.fingerprint import EncodedTexts
from rounds.encoding.shard_storage import Shards, shards_of
from rounds.encoding.tokenization import Cuts, model_texts
from rounds.errors import UserError
from rounds.models.checkpoint import Checkpoint
from rounds.models.devices import device_name
from rounds.models.library_versions import library_versions
from rounds.retrieval import representations, search
from rounds.retrieval.representation import VECTORS_FILE, Vectors
from rounds.retrieval.run import Run, rank_without, read_trec, write_trec
from rounds.retrieval.vectors import truncate_vectors

DEPTH = 200  # passages ranked for each query

RUN_FILE = "run.trec"

CUTS_FILE = "cuts.json"

ID_FILE = "id.txt"  # tells this store from others that keep shards at the same URL

UNKNOWN_ORIGIN = Origin(versions={}, device="unknown")


@dataclass
class RunStore:
    """Vectors and runs of one checkpoint on disk; what is missing is computed and stored.

    Attributes:
        encoder: the checkpoint, loaded when a text has no vectors yet.
        root: folder of the checkpoint's vectors and runs.
    """

    encoder: CheckpointEncoder
    root: Path

    @property
    def checkpoint(self) -> Checkpoint:
        """The checkpoint whose vectors and runs are stored."""
        return self.encoder.checkpoint

    def vectors(
        self,
        texts: Sequence[str],
        kind: str,
        title: str,
        examples: list[list[str]] | None = None,
        names: Sequence[str] = (),
    ) -> tuple[Vectors, Path]:
        """Return the vectors of `texts` from disk, or encode and store them.

        Args:
            kind: `query` or `passage`.
            title: name of the set of texts: train, validation, test or corpus.
            examples: few-shot examples of each text (`few_shot.select_examples`).
            names: ids of the texts, for messages.

        Returns:
            (texts, dim) float32, float16 where the recipe stores passages so, or the vectors of another representation,
            memory-mapped and not truncated, and the folder that holds them.
        """
        texts = self._filtered(texts)
        config, folder = self._vectors_folder(texts, kind, title, examples)
        with store.lock(self.root, self._leave_workers):  # two stages of `make -j` may want the same vectors
            if not store.is_finished(folder, config):
                parts = self._shards(folder.name)
                device = ", ".join(map(device_name, self.checkpoint.options.devices))
                origin = Origin(versions=library_versions(), device=device)
                with store.writing(folder, VectorsManifest(config=config, made=origin)) as temporary:
                    options = EncodingOptions(
                        f"encode {title}",
                        allocate=functools.partial(
                            disk_space.allocate_array, temporary / VECTORS_FILE, dtype=stored_dtype(config)
                        ),
                        names=names,
                        on_cuts=functools.partial(_write_cuts, temporary / CUTS_FILE),
                    )
                    if self._uses_cluster:
                        vectors = shards.encode(self.encoder, parts, texts, kind, examples, options)
                    else:
                        vectors = self.encoder.encode(texts, kind, examples, options)
                    representations.of(vectors).write_rest(vectors, temporary)
                if self._uses_cluster:
                    parts.remove_all()
        return representations.KINDS[self.checkpoint.representation].load(folder), folder

    def _shards(self, corpus: str) -> Shards:
        """Return the shards of a corpus; at a URL, under this store's own id, since each store removes its shards."""
        url, id_file = self.checkpoint.options.shards, self.root / ID_FILE
        if url and not id_file.is_file():
            store.write_text(id_file, secrets.token_hex(6))
        name = f"{corpus}-{id_file.read_text()}" if url else corpus
        return shards_of(url, self.root / shards.FOLDER / name)

    @property
    def _uses_cluster(self) -> bool:
        """Whether a cluster encodes and searches; a model that is loaded already is used where it is."""
        return bool(self.checkpoint.options.cluster) and self.encoder.embedder is None

    def _leave_workers(self) -> None:
        """Leave the cluster's workers to the process that this one waits for: it may need what they hold."""
        if self._uses_cluster:
            ray_cluster.leave_workers(self.checkpoint.options.cluster)

    def has_vectors(self, texts: Sequence[str], kind: str, title: str, examples: list[list[str]] | None = None) -> bool:
        """Return whether the vectors of `texts` are on disk; arguments are those of `vectors`."""
        texts = self._filtered(texts)
        config, folder = self._vectors_folder(texts, kind, title, examples)
        return store.is_finished(folder, config)

    def _vectors_folder(
        self, texts: Sequence[str], kind: str, title: str, examples: list[list[str]] | None
    ) -> tuple[dict, Path]:
        """Return what the vectors of filtered texts depend on, and the folder that is named by its hash."""
        config = content_key(self.checkpoint, texts, kind, examples)
        return config, self.root / f"{title}-{hashing.sha256_json(config)[:12]}"

    def run(
        self,
        name: str,
        queries: dict[str, str],
        passages: Mapping[str, str],
        depth: int = DEPTH,
        examples: list[list[str]] | None = None,
        index: str = "exact",
        identical: dict[str, list[str]] | None = None,
    ) -> tuple[Run, Path]:
        """Return the ranking of `passages` for `queries` from disk, or rank and store it.

        Args:
            name: name of the query set: train, validation or test.
            queries: query id -> text.
            passages: passage id -> text.
            depth: passages ranked for each query; a stored run that is deep enough is cut.
            examples: few-shot examples of each query, in the order of `queries`.
            index: `exact`, or the approximate index to search with (`ann_index.build`); its runs have their own files.
            identical: query id -> passages that are the query itself, which its ranking leaves out.

        Returns:
            the run, and the path of its TREC file.
        """
        query_vectors, query_folder = self.vectors(list(queries.values()), "query", name, examples, list(queries))
        passage_ids = ids_of(passages)
        corpus_vectors, corpus_folder = self.vectors(texts_of(passages), "passage", "corpus", names=passage_ids)
        left_out = {query: identical[query] for query in queries if identical and query in identical}
        ids = itertools.chain(queries, passage_ids, [json.dumps(left_out)] if left_out else [])
        path = query_folder / self._run_name(corpus_folder, ids, index) / RUN_FILE
        least = min(len(left_out.get(query, ())) for query in queries) if left_out else 0
        depth = min(depth, max(len(passages) - least, 1))
        if path.is_file():
            run = read_trec(path)
            if run.scores.shape[1] >= depth:
                return run.top(depth), path
        on_cluster = self._search(index)
        _tell_rounding(name, corpus_vectors)
        dim, normalizes = self.checkpoint.options.truncate_dim, self.checkpoint.normalizes
        query_vectors = truncate_vectors(query_vectors, dim, normalizes)
        corpus_vectors = truncate_vectors(corpus_vectors, dim, normalizes)
        representation = representations.of(corpus_vectors)
        _tell_statistics(name, representation.statistics(query_vectors, corpus_vectors))
        path.parent.mkdir(parents=True, exist_ok=True)
        self._write_fingerprint(  # before the run itself, whose file marks the folder as finished
            path.with_name(fingerprint.FILE),
            self._encoded_texts(queries, "query", query_vectors, query_folder, examples),
            self._encoded_texts(passages, "passage", corpus_vectors, corpus_folder),
        )
        try:
            is_built = index != "exact" and on_cluster is None
            built = representation.build_index(index, corpus_folder) if is_built else None
            vectors = list(queries), query_vectors, passage_ids, corpus_vectors
            rank = functools.partial(search.rank, *vectors, index=built, search=on_cluster)
            run = rank_without(lambda width: rank(depth=width), queries, left_out, depth, len(passages))
        except UserError as error:  # files of an earlier version, or damaged ones
            raise UserError(f"{error}; delete {query_folder} and {corpus_folder} to encode anew") from None
        save_run(run, path, self.checkpoint.weights_digest[:12])
        return run, path

    def _search(self, index: str) -> search.Search | None:
        """Return the cluster's search; None without one searches in this process."""
        if not self._uses_cluster:
            return None
        return functools.partial(cluster_search.search, self.checkpoint.options.cluster, index=index)

    def _run_name(self, corpus_folder: Path, ids: Iterable[str], index: str) -> str:
        """Return the name of a run's folder, which `load_run_vectors` takes apart."""
        dim = self.checkpoint.options.truncate_dim
        name = f"{index}-parts" if self._uses_cluster else index  # the indexes of parts propose other passages
        marks = [name] * (index != "exact") + [f"dim{dim}"] * (dim is not None)
        return "-".join([corpus_folder.name, hashing.sha256_texts(ids)[:12], *marks])

    def _filtered(self, texts: Sequence[str]) -> Sequence[str]:
        """Return texts with the parts that the checkpoint's modality reads."""
        keep = MODALITY_FILTERS[self.checkpoint.options.modality]
        return convert_texts(texts, lambda _, text: keep(text))

    def _encoded_texts(
        self,
        texts: Mapping[str, str],
        kind: str,
        vectors: np.ndarray,
        folder: Path,
        examples: list[list[str]] | None = None,
    ) -> EncodedTexts:
        """Return one side of a run, with its texts as the model read them."""
        filtered = self._filtered(texts_of(texts))
        cuts = _read_cuts(folder / CUTS_FILE)
        if cuts is None:  # vectors of an earlier version
            cuts = self.encoder.find_cuts(filtered, kind, examples)
            _write_cuts(folder / CUTS_FILE, cuts)
        read = model_texts(self.checkpoint.recipe.prompts, kind, filtered, examples, cuts)
        return EncodedTexts(texts, read, vectors, _read_origin(folder))

    def _write_fingerprint(self, path: Path, queries: EncodedTexts, passages: EncodedTexts) -> None:
        model = {key: value for key, value in self.checkpoint.key.items() if key != "prompts"}
        stored = self.checkpoint.recipe.model.stored_precision
        model |= {"stored_precision": stored} if stored != "fp32" else {}
        fingerprint.write(path, model, self.checkpoint.recipe.prompts, queries, passages)


def _tell_rounding(name: str, passages: Vectors) -> None:
    """Say that a ranking is of rounded vectors, where it is."""
    if representations.is_dense(passages) and passages.dtype == np.float16:
        tqdm.write(f"{name}: ranks passages rounded to fp16 (model.stored_precision); fp32 may rank otherwise")


def _tell_statistics(name: str, statistics: dict[str, float]) -> None:
    """Print the metrics of the two sides of a search, if they have any."""
    if statistics:
        tqdm.write(f"{name}: " + ", ".join(f"{figure} {value:.2f}" for figure, value in statistics.items()))


def _write_cuts(path: Path, cuts: Cuts) -> None:
    """Keep what was left out of texts beside their vectors, for the fingerprints of runs."""
    store.write_json(path, vars(cuts))


def _read_cuts(path: Path) -> Cuts | None:
    """Return what was left out of texts; None if no file says so."""
    if not path.is_file():
        return None
    content = store.read_json(path)
    return Cuts(**{name: {int(row): value for row, value in entries.items()} for name, entries in content.items()})


def _read_origin(folder: Path) -> Origin:
    """Return the library versions and the device that computed a folder's vectors."""
    manifest = store.read_manifest(folder)
    return manifest.made if isinstance(manifest, VectorsManifest) and manifest.made else UNKNOWN_ORIGIN


def load_run_vectors(run_file: Path) -> tuple[Vectors, Vectors] | None:
    """Load the vectors that a stored run was ranked by, before truncation.

    Returns:
        (queries, dim) and (corpus, dim) floats, or the vectors of another representation, memory-mapped, in the order
        of the query file and of the corpus; None if they were deleted.
    """
    corpus_folder = "-".join(run_file.parent.name.split("-")[:2])  # `corpus-HASH` of `corpus-HASH-IDS-MARKS`
    query_folder = run_file.parent.parent
    queries, corpus = map(representations.load, (query_folder, query_folder.parent / corpus_folder))
    return None if queries is None or corpus is None else (queries, corpus)


def save_run(run: Run, path: Path, tag: str) -> None:
    """Write a run file atomically."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with store.replacing(path) as temporary:
        write_trec(run, temporary, tag)


def open_store(checkpoint: Checkpoint, output_root: Path, embedder: SentenceTransformer | None = None) -> RunStore:
    """Return the store beside the checkpoint; base models have theirs under `output_root/base/`.

    Args:
        embedder: the checkpoint's model, if it is already loaded.
    """
    if checkpoint.folder is not None and checkpoint.manifest is not None:
        root = checkpoint.folder / "runs"
    else:
        slug = re.sub(r"\W+", "-", Path(checkpoint.name).name).strip("-")
        root = output_root / "base" / f"{slug}-{checkpoint.weights_digest[:8]}"
    return RunStore(CheckpointEncoder(checkpoint, embedder, image_cache=output_root / "base"), root)


def run_folder(source: Checkpoint, data: Collection, model_output: Path) -> Path:
    """Return the folder of the checkpoint's run on the validation queries, or on the test queries if there are none."""
    name, queries = ("validation", data.validation) if data.validation else ("test", data.test)
    examples = few_shot_examples(source, data, queries)
    runs = open_store(source, model_output)
    _, path = runs.run(name, queries, data.passages, examples=examples, identical=data.identical)
    return path.parent


def few_shot_examples(source: Checkpoint, data: Collection, queries: dict[str, str]) -> list[list[str]] | None:
    """Return each query's few-shot examples from the collection's training rows; None if the recipe uses none."""
    if source.recipe.prompts.examples == "none":
        return None
    rows = collection.read_rows(data.folder / collection.FINETUNE, ("pos",))
    bank = collection.example_bank(rows, source.recipe.prompts)
    return few_shot.select_examples(bank, [data.metadata[query] for query in queries])
