"""Late-interaction models: saved checkpoints, published models with query expansion, and adapters."""

import dataclasses

import numpy as np
import pytest
import torch
from helpers.tiny_task import refused
from helpers.tuned_models import build_tuned_model, save_checkpoint
from sentence_transformers import MultiVectorEncoder
from sentence_transformers.base.modules import Dense, Normalize, Transformer
from sentence_transformers.multi_vector_encoder.modules import HierarchicalTokenPooling, MultiVectorMask

from rounds.artifacts import store
from rounds.config import loader
from rounds.encoding import merged_checkpoint
from rounds.encoding.encoder import encode
from rounds.models import checkpoint, multi_vector, peft_methods
from rounds.models.random_models import random_model_folder
from rounds.retrieval import search

QUERIES = ["What is 1/2 + 1/3?", "x", "2 + 2 = 5, so what is 3 + 3, and why is it not 7 but another number?"]

PASSAGES = ["Adds the denominators.", "Reads the axis, wrongly!", "Forgets the sign of a product of two numbers"]


def with_model(recipe, **values):
    return dataclasses.replace(recipe, model=dataclasses.replace(recipe.model, **values))


@pytest.fixture(scope="module")
def tokens():
    """The recipe `tiny-tokens`, tuned as a whole."""
    recipe = loader.load("tiny-tokens")
    return dataclasses.replace(recipe, tuning=dataclasses.replace(recipe.tuning, method="full"))


def our_scores(embedder, recipe):
    """Return (queries, passages) scores by our encoding and search."""
    sides = ((QUERIES, "query"), (PASSAGES, "passage"))
    queries, passages = (encode(embedder, texts, recipe.prompts, kind, "fp32") for texts, kind in sides)
    run = search.rank(list("abc"), queries, list("012"), passages, 3)
    return np.take_along_axis(run.scores, run.passages.astype(int).argsort(axis=1), axis=1)


def stock_scores(embedder):
    return embedder.similarity(embedder.encode_query(QUERIES), embedder.encode_document(PASSAGES)).numpy()


def test_a_base_model_projects_in_the_same_way_each_time(tokens):
    """The random projection is one and the same, and orthogonal, whenever the base model is loaded."""
    weights = [checkpoint.resolve(None, tokens, "cpu").load()[1].linear.weight for _ in range(2)]
    assert torch.equal(*weights)
    torch.testing.assert_close(weights[0] @ weights[0].T, torch.eye(16), atol=1e-5, rtol=0)


@pytest.mark.parametrize("values", [{}, {"token_dim": None}, {"normalize": False}], ids=str)
def test_the_library_scores_a_saved_checkpoint_alike(values, tokens, tmp_path):
    """`MultiVectorEncoder(folder)` reads prefixes and lengths from the folder and gives our scores."""
    recipe = with_model(tokens, **values).replace("prompts", query_max_length=20, passage_max_length=8)
    embedder = checkpoint.resolve(None, recipe, "cpu").load()
    with store.drafting(tmp_path / "epoch_1") as draft:
        draft.manifest = checkpoint.save(embedder, draft.folder, recipe, "fp32", lineage={})
    scores = our_scores(embedder, recipe)
    np.testing.assert_allclose(
        stock_scores(MultiVectorEncoder(str(tmp_path / "epoch_1"), device="cpu")), scores, atol=1e-5
    )
    again = checkpoint.resolve(str(tmp_path / "epoch_1"), device="cpu")
    assert our_scores(again.load(), again.recipe).tolist() == scores.tolist()


def publish(folder, strategy="fixed", attend=False, more=()):
    """Save a multi-vector model with prefixes, a skiplist and query expansion, as ColBERT has them."""
    transformer = Transformer(str(random_model_folder("bert")), document_length=12)
    transformer.query_expansion = {"strategy": strategy, "attend": attend, "length": 16, "token": "</s>"}
    projection = Dense(64, 8, bias=False, activation_function=torch.nn.Identity(), module_input_name="token_embeddings")
    mask, normalize = MultiVectorMask([".", ",", "!"]), Normalize(module_input_name="token_embeddings")
    prompts = {"query": "[Q] ", "document": "[D] "}
    embedder = MultiVectorEncoder(modules=[transformer, projection, mask, normalize, *more], prompts=prompts)
    embedder.save_pretrained(str(folder), create_model_card=False)
    return MultiVectorEncoder(str(folder), device="cpu")


