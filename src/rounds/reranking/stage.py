"""Refining: the stages behind the rounds, from a checkpoint's ranking to a better one of the same passages."""

import os
from pathlib import Path

import numpy as np

from rounds.artifacts import hashing, store
from rounds.config.recipe import Recipe
from rounds.data import collection, few_shot, lineage
from rounds.data.collection import Collection
from rounds.data.few_shot import QueryMetadata
from rounds.encoding import run_store
from rounds.encoding.encoder import token_states
from rounds.errors import Refused, UserError
from rounds.models import cross_encoder
from rounds.models.checkpoint import Checkpoint
from rounds.models.devices import peak_memory
from rounds.reranking import cross_encoder_training, cross_validation
from rounds.reranking.cross_encoder_training import Group
from rounds.reranking.features import (
    FILE,
    PARTS,
    Candidates,
    Labelled,
    Member,
    build_candidates,
    part_of,
    read_candidates,
    write_candidates,
)
from rounds.retrieval import bm25, late_interaction

MODEL = "model"


def make_candidates(
    sources: list[Checkpoint], data: Collection, output: Path, model_output: Path, overwrite: bool
) -> str:
    """Candidates of the validation queries, or of the test queries where there are none; returns the line to print.

    Args:
        sources: the members, the one whose ranking is refined last; a member that was trained on a validation
            question is refused.
    """
    asked = {query: data.metadata[query] for query in data.validation or data.test}
    if not asked:
        raise UserError(f"{data.folder}: neither validation nor test queries, so there is nothing to rank")
    for source in sources:
        source.recipe.require_text_only("candidates")
    parts = (*PARTS, "") if any(each.construct for each in asked.values()) else ("",)
    views = [(source, part) for source in sources for part in (parts if source.is_base else ("",))]
    names = [member_name(source, part) for source, part in views]
    if len(set(names)) < len(names):
        raise UserError(f"members {', '.join(names)}: two have one name; give each recipe a name of its own")
    rows = data.folder / collection.FINETUNE
    config = {
        "members": [source.key for source in sources],
        "parts": list(parts),
        "tokens": [_reads_tokens(source) for source in sources],
        "queries": hashing.sha256_json([[query, each.text] for query, each in asked.items()]),
        "relevant": collection.validation_digest(data),
        "training": hashing.sha256_file(rows),
    }
    if store.is_finished(output, config, overwrite):
        return f"{output}: up to date"
    for source in sources:
        status = lineage.guard(source.name, source.lineage, data.questions["validation"], False)
        if data.validation and status != lineage.CLEAN:
            raise Refused(f"{source.name}: {status}; what learns from its ranking could learn from answers it has seen")
    manifest = {
        "kind": "candidates", "config": config, "data": data.data, "split": data.split, "members": names,
        "collection": os.path.relpath(data.folder, output),
    }  # fmt: skip
    with store.writing(output, manifest) as temporary:
        found = _candidates(views, data, asked, collection.read_rows(rows, ("pos",)), model_output)
        write_candidates(found, temporary / FILE)
        manifest["peak_mib"] = round(peak_memory(sources[-1].device), 1)
    reached = f", {found.relevant.sum()} of them relevant" if data.validation else ""
    return f"{output}: {len(found.query)} candidates of {len(asked)} queries{reached}"


def member_name(source: Checkpoint, part: str = "") -> str:
    """`minilm round 2`, `minilm round 0 topic`: what a checkpoint's features are called on every split."""
    return f"{source.recipe.name} round {(source.manifest or {}).get('round', 0)} {part}".strip()


def _candidates(
    sources: list[tuple[Checkpoint, str]], data: Collection, asked: dict[str, QueryMetadata], rows: list[dict],
    model_output: Path,
) -> Candidates:  # fmt: skip
    place = {passage: number for number, passage in enumerate(data.passages)}
    owners = [number for number, row in enumerate(rows) for _ in row["pos_id"]]
    labels = np.array([place[passage] for row in rows for passage in row["pos_id"]], dtype=np.int64)
    training = [collection.query_metadata(row) for row in rows]
    title = "validation" if data.validation else "test"
    members = []
    for source, part in sources:
        encoder = run_store.open_store(source, model_output)
        corpus, _ = encoder.vectors(list(data.passages.values()), "passage", "corpus")
        bank = collection.example_bank(rows, source.recipe.prompts)
        sides = []
        for side, queries in ((title, list(asked.values())), ("train", training)):
            before = bank and few_shot.select_examples(bank, queries)
            texts = [part_of(each, part) for each in queries]
            sides.append(np.asarray(encoder.vectors(texts, "query", f"{side}-{part}".strip("-"), before)[0]))
        members.append(Member(member_name(source, part), sides[0], sides[1][owners], np.asarray(corpus)))
    lexical = bm25.score([each.text for each in asked.values()], list(data.passages.values()))
    labelled = Labelled([training[number] for number in owners], labels)
    found = build_candidates(asked, list(data.passages), labelled, members, lexical, data.qrels)
    columns = np.array([place[passage] for passage in found.passage])
    for source in (source for source, _ in sources if _reads_tokens(source)):
        values = _late(
            source, [each.text for each in asked.values()], list(data.passages.values()), found.query, columns
        )
        found = found.with_group(f"tokens {member_name(source)}", values)
    return found


def _reads_tokens(source: Checkpoint) -> bool:
    """Tuned members; where examples stand before the queries, their tokens would be compared as well."""
    return not source.is_base and source.recipe.prompts.examples == "none"


