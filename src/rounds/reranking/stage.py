"""Second stages: list the candidates of a collection's queries, and rerank them with a cross-encoder."""

import os
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from rounds.artifacts import hashing, store
from rounds.artifacts.second_stage_manifests import CandidatesManifest, RerankerManifest
from rounds.config.recipe import Recipe
from rounds.data import collection, lineage, siblings
from rounds.data.collection import Collection
from rounds.data.dataset import RetrievalDataset
from rounds.data.few_shot import QueryMetadata
from rounds.encoding import pair_scores
from rounds.errors import Refused, UserError
from rounds.models import cross_encoder
from rounds.models.checkpoint import Checkpoint
from rounds.models.devices import peak_memory
from rounds.models.weights import locate_model
from rounds.reranking import cross_encoder_training, folds
from rounds.reranking.candidate_vectors import FusedCheckpoint, compares_tokens, compute_candidates
from rounds.reranking.candidates import FILE, Candidates, read_candidates, write_candidates
from rounds.reranking.cross_encoder_training import RerankingGroup
from rounds.reranking.features import QUERY_PARTS

MODEL = "model"

UNREAD_BY_ROUNDS = ("reranking", "ensemble", "distillation")  # sections of a recipe that no round reads


@dataclass(frozen=True)
class CandidateFolder:
    """A folder of candidates, read.

    Attributes:
        folder: The folder.
        data: The collection of the candidates' queries.
        table: The candidates.
        models: Names of the fused models; the ranking of the last is the one to improve.
    """

    folder: Path
    data: Collection
    table: Candidates
    models: list[str]

    @property
    def similarity(self) -> np.ndarray:
        """(pairs,) float32, similarity by the last model."""
        return self.table.features[f"{self.models[-1]}: score"]

    def within_rank(self, depth: int) -> np.ndarray:
        """Mark each query's `depth` best passages by the last model, (pairs,) bool."""
        return self.table.features[f"{self.models[-1]}: rank"] < np.log1p(depth - 0.5)


@dataclass(frozen=True)
class RerankingInputs:
    """What a reranker learns from, and what it scores.

    Attributes:
        recipe: The reranker's recipe.
        folds: Folders of candidates with known labels. Their fused models were not trained on the labels of the fold's
            queries, so the reranker learns from rankings like those that it will improve.
        table: Folder of the candidates to score.
        refined: The checkpoint that ranked `table`, for recipes that start from it.
    """

    recipe: Recipe
    folds: list[Path]
    table: Path
    refined: Checkpoint | None = None


def make_candidates(
    checkpoints: list[Checkpoint],
    data: Collection,
    output: Path,
    model_output: Path,
    overwrite: bool,
    made_from: dict | None = None,
    raw: RetrievalDataset | None = None,
) -> str:
    """Write the candidates of the validation queries, or of the test queries where there are none.

    Args:
        checkpoints: The checkpoints to fuse; the ranking of the last is the one to improve.
        data: The split's collection.
        output: Folder of the candidates.
        model_output: Folder that keeps the vectors of base models.
        overwrite: Replace candidates of another configuration.
        made_from: What the pipeline makes the folder from, which then decides whether it is kept; None without one.
        raw: The data that the split was drawn from, whose other wrong answers of the validation questions are siblings
            as well, as in the test set; None leaves the labelled ones alone.

    Returns:
        The line to print.

    Raises:
        UserError: There are no queries, two fused models have one name, or the split is not of `raw`.
        Refused: A checkpoint was trained on a validation question.
    """
    queries = _queries_to_rank(checkpoints, data)
    fused = fused_checkpoints(checkpoints, query_parts(queries.values()))
    unranked = _unranked(raw, data, queries, checkpoints[-1])
    config = _candidates_config(checkpoints, data, queries, unranked)
    if store.is_finished(output, config, overwrite, made_from):
        return f"{output}: up to date"
    _require_clean(checkpoints, data)
    with store.drafting(output) as draft:
        training_rows = collection.read_rows(data.folder / collection.FINETUNE, ("pos",))
        table = compute_candidates(fused, data, queries, training_rows, model_output, unranked or ())
        write_candidates(table, draft.folder / FILE)
        draft.manifest = CandidatesManifest(
            config=config,
            data=data.data,
            split=data.split,
            members=[model.name for model in fused],
            collection=os.path.relpath(data.folder, output),
            **_rounds_of_seeds(fused[-1], output),
            peak_mib=round(peak_memory(checkpoints[-1].device), 1),
            made_from=made_from,
        )
    relevant = f", {table.relevant.sum()} of them relevant" if data.validation else ""
    return f"{output}: {len(table.query_rows)} candidates of {len(queries)} queries{relevant}{_warning(data, raw)}"


