"""Stock baseline: mining and training by sentence-transformers itself, to compare rounds with."""

import tempfile
import time
from pathlib import Path

from datasets import Dataset
from sentence_transformers import SentenceTransformer, SentenceTransformerTrainer, SentenceTransformerTrainingArguments
from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss
from sentence_transformers.sentence_transformer.modules import Normalize, Transformer
from sentence_transformers.util import mine_hard_negatives
from transformers import set_seed

from rounds.artifacts import hashing, store
from rounds.config.recipe import Recipe, parse_range
from rounds.data import collection, lineage
from rounds.data.prompts import prefix_and_suffix
from rounds.models import backbone, checkpoint, dense_layers, pooling, positions
from rounds.models.devices import resolve_device
from rounds.models.precision import DTYPES
from rounds.models.weights import locate_model, model_folder

TITLE = "sentence-transformers stock"

NEGATIVES = 7  # per query

SCALE = 50.0  # factor of the similarities in the loss

BATCH = 16

LEARNING_RATE = 5e-5


def train(
    recipe: Recipe,
    folder: Path,
    output: Path,
    epochs: int,
    seed: int,
    device: str,
    overwrite: bool,
    made_from: dict | None = None,
) -> str:
    """Mine and train on a collection's training rows, and return the line to print.

    Query text, range of ranks and model are the recipe's; everything else is the library's default, or the setting that
    its documentation uses.

    Args:
        folder: the collection.
        output: checkpoint folder to write.
        overwrite: replace an output folder that was trained in another way.
        made_from: what the pipeline makes the folder from, which then decides whether it is kept; None without one.

    Raises:
        UserError: a recipe with images, or an output folder of another configuration.
    """
    recipe.require_text_only("baseline")
    rows = store.read_jsonl(folder / collection.FINETUNE, ("query", "pos"))
    config = {
        "recipe": recipe.to_dict(),
        "epochs": epochs,
        "seed": seed,
        "train_data": hashing.sha256_file(folder / collection.FINETUNE),
    }
    if store.is_finished(output, config, overwrite, made_from):
        return f"{output}: up to date"
    device = resolve_device(device)
    set_seed(seed)  # mine_hard_negatives samples from the global generator
    start = time.perf_counter()
    embedder = load_stock_model(recipe, "fp32", device)
    embedder.max_seq_length = recipe.prompts.query_max_length
    mined = mine(embedder, recipe, folder, rows)
    mining_seconds = time.perf_counter() - start
    with tempfile.TemporaryDirectory() as scratch:
        fit(embedder, mined, Path(scratch), epochs, seed, device)
    train_seconds = time.perf_counter() - start - mining_seconds
    with store.drafting(output) as draft:
        draft.manifest = checkpoint.save(
            embedder,
            draft.folder,
            recipe,
            "fp32",
            title=TITLE,
            config=config,
            epoch=epochs,
            seed=seed,
            lineage=lineage.union(*({row["question_id"]: row["question_digest"]} for row in rows)),
            mining_seconds=round(mining_seconds, 1),
            train_seconds=round(train_seconds, 1),
            made_from=made_from,
        )
    return f"{output}: {mining_seconds:.0f} s of mining, {train_seconds:.0f} s of training"


def load_stock_model(recipe: Recipe, precision: str, device: str) -> SentenceTransformer:
    """Load the recipe's base model as the library does, its weights in `precision` (`fp32`, `bf16` or `fp16`)."""
    recipe.require_dense("baseline")
    model = recipe.model
    revision = {"revision": model.revision}
    transformer = Transformer(
        locate_model(model),
        model_kwargs={"dtype": DTYPES[precision], **revision},
        processor_kwargs={"padding_side": model.padding_side, **revision},
        config_kwargs={**backbone.dropout_config(model.dropout), **revision},
    )
    positions.check_limits(transformer.model, recipe)
    folder = model_folder(locate_model(model), model.revision)
    layers = dense_layers.load(folder, model.name_or_path, model.trust_remote_code)
    modules = [transformer, *pooling.build_modules(transformer, model)]
    modules += [layer.to(DTYPES[precision]) for layer in layers]
    modules += [Normalize()] if model.normalize else []
    return SentenceTransformer(modules=modules, device=device).eval()


def mine(
    embedder: SentenceTransformer, recipe: Recipe, folder: Path, rows: list[dict], number: int = NEGATIVES
) -> Dataset:
    """Mine `number` hard negatives per query with `mine_hard_negatives`.

    Neither its further positives nor the passages that its row excludes (the query itself, those with an alias) are
    negatives of a query: the library is told of them as positives, and these rows are left out of what it returns.

    Args:
        folder: the collection, whose pool is the corpus.
        rows: its training rows.

    Returns:
        Rows of `anchor`, `positive` and `negative_1` to `negative_N`.
    """
    prefix, suffix = prefix_and_suffix(recipe.prompts, "query")
    anchors = [prefix + row["query"] + suffix for row in rows]
    pairs = [(anchor, row["pos"][0]) for anchor, row in zip(anchors, rows, strict=True)]
    never_negative = [
        (anchor, text)
        for anchor, row in zip(anchors, rows, strict=True)
        for text in (*row["pos"][1:], *row.get("excluded", ()))
    ]
    first, last = parse_range(recipe.mining.range_for_sampling)
    mined = mine_hard_negatives(
        Dataset.from_dict(dict(zip(("anchor", "positive"), zip(*pairs, *never_negative, strict=True), strict=True))),
        embedder,
        corpus=list(collection.read_pool(folder / collection.POOL).values()),
        range_min=first,
        range_max=last,
        num_negatives=number,
        sampling_strategy="random",
        output_format="n-tuple",
        verbose=False,
    )
    if not never_negative:
        return mined
    kept = set(pairs)
    return mined.filter(lambda row: (row["anchor"], row["positive"]) in kept)


def fit(
    embedder: SentenceTransformer, data: Dataset, folder: Path, epochs: int, seed: int, device: str, bf16: bool = False
) -> None:
    """Train a model in place with MultipleNegativesRankingLoss.

    Args:
        data: rows as `mine` returns them.
        folder: scratch folder of the Trainer.
    """
    arguments = SentenceTransformerTrainingArguments(
        output_dir=str(folder),
        num_train_epochs=epochs,
        per_device_train_batch_size=BATCH,
        learning_rate=LEARNING_RATE,
        warmup_steps=int(0.1 * epochs * len(data) / BATCH),
        save_strategy="no",
        seed=seed,
        report_to="none",
        use_cpu=device == "cpu",
        bf16=bf16,
    )
    loss = MultipleNegativesRankingLoss(embedder, scale=SCALE)
    SentenceTransformerTrainer(model=embedder.train(), args=arguments, train_dataset=data, loss=loss).train()
    embedder.eval()