def _late(
    source: Checkpoint, queries: list[str], passages: list[str], rows: np.ndarray, columns: np.ndarray
) -> dict[str, np.ndarray]:
    """`maxsim.score` of the candidates; token states fill memory, so only their own passages have some."""
    needed, column = np.unique(columns, return_inverse=True)
    embedder = source.load()
    sides = [
        token_states(embedder, texts, source.recipe.prompts, kind, source.precision, f"{kind} tokens")
        for texts, kind in ((queries, "query"), ([passages[number] for number in needed], "passage"))
    ]
    return late_interaction.score(*sides, (rows, column))


def rerank(
    recipe: Recipe, folds: list[Path], table: Path, output: Path, seed: int, device: str, overwrite: bool,
    refined: Checkpoint | None = None,
) -> str:  # fmt: skip
    """Train a reranker on the folds' candidates and score those of `table`; returns the line to print.

    The members never saw the labels of a fold's queries, so the reranker learns from rankings like those that it will
    be given.

    Args:
        folds: folders of candidates whose labels are known.
        refined: the checkpoint that ranked `table`, for recipes that start from it.

    Raises:
        UserError: a fold has questions of the table that it is to score, or another checkpoint ranked the table.
    """
    learned = [(folder, *_read(folder)) for folder in folds]
    data, found, members = _read(table)
    start = _start(recipe, refined, table)
    for folder, other, *_ in learned:
        if not other.validation:
            raise UserError(f"{folder}: its queries have no labels to learn from")
        if shared := lineage.overlap(other.questions["validation"], data.questions["validation"]):
            raise Refused(f"{folder}: has {len(shared)} of the questions that are to be scored; leave that fold out")
    config = {
        "recipe": recipe.to_dict(),
        "start": None if start is None else refined.weights_digest,
        "folds": [hashing.sha256_file(folder / FILE) for folder in folds],
        "table": hashing.sha256_file(table / FILE),
        "seed": seed,
    }
    if store.is_finished(output, config, overwrite):
        return f"{output}: up to date"
    known = {passage for _, other, *_ in learned for passages in other.qrels.values() for passage in passages}
    groups = [group for _, *fold in learned for group in _groups(*fold, recipe, known)]
    manifest = {"kind": "reranker", "config": config, "model": MODEL}
    with store.writing(output, manifest) as temporary:
        manifest.update(cross_encoder_training.train(recipe, groups, temporary / MODEL, seed, device, start))
        near = _is_near(found, members, recipe.reranking.depth)
        texts = data.validation or data.test
        pairs = [
            (texts[found.queries[row]], data.passages[passage])
            for row, passage in zip(found.query[near], found.passage[near], strict=True)
        ]
        scores = np.full(len(near), np.nan, dtype=np.float32)
        scores[near] = cross_encoder.score(str(temporary / MODEL), pairs, device, recipe)
        scores[near] += recipe.reranking.residual * found.features[f"{members[-1]}: score"][near]
        np.save(temporary / cross_validation.SCORES, scores)
        manifest["peak_mib"] = round(peak_memory(device), 1)
    return f"{output}: trained on {manifest['groups']} queries of {len(folds)} folds, scored {len(pairs)} pairs"


def _start(recipe: Recipe, refined: Checkpoint | None, table: Path) -> Path | None:
    """The weights that a reranker continues from, if not its recipe's own."""
    if recipe.reranking.start_from == "base":
        return None
    if refined is None:
        raise UserError(f"recipe {recipe.name}: reranking.start_from refined needs the checkpoint: --refined")
    if refined.is_adapter or refined.is_base:
        raise UserError(f"{refined.name}: reranking.start_from refined needs a fully tuned or merged model")
    if refined.key != cross_validation.manifest_of(table)["config"]["members"][-1]:
        raise UserError(f"{refined.name}: is not the checkpoint that {table} refines; name that one")
    return refined.folder


def _read(folder: Path) -> tuple[Collection, Candidates, list[str]]:
    manifest = cross_validation.manifest_of(folder)
    return (
        collection.read(folder / manifest["collection"]),
        read_candidates(folder / FILE),
        manifest["members"],
    )


def _is_near(found: Candidates, members: list[str], depth: int) -> np.ndarray:
    """(pairs,) bool: the refined checkpoint's best `depth` of each query."""
    return found.features[f"{members[-1]}: rank"] < np.log1p(depth - 0.5)


def _groups(data: Collection, found: Candidates, members: list[str], recipe: Recipe, known: set[str]) -> list[Group]:
    """Each query with its relevant candidates and the best of the others.

    Args:
        known: passages that some query to learn from is labelled with. With `mining.candidates: labelled` no other is a
            negative: a reranker would learn that what it never saw right is wrong, which fails on new labels.
    """
    allowed = np.ones(len(found.passage), dtype=bool)
    if recipe.mining.candidates == "labelled":
        allowed = np.isin(found.passage, list(known))
    similar = found.features[f"{members[-1]}: score"]
    groups = [Group(data.validation[query], {}, {}) for query in found.queries]
    for pair in np.lexsort((-similar, found.query)):
        group, text = groups[found.query[pair]], data.passages[found.passage[pair]]
        if found.relevant[pair]:
            group.positives[text] = float(similar[pair])
        elif allowed[pair] and len(group.negatives) < recipe.reranking.depth:
            group.negatives[text] = float(similar[pair])
    return groups