def recipe_for(folder, tokens, **prompts):
    ours = {"query_prefix": "[Q] ", "passage_prefix": "[D] ", "query_max_length": 16, "passage_max_length": 12}
    return with_model(tokens, name_or_path=str(folder)).replace("prompts", **{**ours, **prompts})


@pytest.mark.parametrize("strategy", ["fixed", "min"])
@pytest.mark.parametrize("attend", [False, True])
def test_a_published_model_keeps_its_own_settings(strategy, attend, tokens, tmp_path):
    """Projection, skiplist and query expansion are the model's, and scores those of the library."""
    stock = publish(tmp_path / "colbert", strategy, attend)
    recipe = recipe_for(tmp_path / "colbert", tokens)
    if strategy == "min":
        recipe = recipe.replace("prompts", query_max_length=20)
        stock[0].query_length = 20
    embedder = checkpoint.resolve(None, recipe, "cpu", "fp32").load()
    counts = encode(embedder, ["Adds., the!"], recipe.prompts, "passage", "fp32").counts
    assert counts < len(embedder.tokenizer("[D] Adds., the!")["input_ids"])
    np.testing.assert_allclose(our_scores(embedder, recipe), stock_scores(stock), atol=1e-5)


def test_settings_other_than_a_published_models_are_refused(tokens, tmp_path):
    """A prefix, a length and a module that would silently give other vectors are named with the way out."""
    publish(tmp_path / "colbert")
    for values, parts in (
        ({"query_prefix": "query: "}, ("prompts.query_prefix", "'[Q] '")),
        ({"query_max_length": 24}, ("prompts.query_max_length: 16",)),
    ):
        with refused(tmp_path / "colbert", *parts):
            checkpoint.resolve(None, recipe_for(tmp_path / "colbert", tokens, **values), "cpu").load()
    publish(tmp_path / "pooled", more=[HierarchicalTokenPooling(2)])
    with refused(tmp_path / "pooled", "HierarchicalTokenPooling"):
        checkpoint.resolve(None, recipe_for(tmp_path / "pooled", tokens), "cpu").load()


def test_an_adapter_trains_and_keeps_the_projection(tmp_path):
    """Beside LoRA the projection is trained, saved and loaded again."""
    recipe = loader.load("tiny-tokens")
    embedder = checkpoint.resolve(None, recipe, "cpu").load()
    peft_methods.apply(embedder, recipe.tuning)
    assert any(name.startswith("1.linear") for name in peft_methods.trainable_parameters(embedder))
    with torch.no_grad():
        embedder[1].linear.weight.add_(0.1)
        for name, parameter in embedder.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.1)
    with store.drafting(tmp_path / "lora_epoch_1") as draft:
        draft.manifest = checkpoint.save(embedder, draft.folder, recipe, "fp32", lineage={})
    source = checkpoint.resolve(str(tmp_path / "lora_epoch_1"), device="cpu")
    assert source.is_adapter
    np.testing.assert_allclose(our_scores(source.load(), recipe), our_scores(embedder.eval(), recipe), atol=1e-5)


def test_a_merged_adapter_scores_alike(tmp_path):
    """As a bundle holds it with `MERGED=1`: the whole model, with the projection that was trained beside LoRA."""
    recipe = loader.load("tiny-tokens")
    embedder = build_tuned_model(recipe)
    source = checkpoint.resolve(str(save_checkpoint(embedder, recipe, tmp_path / "lora_epoch_1")), device="cpu")
    assert merged_checkpoint.merge(source, tmp_path / "merged", PASSAGES) > 0.999
    merged = checkpoint.resolve(str(tmp_path / "merged"), device="cpu")
    assert merged.kind == "merged"
    np.testing.assert_allclose(our_scores(merged.load(), recipe), our_scores(embedder, recipe), atol=1e-4)


def test_a_text_of_skipped_tokens_only_keeps_them(tokens):
    """A mask that would leave a text without a vector leaves all of them."""
    embedder = checkpoint.resolve(None, tokens, "cpu").load()
    mask = multi_vector.find_mask(embedder)
    mask._skiplist_ids = torch.tensor([3, 4])
    assert multi_vector.kept_tokens(embedder, [3, 5, 4], "passage").tolist() == [False, True, False]
    assert multi_vector.kept_tokens(embedder, [3, 4], "passage").tolist() == [True, True]
    assert multi_vector.kept_tokens(embedder, [3, 4, 5], "query").all()