def _queries_to_rank(checkpoints: list[Checkpoint], data: Collection) -> dict[str, QueryMetadata]:
    """Return the queries of candidates, and refuse a collection without any and recipes that give none."""
    queries = {query: data.metadata[query] for query in data.validation or data.test}
    if not queries:
        raise UserError(f"{data.folder}: neither validation nor test queries, so there is nothing to rank")
    for checkpoint in checkpoints:
        checkpoint.recipe.require_text_only("candidates")
        checkpoint.recipe.require_cosines("candidates")
    return queries


def _candidates_config(
    checkpoints: list[Checkpoint],
    data: Collection,
    queries: dict[str, QueryMetadata],
    unranked: list[QueryMetadata] | None,
) -> dict:
    """Return everything that shapes a folder of candidates, for its manifest."""
    return {
        "members": [checkpoint.key for checkpoint in checkpoints],
        "parts": list(query_parts(queries.values())),
        "tokens": [compares_tokens(checkpoint) for checkpoint in checkpoints],
        "queries": folds.queries_digest(queries),
        "relevant": data.validation_digest,
        "training": hashing.sha256_file(data.folder / collection.FINETUNE),
        **({} if unranked is None else {folds.SIBLINGS: hashing.sha256_json([each.text for each in unranked])}),
    }


def _warning(data: Collection, raw: RetrievalDataset | None) -> str:
    """Return the end of the line about candidates whose siblings are fewer than those of test queries; else nothing."""
    has_siblings = any(data.metadata[query].construct for query in data.validation)
    return "; siblings with a label alone, as there is no --raw_dir" if has_siblings and raw is None else ""


def _unranked(
    raw: RetrievalDataset | None, data: Collection, queries: Iterable[str], last: Checkpoint
) -> list[QueryMetadata] | None:
    """Return the wrong answers of validation questions that are no queries; None without raw data."""
    if raw is None:
        return None
    return siblings.unranked(raw, data.questions["validation"], set(queries), last.recipe.prompts, data.folder)


def _rounds_of_seeds(last: FusedCheckpoint, output: Path) -> dict[str, list[str]]:
    """Return what the manifest says of the last round's folders where there are several training seeds."""
    folders = [os.path.relpath(seed.folder.parents[1], output) for seed in last.checkpoints if seed.folder]
    return {"rounds": folders} if len(folders) > 1 else {}


def query_parts(queries: Iterable[QueryMetadata]) -> tuple[str, ...]:
    """Return the parts of a query that a base model ranks by; the last one is the whole query."""
    return (*QUERY_PARTS, "") if any(query.construct for query in queries) else ("",)


def fused_checkpoints(checkpoints: list[Checkpoint], parts: tuple[str, ...]) -> list[FusedCheckpoint]:
    """Return each checkpoint with the part of the query that it ranks by; a base model ranks by every part.

    Checkpoints of one round that differ in the seed of training alone are one model.

    Raises:
        UserError: two others have one name.
    """
    fused: dict[str, FusedCheckpoint] = {}
    for checkpoint in checkpoints:
        for part in parts if checkpoint.is_base else ("",):
            model = FusedCheckpoint(checkpoint, part)
            present = fused.get(model.name)
            if present is not None and not _is_another_seed(checkpoint, present.checkpoints):
                raise UserError(
                    f"{checkpoint.name}: a second model named {model.name}, which is no other seed of the first; give "
                    "each recipe a name of its own"
                )
            fused[model.name] = (
                model if present is None else replace(present, other_seeds=(*present.other_seeds, checkpoint))
            )
    counts = {len(model.checkpoints) for model in fused.values() if not model.checkpoint.is_base}
    if len(counts) > 1:
        raise UserError(
            f"models {', '.join(fused)}: some have more training seeds than others; name each seed's rounds"
        )
    return list(fused.values())


