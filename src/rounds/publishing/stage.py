"""Publishing stage: write a checkpoint's folder with its card, and try it in a fresh process before anybody sees it."""

import dataclasses
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from rounds.artifacts import store
from rounds.artifacts.manifests import CheckpointManifest, FinetuneManifest, Parent, RawManifest, SampleManifest
from rounds.config.recipe import FOUR_BIT_PRECISIONS
from rounds.data import collection, lineage
from rounds.data.collection import Collection
from rounds.encoding.encoder import encode
from rounds.errors import UserError
from rounds.evaluation import results
from rounds.models import checkpoint
from rounds.models.checkpoint import Checkpoint
from rounds.models.embedder_classes import EMBEDDER_CLASSES
from rounds.publishing import card, embedder_kinds, files
from rounds.publishing.card import Ancestor, CardFacts, TrainingData
from rounds.publishing.files import Form
from rounds.retrieval import representations
from rounds.retrieval.representation import Vectors
from rounds.retrieval.vectors import unit_vectors

# As `make parity` takes vectors of two machines for equal: the least cosine of a text, and the mean.
MIN_COSINE, MIN_MEAN_COSINE = 0.99, 0.999

# Made up, so they say nothing about the data; short, since sentence-transformers cuts a long text with its suffix.
PROBES = ["Swallows.", "The keeper sleeps.", "Wie weit ist es?", "3 + 4 = 7"]

TRIAL = """
import numpy as np
import torch
probes = {probes!r}
vectors = [torch.as_tensor(vector) for embed in (embed_queries, embed_passages) for vector in embed(probes)]
np.savez({output!r}, *(vector.to_dense().float().cpu().numpy() for vector in vectors))
"""


@dataclass(frozen=True)
class PublishJob:
    """What is published, and as what.

    Attributes:
        source: the checkpoint.
        data: the collection that it was trained on.
        raw: the raw data, to say where they come from; None if unknown.
        evaluations: folders of evaluations, in the order of the table's rows.
        repo: OWNER/NAME on the hub.
        output: the folder to write.
        merge: merge an adapter into its base model.
        license: the licence that the user names; may be empty.
    """

    source: Checkpoint
    data: Collection
    raw: Path | None
    repo: str
    output: Path
    evaluations: list[Path] = field(default_factory=list)
    merge: bool = False
    license: str = ""


def write_folder(job: PublishJob) -> str:
    """Write the model's files and its card, and return a line that says what was written.

    Raises:
        UserError: the checkpoint cannot be published in a form that sentence-transformers loads, loads with other
            vectors there, or the card would quote the data. No folder is left then, or the older one.
    """
    form = files.choose_form(job.source, job.merge)
    source = job.source
    if form == Form.MERGED and source.is_adapter and source.precision in FOUR_BIT_PRECISIONS:
        source = checkpoint.resolve(str(source.folder), device=source.device, precision="auto")
    facts = gather_facts(job, form)
    with store.replacing_folder(job.output) as folder:
        files.write(source, form, folder)
        facts = dataclasses.replace(facts, least_cosine=try_folder(source, folder, facts.data.has_parts))
        files.name_base_model(source.recipe.model, folder)
        (folder / files.CARD).write_text(card.render(facts), encoding="utf-8")
        files.check_no_texts(folder, _texts(job.data))
    names = files.listed(job.output)
    size = sum((job.output / name).stat().st_size for name in names) / 2**20
    return f"{job.output}: {form.value}, {len(names)} files, {size:.1f} MiB, least cosine {facts.least_cosine:.4f}"


def gather_facts(job: PublishJob, form: Form) -> CardFacts:
    """Collect what the card says."""
    source, validation = job.source, job.data.questions["validation"]
    status = lineage.guard(source.name, source.lineage, validation, allow_leak=True)
    rows = [row for folder in job.evaluations for row in results.load(folder)]
    return CardFacts(
        repo=job.repo,
        source=source,
        form=form,
        data=describe_data(job),
        lineage_status=status,
        leaked=len(lineage.overlap(source.lineage or {}, validation)),
        ancestors=trace_ancestors(source),
        rows=results.distinct(rows) if rows else [],
        license=job.license,
    )


def describe_data(job: PublishJob) -> TrainingData:
    """Describe the data in names and numbers."""
    data, config = job.data, store.read_manifest(job.data.folder).config
    finetune = _read_manifest(job.source.folder.absolute().parent)
    is_trained_on = isinstance(finetune, FinetuneManifest)
    rows = collection.read_rows(data.folder / collection.FINETUNE, ())
    queries = finetune.rows if is_trained_on else len(rows)
    outside = sum(collection.OUTSIDE in row for row in rows)
    return TrainingData(
        name=data.data,
        description=_describe_raw(job.raw),
        split=data.split,
        seed=config.get("seed", 0),
        fold=config.get("fold", 0),
        n_folds=data.n_folds,
        queries=queries,
        outside_queries=outside if queries == len(rows) else 0,  # a file of other rows was trained on
        validation=len(data.validation),
        unseen=len(data.unseen),
        passages=len(data.passages),
        has_parts="task" not in config,
    )


