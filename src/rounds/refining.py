"""Refining: the stages behind the rounds, from a checkpoint's ranking to a better one of the same passages."""

import os
from pathlib import Path

import numpy as np

from rounds import (
    artefact,
    bm25,
    candidates,
    collection,
    crossval,
    encoding,
    examples,
    fusion,
    lineage,
    maxsim,
    reranker,
    runs,
    stages,
    submission,
)  # fmt: skip
from rounds.candidates import Candidates, Labelled, Member
from rounds.collection import Collection
from rounds.errors import Refused, UserError
from rounds.examples import Asked
from rounds.model import backbone
from rounds.model.checkpoint import Checkpoint
from rounds.recipe import Recipe
from rounds.reranker import Group

MODEL = "model"


def write_candidates(
    sources: list[Checkpoint], data: Collection, output: Path, model_output: Path, overwrite: bool
) -> str:
    """Candidates of the validation queries, or of the test queries where there are none; returns the line to print.

    Args:
        sources: the members, the one whose ranking is refined last; a member that was trained on a validation
            question is refused.
    """
    asked = {query: data.asked[query] for query in data.validation or data.test}
    if not asked:
        raise UserError(f"{data.folder}: neither validation nor test queries, so there is nothing to rank")
    for source in sources:
        source.recipe.check_words_only("candidates")
    parts = (*candidates.PARTS, "") if any(each.construct for each in asked.values()) else ("",)
    views = [(source, part) for source in sources for part in (parts if source.is_base else ("",))]
    names = [member_name(source, part) for source, part in views]
    if len(set(names)) < len(names):
        raise UserError(f"members {', '.join(names)}: two have one name; give each recipe a name of its own")
    rows = data.folder / collection.FINETUNE
    config = {
        "members": [source.key for source in sources],
        "parts": list(parts),
        "tokens": [_reads_tokens(source) for source in sources],
        "queries": artefact.sha256_json([[query, each.text] for query, each in asked.items()]),
        "relevant": stages.validation_digest(data),
        "training": artefact.sha256_file(rows),
    }
    if artefact.is_finished(output, config, overwrite):
        return f"{output}: up to date"
    for source in sources:
        status = lineage.guard(source.name, source.trained, data.questions["validation"], False)
        if data.validation and status != lineage.CLEAN:
            raise Refused(f"{source.name}: {status}; what learns from its ranking could learn from answers it has seen")
    manifest = {
        "kind": "candidates", "config": config, "data": data.data, "split": data.split, "members": names,
        "collection": os.path.relpath(data.folder, output),
    }  # fmt: skip
    with artefact.writing(output, manifest) as temporary:
        found = _candidates(views, data, asked, collection.read_rows(rows, ("pos",)), model_output)
        candidates.write(found, temporary / candidates.FILE)
        manifest["peak_mib"] = round(backbone.peak_memory(sources[-1].device), 1)
    reached = f", {found.relevant.sum()} of them relevant" if data.validation else ""
    return f"{output}: {len(found.query)} candidates of {len(asked)} queries{reached}"


def member_name(source: Checkpoint, part: str = "") -> str:
    """`minilm round 2`, `minilm round 0 topic`: what a checkpoint's features are called on every split."""
    return f"{source.recipe.name} round {(source.manifest or {}).get('round', 0)} {part}".strip()