def _is_another_seed(checkpoint: Checkpoint, others: tuple[Checkpoint, ...]) -> bool:
    """Return whether a checkpoint is of a round like the others', trained with another seed."""
    if any(each.manifest is None or each.manifest.seed is None for each in (checkpoint, *others)):
        return False
    seeds = [each.manifest.seed for each in others]
    is_trained_alike = _read_by_rounds(checkpoint.recipe) == _read_by_rounds(others[0].recipe)
    return is_trained_alike and checkpoint.manifest.seed not in seeds


def _read_by_rounds(recipe: Recipe) -> dict:
    """Return a recipe without `UNREAD_BY_ROUNDS`, which may change after some seeds' rounds were trained."""
    return {name: value for name, value in vars(recipe).items() if name not in UNREAD_BY_ROUNDS}


def _require_clean(checkpoints: list[Checkpoint], data: Collection) -> None:
    """Refuse checkpoints that were trained on validation questions, or whose training is unknown."""
    for checkpoint in checkpoints:
        status = lineage.guard(checkpoint.name, checkpoint.lineage, data.questions["validation"], None)
        if data.validation and status != lineage.CLEAN:
            raise Refused(
                f"{checkpoint.name}: {status}; a second stage must not learn from rankings of training questions"
            )


def rerank(
    inputs: RerankingInputs, output: Path, seed: int, device: str, overwrite: bool, made_from: dict | None = None
) -> str:
    """Train a reranker on the folds' candidates and score those of the table.

    With `training.epochs: 0` the recipe's model scores as it is.

    Args:
        inputs: The recipe, the folds to learn from and the candidates to score.
        output: Folder of the reranker and its scores.
        seed: Seed of the training.
        device: Where to train and score.
        overwrite: Replace a reranker of another configuration.
        made_from: What the pipeline makes the folder from, which then decides whether it is kept; None without one.

    Returns:
        The line to print.

    Raises:
        UserError: A fold is named twice or has no labels, or the recipe starts from a checkpoint that did not rank the
            table.
        Refused: A fold shares questions with the table.
    """
    recipe = inputs.recipe
    folds.require_distinct(inputs.folds)
    learned, scored = [read_candidate_folder(folder) for folder in inputs.folds], read_candidate_folder(inputs.table)
    start = _initial_weights(inputs)
    _require_disjoint(learned, scored)
    config = {
        "recipe": recipe.to_dict(),
        "start": None if start is None else inputs.refined.weights_digest,
        "folds": [hashing.sha256_file(folder / FILE) for folder in inputs.folds],
        "table": hashing.sha256_file(inputs.table / FILE),
        "seed": seed,
    }
    if store.is_finished(output, config, overwrite, made_from):
        return f"{output}: up to date"
    labelled_passages = {passage for fold in learned for ids in fold.data.qrels.values() for passage in ids}
    with store.drafting(output) as draft:
        if recipe.training.epochs:
            groups = [group for fold in learned for group in reranking_groups(fold, recipe, labelled_passages)]
            model = str(draft.folder / MODEL)
            training = cross_encoder_training.train(recipe, groups, Path(model), seed, device, start)
            figures, done = (
                {"model": MODEL, **vars(training)},
                f"trained on {training.groups} queries of {len(learned)} folds",
            )
        else:
            model, figures, done = _untrained(recipe, start), {}, "not trained"
        np.save(draft.folder / folds.SCORES, _score_candidates(scored, model, recipe, device))
        peak_mib = round(peak_memory(device), 1)
        draft.manifest = RerankerManifest(config=config, **figures, peak_mib=peak_mib, made_from=made_from)
    count = np.count_nonzero(scored.within_rank(recipe.reranking.depth))
    return f"{output}: {done}, scored {count} pairs"


