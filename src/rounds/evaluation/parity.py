"""Parity: compare two runs from the corpus to the metric; the first difference is the cause of the others."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from rounds.artifacts import store
from rounds.artifacts.manifests import FingerprintManifest, SubmissionManifest
from rounds.encoding import fingerprint
from rounds.errors import UserError
from rounds.evaluation import results
from rounds.evaluation.metrics import MAIN_METRIC, per_query
from rounds.retrieval.run import Run, read_trec
from rounds.retrieval.vectors import cosines

DEPTH = 25

MAX_SETTINGS = 3  # differing settings that a check names

MAX_TEXT = 60  # characters of a differing text that a check quotes


@dataclass(frozen=True)
class Tolerance:
    """How much two runs of one checkpoint may differ.

    Attributes:
        min_cosine: lower bound of each probe's cosine between the two runs.
        mean_cosine: lower bound of the probes' mean cosine.
        overlap: lower bound of the mean share of the top 25 that both runs have in common.
        metric: upper bound of the difference of MAP@25.
    """

    min_cosine: float = 0.99
    mean_cosine: float = 0.999
    overlap: float = 0.95
    metric: float = 0.005


@dataclass(frozen=True)
class Side:
    """One of the two runs, with its fingerprint (`encoding.fingerprint`)."""

    name: str
    fingerprint: FingerprintManifest
    run: Run


@dataclass(frozen=True)
class Check:
    """The result of one comparison.

    Attributes:
        name: what was compared.
        same: whether nothing differs.
        within: whether the difference is within the tolerance; None if it could not be measured.
        found: the compared values, for the printed table.
        cause: the setting that differs; empty if none is known.
    """

    name: str
    same: bool
    within: bool | None
    found: str
    cause: str = ""


def load(folder: Path, name: str) -> Side:
    """Read a run and its fingerprint from the folder that holds both.

    Raises:
        UserError: one of the two files is missing or is not what its name says.
    """
    fingerprint_file, run_file = folder / fingerprint.FILE, folder / "run.trec"
    store.require_files(fingerprint_file, run_file)
    return Side(name, fingerprint.read(fingerprint_file), read_trec(run_file))


def recorded(path: Path, model_output: Path) -> Path | None:
    """Return the run's folder behind a run's folder, an evaluation's folder or a submission's CSV.

    Args:
        path: any path.
        model_output: evaluations and submissions name their runs relative to it.

    Returns:
        None for any other path.

    Raises:
        UserError: the evaluation or the submission names no run.
    """
    if (path / fingerprint.FILE).is_file():
        return path
    if results.is_saved(path):
        runs = [row.about.run for row in results.read_rows(path)]
    elif path.suffix == ".csv" and isinstance(manifest := store.read_file_manifest(path), SubmissionManifest):
        runs = [manifest.run]
    else:
        return None
    if not any(runs):
        raise UserError(f"{path}: names no run; evaluate (or submit) again")
    return model_output / [run for run in runs if run][-1]


def compare(
    a: Side, b: Side, tolerance: Tolerance = Tolerance(), qrels: dict[str, list[str]] | None = None
) -> list[Check]:
    """Compare two runs: corpus, queries, formatted texts, vectors, top 25 and metric, in this order.

    Args:
        a: one run.
        b: the other run.
        tolerance: how much they may differ.
        qrels: query id -> relevant passage ids, for the metric; None leaves it out.
    """
    checks = [
        _compare_lists(a, b, "corpus", "passages"),
        _compare_lists(a, b, "queries", "queries"),
        _compare_texts(a, b),
        _compare_vectors(a, b, tolerance),
    ]
    if set(a.run.queries) != set(b.run.queries):
        return checks
    overlap = _overlap(a.run, b.run)
    depth = min(DEPTH, a.run.scores.shape[1], b.run.scores.shape[1])
    checks.append(Check(f"top-{depth} overlap", overlap == 1, overlap >= tolerance.overlap, f"{overlap:.4f}"))
    if qrels is not None and set(qrels) == set(a.run.queries):
        checks.append(_compare_metric(a, b, tolerance, qrels))
    return checks


def cause(checks: list[Check]) -> Check | None:
    """Return the first check beyond its tolerance; None if there is none."""
    return next((check for check in checks if check.within is False), None)


def _compare_lists(a: Side, b: Side, key: str, noun: str) -> Check:
    """Compare the ids and texts of the corpus or of the queries."""
    name = f"{key} list" if key == "corpus" else key
    list_a, list_b = (getattr(side.fingerprint, key) for side in (a, b))
    if list_a.list == list_b.list:
        return Check(name, True, True, f"{list_a.number} {noun}")
    probes_a, probes_b = (side.fingerprint.probes[noun] for side in (a, b))
    differing = sorted(probes_a.keys() ^ probes_b.keys()) or sorted(
        probe for probe in probes_a if probes_a[probe].text != probes_b[probe].text
    )
    example = f", such as {differing[0]}" if differing else ""
    numbers = f"{list_a.number} and {list_b.number} {noun}"
    return Check(name, False, False, numbers, f"another {key} list{example}")


def _compare_texts(a: Side, b: Side) -> Check:
    """Compare the texts that the models read, prompts included."""
    one, other = a.fingerprint, b.fingerprint
    settings = "; ".join(store.differences(one.texts, other.texts, "prompts.")[:MAX_SETTINGS])
    differing = [key for key in ("corpus", "queries") if getattr(one, key).texts != getattr(other, key).texts]
    if not differing:
        return Check("formatted texts", True, True, "the same" + (f", though {settings}" if settings else ""))
    found = f"of {' and '.join(differing)} differ"
    return Check("formatted texts", False, False, found, settings or _differing_text(a, b))


def _differing_text(a: Side, b: Side) -> str:
    """Quote the first probe whose text differs."""
    for kind in ("queries", "passages"):
        probes_a, probes_b = (side.fingerprint.probes[kind] for side in (a, b))
        for key in probes_a.keys() & probes_b.keys():
            text_a, text_b = (probes[key].text for probes in (probes_a, probes_b))
            if text_a != text_b:
                return f"texts of one format, but {key} reads {text_a[:MAX_TEXT]!r}, {text_b[:MAX_TEXT]!r}"
    return "texts of one format that differ in content"


def _compare_vectors(a: Side, b: Side, tolerance: Tolerance) -> Check:
    """Compare the vectors of the probes that both fingerprints hold."""
    one, other = (side.fingerprint.to_json() for side in (a, b))
    sections = {"model": "model.", "texts": "prompts.", "made": ""}
    differences = [line for key, prefix in sections.items() for line in store.differences(one[key], other[key], prefix)]
    settings = "; ".join(differences[:MAX_SETTINGS])
    pairs = _probe_vectors(a, b)
    if not pairs:
        return Check("vectors", False, None, "no probe in common", settings)
    for pair in pairs:  # probes of one run differ in length where each token of a text has a vector
        if len(pair[0]) != len(pair[1]):
            return Check("vectors", False, False, f"of {len(pair[0])} and {len(pair[1])} dimensions", settings)
    similarity = np.array([cosines(*(np.array([vector], np.float64) for vector in pair)).item() for pair in pairs])
    minimum, mean = float(similarity.min()), float(similarity.mean())
    within = minimum >= tolerance.min_cosine and mean >= tolerance.mean_cosine
    found = f"cosine of {len(pairs)} probes: min {minimum:.6f}, mean {mean:.6f}"
    same = all(vector_a == vector_b for vector_a, vector_b in pairs)
    return Check("vectors", same, within, found, settings or "no setting that is known")


def _probe_vectors(a: Side, b: Side) -> list[tuple[list[float], list[float]]]:
    pairs = []
    for kind in ("queries", "passages"):
        probes_a, probes_b = (side.fingerprint.probes[kind] for side in (a, b))
        pairs += [(probes_a[key].vector, probes_b[key].vector) for key in probes_a.keys() & probes_b.keys()]
    return pairs


def _overlap(a: Run, b: Run) -> float:
    """Return the mean share of the top 25 that two runs of the same queries have in common."""
    rows = {query: row for row, query in enumerate(b.queries)}
    depth = min(DEPTH, a.scores.shape[1], b.scores.shape[1])
    shared = [
        len(set(a.passages[row, :depth]) & set(b.passages[rows[query], :depth])) / depth
        for row, query in enumerate(a.queries)
    ]
    return float(np.mean(shared))


def _compare_metric(a: Side, b: Side, tolerance: Tolerance, qrels: dict[str, list[str]]) -> Check:
    score_a, score_b = (per_query(side.run, qrels, (MAIN_METRIC,))[MAIN_METRIC].mean() for side in (a, b))
    difference = float(score_b - score_a)
    found = f"{score_a:.4f} and {score_b:.4f} ({difference:+.4f})"
    return Check(MAIN_METRIC, difference == 0, abs(difference) <= tolerance.metric, found)


def table(a: Side, b: Side, checks: list[Check]) -> str:
    """Return the lines that `make parity` prints: one per check, and the verdict with its cause."""
    width = max(len(check.name) for check in checks)
    lines = [f"A: {a.name}", f"B: {b.name}"]
    for check in checks:
        verdict = "same" if check.same else {True: "within tolerance", False: "DIFFERENT", None: "?"}[check.within]
        lines.append(f"{check.name:<{width}}  {verdict:<16}  {check.found}")
    first = cause(checks)
    if first is None:
        apart = next((check for check in checks if not check.same), None)
        lines.append("parity" + (f"; what differs: {apart.cause}" if apart and apart.cause else ""))
    else:
        lines.append(f"no parity; cause: {first.name}" + (f": {first.cause}" if first.cause else ""))
    return "\n".join(lines)


def parse(text: str) -> tuple[str, str | None]:
    """Split `NAME@PRECISION` into the name and the precision to compute in; None without a precision.

    Raises:
        UserError: the name is empty.

    >>> parse("minilm@bf16"), parse("minilm")
    (('minilm', 'bf16'), ('minilm', None))
    """
    name, mark, precision = text.rpartition("@")
    if mark and not name:
        raise UserError(f"{text}: is not NAME or NAME@PRECISION")
    return (name, precision) if mark else (text, None)