def _candidates(
    sources: list[tuple[Checkpoint, str]], data: Collection, asked: dict[str, Asked], rows: list[dict],
    model_output: Path,
) -> Candidates:  # fmt: skip
    place = {passage: number for number, passage in enumerate(data.passages)}
    owners = [number for number, row in enumerate(rows) for _ in row["pos_id"]]
    labels = np.array([place[passage] for row in rows for passage in row["pos_id"]], dtype=np.int64)
    training = [collection.asked(row) for row in rows]
    title = "validation" if data.validation else "test"
    members = []
    for source, part in sources:
        encoder = runs.encoder(source, model_output)
        corpus, _ = encoder.vectors(list(data.passages.values()), "passage", "corpus")
        bank = collection.bank(rows, source.recipe.prompts)
        sides = []
        for side, queries in ((title, list(asked.values())), ("train", training)):
            before = bank and examples.before(bank, queries)
            texts = [candidates.part_of(each, part) for each in queries]
            sides.append(np.asarray(encoder.vectors(texts, "query", f"{side}-{part}".strip("-"), before)[0]))
        members.append(Member(member_name(source, part), sides[0], sides[1][owners], np.asarray(corpus)))
    lexical = bm25.score([each.text for each in asked.values()], list(data.passages.values()))
    labelled = Labelled([training[number] for number in owners], labels)
    found = candidates.build(asked, list(data.passages), labelled, members, lexical, data.qrels)
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
        encoding.token_states(embedder, texts, source.recipe.prompts, kind, source.precision, f"{kind} tokens")
        for texts, kind in ((queries, "query"), ([passages[number] for number in needed], "passage"))
    ]
    return maxsim.score(*sides, (rows, column))


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
        "start": None if start is None else refined.weights,
        "folds": [artefact.sha256_file(folder / candidates.FILE) for folder in folds],
        "table": artefact.sha256_file(table / candidates.FILE),
        "seed": seed,
    }
    if artefact.is_finished(output, config, overwrite):
        return f"{output}: up to date"
    known = {passage for _, other, *_ in learned for passages in other.qrels.values() for passage in passages}
    groups = [group for _, *fold in learned for group in _groups(*fold, recipe, known)]
    manifest = {"kind": "reranker", "config": config, "model": MODEL}
    with artefact.writing(output, manifest) as temporary:
        manifest.update(reranker.train(recipe, groups, temporary / MODEL, seed, device, start))
        near = _is_near(found, members, recipe.reranking.depth)
        texts = data.validation or data.test
        pairs = [
            (texts[found.queries[row]], data.passages[passage])
            for row, passage in zip(found.query[near], found.passage[near], strict=True)
        ]
        scores = np.full(len(near), np.nan, dtype=np.float32)
        scores[near] = reranker.score(str(temporary / MODEL), pairs, device, recipe)
        scores[near] += recipe.reranking.residual * found.features[f"{members[-1]}: score"][near]
        np.save(temporary / crossval.SCORES, scores)
        manifest["peak_mib"] = round(backbone.peak_memory(device), 1)
    return f"{output}: trained on {manifest['groups']} queries of {len(folds)} folds, scored {len(pairs)} pairs"


def _start(recipe: Recipe, refined: Checkpoint | None, table: Path) -> Path | None:
    """The weights that a reranker continues from, if not its recipe's own."""
    if recipe.reranking.start_from == "base":
        return None
    if refined is None:
        raise UserError(f"recipe {recipe.name}: reranking.start_from refined needs the checkpoint: --refined")
    if refined.adapter or refined.is_base:
        raise UserError(f"{refined.name}: reranking.start_from refined needs a fully tuned or merged model")
    if refined.key != crossval.manifest_of(table)["config"]["members"][-1]:
        raise UserError(f"{refined.name}: is not the checkpoint that {table} refines; name that one")
    return refined.folder


def _read(folder: Path) -> tuple[Collection, Candidates, list[str]]:
    manifest = crossval.manifest_of(folder)
    return (
        collection.read(folder / manifest["collection"]),
        candidates.read(folder / candidates.FILE),
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


def fuse(folds: list[Path], table: Path, sample: Path, output: Path) -> str:
    """Learn on the folds' candidates, rank the test queries', and write the checked CSV; returns the line to print.

    Args:
        folds: folders of candidates whose labels are known.
        table: folder of the test queries' candidates.
        sample: the competition's sample_submission.csv.

    Raises:
        UserError: the folders' members differ, or a fold's queries are the ones to rank.
    """
    manifests = [crossval.manifest_of(folder) for folder in (*folds, table)]
    if any(each["members"] != manifests[-1]["members"] for each in manifests):
        raise UserError(f"{table}: has other members than {folds[0]}; make both with the same rounds of one recipe")
    data = collection.read(table / manifests[-1]["collection"])
    if data.validation:
        raise UserError(f"{table}: ranks the validation queries of split {data.split}; take SPLIT=submission's")
    learned, found = [crossval.table_of(folder) for folder in folds], crossval.table_of(table)
    views = crossval.views(manifests[-1]["members"])[-1][1]
    run = found.run(fusion.fit(learned, views).score(found))
    rows = submission.write(run, data.passages, sample, output)
    about = {"members": manifests[-1]["members"], "folds": [each["config"] for each in manifests[:-1]]}
    artefact.write_json(stages.file_manifest(output), {"kind": "submission", "fused": True, **about})
    return f"{output}: {rows} rows, checked"