def _untrained(recipe: Recipe, start: Path | None) -> str:
    """Return the folder or hub name of a model that scores as it is.

    Raises:
        UserError: The recipe is not one of a reranker, or its model has no head to score with.
    """
    cross_encoder_training.check_recipe(recipe)
    name_or_path = str(start) if start else locate_model(recipe.model)
    cross_encoder.require_scores(name_or_path, recipe)
    return name_or_path


def _require_disjoint(learned: list[CandidateFolder], scored: CandidateFolder) -> None:
    """Refuse folds without labels, and folds with questions of the table to score."""
    for fold in learned:
        if not fold.data.validation:
            raise UserError(f"{fold.folder}: its queries have no labels to learn from")
        if shared := lineage.overlap(fold.data.questions["validation"], scored.data.questions["validation"]):
            raise Refused(
                f"{fold.folder}: has {len(shared)} of the questions that are to be scored; leave that fold out"
            )


def _initial_weights(inputs: RerankingInputs) -> Path | None:
    """Return the folder of the weights that a reranker continues from; None for its recipe's own."""
    recipe, refined = inputs.recipe, inputs.refined
    if recipe.reranking.start_from == "base":
        return None
    if refined is None:
        raise UserError(f"recipe {recipe.name}: reranking.start_from refined needs the checkpoint: --refined")
    if refined.is_adapter or refined.is_base:
        raise UserError(f"{refined.name}: reranking.start_from refined needs a fully tuned or merged model")
    if refined.key != folds.read_candidates_manifest(inputs.table).config["members"][-1]:
        raise UserError(f"{refined.name}: is not the checkpoint that {inputs.table} refines; name that one")
    return refined.folder


def read_candidate_folder(folder: Path) -> CandidateFolder:
    """Read a folder of candidates with the collection of its queries.

    Raises:
        UserError: The folder holds no candidates, or its collection is missing.
    """
    manifest = folds.read_candidates_manifest(folder)
    data = folds.read_collection(folder, manifest)
    return CandidateFolder(folder, data, read_candidates(folder / FILE), manifest.members)


def reranking_groups(fold: CandidateFolder, recipe: Recipe, labelled_passages: set[str]) -> list[RerankingGroup]:
    """Group each query of a fold with its relevant candidates and the best of the others.

    Args:
        fold: Candidates with known labels.
        recipe: The reranker's recipe.
        labelled_passages: Passages that some query to learn from is labelled with. With `mining.candidates: labelled`
            no other is a negative: a reranker would learn that a passage which is never right in training is wrong,
            which fails on new labels.
    """
    table, similarity = fold.table, fold.similarity
    allowed = np.ones(len(table.passage_ids), dtype=bool)
    if recipe.mining.candidates == "labelled":
        allowed = np.isin(table.passage_ids, list(labelled_passages))
    groups = [RerankingGroup(fold.data.validation[query], {}, {}) for query in table.queries]
    for pair in np.lexsort((-similarity, table.query_rows)):
        group, text = groups[table.query_rows[pair]], fold.data.passages[table.passage_ids[pair]]
        if table.relevant[pair]:
            group.positives[text] = float(similarity[pair])
        elif allowed[pair] and len(group.negatives) < recipe.reranking.depth:
            group.negatives[text] = float(similarity[pair])
    return groups


def _score_candidates(scored: CandidateFolder, model: str, recipe: Recipe, device: str) -> np.ndarray:
    """Score each query's best candidates, (pairs,) float32, NaN beyond the recipe's depth."""
    table, texts = scored.table, scored.data.validation or scored.data.test
    selected = scored.within_rank(recipe.reranking.depth)
    pairs = [
        (texts[table.queries[row]], scored.data.passages[passage])
        for row, passage in zip(table.query_rows[selected], table.passage_ids[selected], strict=True)
    ]
    scores = np.full(len(selected), np.nan, dtype=np.float32)
    scores[selected] = pair_scores.score(model, pairs, device, recipe)
    scores[selected] += recipe.reranking.residual * scored.similarity[selected]
    return scores
