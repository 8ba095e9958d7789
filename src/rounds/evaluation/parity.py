"""Parity: what two runs differ in, from the corpus to the metric; the first difference is the cause of the rest."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from rounds.artifacts import store
from rounds.encoding import fingerprint
from rounds.errors import UserError
from rounds.evaluation.metrics import MAIN_METRIC, per_query
from rounds.retrieval.run import Run, read_trec
from rounds.retrieval.vectors import cosines

DEPTH = 25

SHOWN = 3


@dataclass(frozen=True)
class Tolerance:
    """How far two runs of one checkpoint may be apart.

    Attributes:
        min_cosine, mean_cosine: of the probes' vectors, at least.
        overlap: mean share of the top 25 that both rank there, at least.
        metric: difference of MAP@25, at most.
    """

    min_cosine: float = 0.99
    mean_cosine: float = 0.999
    overlap: float = 0.95
    metric: float = 0.005


@dataclass(frozen=True)
class Side:
    """One of the two runs."""

    name: str
    about: dict
    run: Run


@dataclass(frozen=True)
class Check:
    """One question asked of both.

    Attributes:
        same: whether nothing differs.
        within: whether what differs is within the tolerance; None where the question has no answer.
        cause: the setting that differs.
    """

    name: str
    same: bool
    within: bool | None
    found: str
    cause: str = ""


def load(folder: Path, name: str) -> Side:
    """A run and its fingerprint, from the folder that holds both."""
    files = [folder / file for file in (fingerprint.FILE, "run.trec")]
    store.require_files(*files)
    return Side(name, fingerprint.read(files[0]), read_trec(files[1]))


def recorded(path: Path, model_output: Path) -> Path | None:
    """The run's folder behind a run's own folder, an evaluation's folder or a submission's CSV; None for other paths.

    Args:
        model_output: what evaluations and submissions name their runs relative to.
    """
    if (path / fingerprint.FILE).is_file():
        return path
    manifest = path.with_name(f"{path.stem}.manifest.json")
    if (path / "metrics.json").is_file():
        found = [row["about"].get("run") for row in store.read_json(path / "metrics.json")]
    elif path.suffix == ".csv" and manifest.is_file():
        found = [store.read_json(manifest).get("run")]
    else:
        return None
    if not any(found):
        raise UserError(f"{path}: names no run; evaluate (or submit) again")
    return model_output / [each for each in found if each][-1]


def compare(
    a: Side, b: Side, tolerance: Tolerance = Tolerance(), qrels: dict[str, list[str]] | None = None
) -> list[Check]:
    """The checks in their order.

    Args:
        qrels: relevant passages of the runs' queries, for the difference of the metric.
    """
    checks = [_list(a, b, "corpus", "passages"), _list(a, b, "queries", "queries"), _texts(a, b)]
    checks.append(_vectors(a, b, tolerance))
    same_queries = set(a.run.queries) == set(b.run.queries)
    if not same_queries:
        return checks
    overlap = _overlap(a.run, b.run)
    depth = min(DEPTH, a.run.scores.shape[1], b.run.scores.shape[1])
    checks.append(Check(f"top-{depth} overlap", overlap == 1, overlap >= tolerance.overlap, f"{overlap:.4f}"))
    if qrels is not None and set(qrels) == set(a.run.queries):
        scores = [per_query(side.run, qrels, (MAIN_METRIC,))[MAIN_METRIC].mean() for side in (a, b)]
        apart = float(scores[1] - scores[0])
        found = f"{scores[0]:.4f} and {scores[1]:.4f} ({apart:+.4f})"
        checks.append(Check(MAIN_METRIC, apart == 0, abs(apart) <= tolerance.metric, found))
    return checks


def cause(checks: list[Check]) -> Check | None:
    """The first check that is beyond its tolerance."""
    return next((check for check in checks if check.within is False), None)


def _list(a: Side, b: Side, key: str, what: str) -> Check:
    ours, theirs = a.about[key], b.about[key]
    if ours["list"] == theirs["list"]:
        return Check(f"{key} list" if key == "corpus" else key, True, True, f"{ours['number']} {what}")
    found = f"{ours['number']} and {theirs['number']} {what}"
    name = "passages" if key == "corpus" else key
    probes = [side.about["probes"][name] for side in (a, b)]
    own = sorted(probes[0].keys() ^ probes[1].keys()) or sorted(
        each for each in probes[0] if probes[0][each]["text"] != probes[1][each]["text"]
    )
    cause = f"another {key} list" + (f", such as {own[0]}" if own else "")
    return Check(f"{key} list" if key == "corpus" else key, False, False, found, cause)


def _texts(a: Side, b: Side) -> Check:
    same = all(a.about[key]["texts"] == b.about[key]["texts"] for key in ("corpus", "queries"))
    settings = store.differences(a.about["texts"], b.about["texts"], "prompts.")
    if same:
        found = "the same" + (f", though {'; '.join(settings[:SHOWN])}" if settings else "")
        return Check("formatted texts", True, True, found)
    kinds = [key for key in ("corpus", "queries") if a.about[key]["texts"] != b.about[key]["texts"]]
    cause = "; ".join(settings[:SHOWN]) or _example(a, b)
    return Check("formatted texts", False, False, f"of {' and '.join(kinds)} differ", cause)


def _example(a: Side, b: Side) -> str:
    """The first probe whose text differs."""
    for kind in ("queries", "passages"):
        ours, theirs = (side.about["probes"][kind] for side in (a, b))
        for key in ours.keys() & theirs.keys():
            if ours[key]["text"] != theirs[key]["text"]:
                return f"texts of one format, but {key} reads {ours[key]['text'][:60]!r}, {theirs[key]['text'][:60]!r}"
    return "texts of one format that differ in content"


def _vectors(a: Side, b: Side, tolerance: Tolerance) -> Check:
    settings = [
        *store.differences(a.about["model"], b.about["model"], "model."),
        *store.differences(a.about["texts"], b.about["texts"], "prompts."),
        *store.differences(a.about["made"], b.about["made"], ""),
    ]
    cause = "; ".join(settings[:SHOWN])
    pairs = [
        (ours[key]["vector"], theirs[key]["vector"])
        for ours, theirs in ((a.about["probes"][kind], b.about["probes"][kind]) for kind in ("queries", "passages"))
        for key in ours.keys() & theirs.keys()
    ]
    if not pairs:
        return Check("vectors", False, None, "no probe in common", cause)
    if len({len(vector) for pair in pairs for vector in pair}) > 1:
        dims = " and ".join(str(len(vector)) for vector in pairs[0])
        return Check("vectors", False, False, f"of {dims} dimensions", cause)
    ours, theirs = (np.array(side, dtype=np.float64) for side in zip(*pairs, strict=True))
    similarity = cosines(ours, theirs)
    least, mean = float(similarity.min()), float(similarity.mean())
    within = least >= tolerance.min_cosine and mean >= tolerance.mean_cosine
    found = f"cosine of {len(pairs)} probes: min {least:.6f}, mean {mean:.6f}"
    return Check("vectors", bool((ours == theirs).all()), within, found, cause or "no setting that is known")


def _overlap(a: Run, b: Run) -> float:
    rows = {query: row for row, query in enumerate(b.queries)}
    depth = min(DEPTH, a.scores.shape[1], b.scores.shape[1])
    shared = [
        len(set(a.passages[row, :depth]) & set(b.passages[rows[query], :depth])) / depth
        for row, query in enumerate(a.queries)
    ]
    return float(np.mean(shared))


def table(a: Side, b: Side, checks: list[Check]) -> str:
    """What `make parity` prints."""
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
    """`model_output/x@fp32` -> the name and the precision to compute in.

    >>> parse("minilm@bf16"), parse("minilm")
    (('minilm', 'bf16'), ('minilm', None))
    """
    name, mark, precision = text.rpartition("@")
    if mark and not name:
        raise UserError(f"{text}: is not NAME or NAME@PRECISION")
    return (name, precision) if mark else (text, None)
