"""Positions: limits that a model has no positions for are refused when it is loaded."""

import dataclasses

import pytest
import torch
from helpers import tiny_architectures
from helpers.tiny_task import refused
from helpers.tuned_models import tuned_recipe
from transformers import AutoTokenizer, RobertaForSequenceClassification

from rounds.encoding.encoder import encode_ids
from rounds.models import backbone, cross_encoder, positions, random_models
from rounds.training import stock_baseline

POSITIONS = tiny_architectures.POSITIONS

LEARNED = ("albert", "bert", "bigbird_pegasus", "distilbert", "gpt2", "gpt_neo", "openai-gpt", "opt", "rembert", "xlm")


def with_limits(recipe, query: int, passage: int):
    """Return a recipe with other length limits."""
    return recipe.replace("prompts", query_max_length=query, passage_max_length=passage)


@pytest.mark.parametrize(
    ("name", "bound"),
    [(name, POSITIONS) for name in (*LEARNED, "codegen", "ctrl", "gptj", "mpt", "roformer", "yoso")]
    + [(name, POSITIONS - 2) for name in ("esm", "longformer", "mpnet", "roberta", "xlm-roberta", "xmod")],
)
def test_the_bound_is_the_longest_text_that_the_model_takes(name, bound):
    """As many tokens as the bound are embedded, one more fails; RoBERTa counts from 2."""
    model = tiny_architectures.build(name)
    assert positions.max_tokens(model) == bound
    tiny_architectures.embed_alone(model, [5] * bound)
    with pytest.raises((IndexError, RuntimeError)):
        tiny_architectures.embed_alone(model, [5] * (bound + 1))


@pytest.mark.parametrize("name", ["bloom", "falcon", "llama", "mistral", "modernbert", "qwen3", "t5", "xlnet"])
def test_rotary_relative_and_alibi_positions_have_no_bound(name):
    """`max_position_embeddings` is no bound where positions are computed."""
    model = tiny_architectures.build(name)
    assert positions.max_tokens(model) is None
    tiny_architectures.embed_alone(model, [5] * (POSITIONS + 9))


@pytest.mark.parametrize(("name", "bound"), [("bert", POSITIONS), ("roberta", POSITIONS - 2)])
def test_limits_beyond_the_models_positions_are_refused_at_load(name, bound, tmp_path):
    """The refusal names the key, its value and the bound; at the bound the model loads."""
    recipe = tiny_architectures.save(tiny_architectures.build(name), tmp_path)
    backbone.load(with_limits(recipe, bound, bound), "fp32", "cpu")
    for kind, limits in (("query", (600, bound)), ("passage", (bound, 600))):
        with refused(f"prompts.{kind}_max_length 600", tmp_path, f"positions for {bound} tokens"):
            backbone.load(with_limits(recipe, *limits), "fp32", "cpu")


def test_examples_and_virtual_tokens_need_positions_too(tmp_path):
    """What stands before a text counts."""
    recipe = tiny_architectures.save(tiny_architectures.build("bert"), tmp_path)
    recipe = with_limits(recipe, POSITIONS - 10, POSITIONS - 10)
    backbone.load(recipe, "fp32", "cpu")
    with refused("prompts.query_max_length 86 (beside 20 of examples)", f"{POSITIONS} tokens", "at most 76"):
        backbone.load(
            recipe.replace("prompts", examples="nearest", examples_number=2, examples_max_length=20), "fp32", "cpu"
        )
    virtual = dataclasses.replace(tuned_recipe("prompt").tuning.virtual, tokens=11)
    with refused("prompts.query_max_length 86 (beside 11 virtual tokens)", "at most 85"):
        backbone.load(recipe.replace("tuning", method="prompt", virtual=virtual), "fp32", "cpu")


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("name", ["bert", "roberta"])
def test_a_text_as_long_as_the_limit_is_embedded(name, attention, tmp_path):
    """Neither padding to a round length nor the filler of a packed row needs positions that the model lacks."""
    model = tiny_architectures.build(name, max_position_embeddings=42)
    recipe = tiny_architectures.save(model, tmp_path).replace("model", attention=attention)
    texts = [[5 + place for place in range(length)] for length in [40, 33, *[40] * 13]]
    vectors = encode_ids(backbone.load(recipe, "fp32", "cpu"), texts, "fp32")
    expected = torch.stack([tiny_architectures.embed_alone(model, row) for row in texts])
    assert torch.nn.functional.cosine_similarity(torch.tensor(vectors), expected).min() > 1 - 1e-6


def test_a_rerankers_limit_beyond_its_positions_is_refused(tmp_path):
    """`reranking.max_length` is checked as the embedder's limits are."""
    recipe = tiny_architectures.save(tiny_architectures.build("roberta"), tmp_path)
    with refused("reranking.max_length 192", tmp_path, "at most 94"):
        cross_encoder.load(str(tmp_path), recipe, "cpu")
    cross_encoder.load(str(tmp_path), recipe.replace("reranking", max_length=94), "cpu")


def test_a_limit_beyond_what_rotary_positions_were_trained_for_is_said(tmp_path, capsys):
    """Such texts are embedded, but the model has never seen them; one line says so."""
    recipe = tiny_architectures.save(tiny_architectures.build("llama"), tmp_path)
    backbone.load(with_limits(recipe, POSITIONS, POSITIONS), "fp32", "cpu")
    assert not capsys.readouterr().out
    backbone.load(with_limits(recipe, POSITIONS + 1, POSITIONS), "fp32", "cpu")
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith(f"prompts.query_max_length {POSITIONS + 1}: {tmp_path} was trained for {POSITIONS} tokens")


def test_a_reranker_without_a_recipe_cuts_pairs_where_its_positions_end(tmp_path):
    """RoBERTa has two positions fewer than rows in its table, and its tokenizer may name no limit at all."""
    tokenizer = AutoTokenizer.from_pretrained(random_models.random_model_folder("bert"), model_max_length=10**30)
    model = RobertaForSequenceClassification(tiny_architectures.tiny_config("roberta", num_labels=1))
    tiny_architectures.save(model, tmp_path, tokenizer)
    scorer = cross_encoder.load(str(tmp_path), None, "cpu")
    assert scorer[0].max_seq_length == POSITIONS - 2
    scorer.predict([("1 + 1 = 11 " * 90, "joins digits " * 90)])


@pytest.mark.parametrize("name", ["bert", "roberta"])
def test_the_stock_baseline_refuses_such_limits_too(name, tmp_path):
    """It reads the same recipe."""
    recipe = tiny_architectures.save(tiny_architectures.build(name), tmp_path)
    with refused("prompts.query_max_length 600", tmp_path):
        stock_baseline.load_stock_model(with_limits(recipe, 600, 40), "fp32", "cpu")