def _describe_raw(raw: Path | None) -> str:
    manifest = _read_manifest(raw) if raw is not None and raw.is_dir() else None
    if isinstance(manifest, RawManifest):
        return f"Kaggle competition {manifest.config.get('competition', '')}".rstrip()
    return "generated, not collected" if isinstance(manifest, SampleManifest) else ""


def _read_manifest(folder: Path) -> object:
    return None if store.has_foreign_manifest(folder) else store.read_manifest(folder)


def trace_ancestors(source: Checkpoint) -> list[Ancestor]:
    """Return the checkpoint and what it was trained from, the base model first.

    Where an ancestor's folder is gone or was trained again, the chain ends there with the digest of its weights. So
    does that of an average, with those of its parents.
    """
    chain, folder, manifest = [], source.folder.absolute(), source.manifest
    while True:
        chain.append(Ancestor(_name(manifest), manifest.weights))
        chain += [_averaged_parent(parent) for parent in manifest.parents or ()][::-1]
        parent = manifest.parent
        if parent is None:
            break
        before = Path(parent.name) if manifest.merged else folder.parents[1] / parent.name
        earlier = _read_manifest(before) if before.is_dir() and not parent.base else None
        if not isinstance(earlier, CheckpointManifest) or earlier.weights != parent.weights:
            label = files.base_label(source.recipe.model) if parent.base else "an earlier checkpoint"
            chain.append(Ancestor(label, parent.weights))
            break
        folder, manifest = before.absolute(), earlier
    return chain[::-1]


def _name(manifest: CheckpointManifest) -> str:
    epoch = "" if manifest.epoch is None else f", epoch {manifest.epoch}"
    trained = "checkpoint" if manifest.round is None else f"round {manifest.round}{epoch}"
    name = f"{manifest.title}{epoch}" if manifest.title else trained
    return name + (" (merged)" if manifest.merged else "")


def _averaged_parent(parent: Parent) -> Ancestor:
    folder = Path(parent.name)
    manifest = _read_manifest(folder) if folder.is_dir() else None
    is_there = isinstance(manifest, CheckpointManifest) and manifest.weights == parent.weights
    return Ancestor(f"averaged: {_name(manifest) if is_there else 'an earlier checkpoint'}", parent.weights)


def try_folder(source: Checkpoint, folder: Path, has_parts: bool) -> float:
    """Run the card's code on a folder in a fresh process, and return the least cosine with this project's vectors.

    Raises:
        UserError: the code fails, or its vectors are others.
    """
    embedder = source.load()
    own = []
    for side in ("query", "passage"):
        own += _rows(encode(embedder, PROBES, source.recipe.prompts, side, source.precision))
    del embedder
    with tempfile.TemporaryDirectory() as scratch:
        output = Path(scratch) / "vectors.npz"
        code = card.usage(str(folder.absolute()), source, has_parts)
        encoder = EMBEDDER_CLASSES[source.representation].__name__
        code = code.replace(f"{encoder}(", f"{encoder}(device={source.device!r}, model_name_or_path=")
        code += TRIAL.format(probes=PROBES, output=str(output))
        result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=scratch)
        if result.returncode:
            reason = (result.stderr.strip().splitlines() or ["no message"])[-1][:200]
            raise UserError(f"{source.name}: sentence-transformers does not load the published files ({reason})")
        with np.load(output) as arrays:
            loaded = _rows(embedder_kinds.of(source).to_vectors(list(arrays.values())))
    cosines = np.array([_cosine(*pair) for pair in zip(own, loaded, strict=True)])
    least, mean = float(cosines.min()), float(cosines.mean())
    if not (least >= MIN_COSINE and mean >= MIN_MEAN_COSINE):  # NaN is refused as well
        raise UserError(
            f"{source.name}: sentence-transformers loads the published files with other vectors (least cosine "
            f"{least:.4f}); nothing was written"
        )
    return least


def _rows(vectors: Vectors) -> list[np.ndarray]:
    """Return the numbers of each text's embedding, flat; with a vector for each token, some texts have more."""
    kind = representations.of(vectors)
    return [kind.probe(vectors, row) for row in range(kind.count(vectors))]


def _cosine(own: np.ndarray, loaded: np.ndarray) -> float:
    """Return the cosine of a text's two rows; 0 if one has more numbers, as where another number of tokens counts."""
    if own.shape != loaded.shape:
        return 0.0
    units = unit_vectors(np.stack([own, loaded]))
    return float((units[0] * units[1]).sum())


def _texts(data: Collection) -> Iterator[str]:
    """Yield every text of the collection: passages and their parts, validation, test and training queries."""
    yield from data.passages.values()
    yield from (*data.names.values(), *data.explanations.values())
    yield from data.validation.values()
    yield from data.test.values()
    path = data.folder / collection.FINETUNE
    if path.stat().st_size:
        yield from (row["query"] for row in collection.read_rows(path, ()))
