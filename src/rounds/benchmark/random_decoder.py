"""Random decoder: a Mistral of random weights in a folder, to embed texts behind examples or to score pairs."""

import dataclasses
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

from rounds.config import loader
from rounds.config.recipe import Recipe
from rounds.models.weights import locate_model

# Random Mistrals: hidden size, layers, heads, inner size.
SHAPES = {"tiny decoder": (64, 2, 4, 128), "decoder, 97M": (768, 12, 12, 2816)}


PREFIX = 540  # tokens of the examples before a query

TEMPLATE = "{query}\nMisconception: {passage}\nDoes it explain the wrong answer?"


@contextmanager
def random_decoder(shape: tuple[int, int, int, int], answers: bool = False) -> Iterator[Recipe]:
    """Yield a recipe like bge-en-icl's for a Mistral of random weights.

    Args:
        shape: Hidden size, layers, heads, inner size.
        answers: The model answers yes or no, as the recipe's reranking template asks.
    """
    import torch
    from transformers import AutoTokenizer, MistralConfig, MistralForCausalLM, MistralModel

    hidden, layers, heads, inner = shape
    tiny = loader.load("tiny-mistral")
    with tempfile.TemporaryDirectory() as folder:
        tokenizer = AutoTokenizer.from_pretrained(locate_model(tiny.model))
        if answers:
            tokenizer.add_tokens(["yes", "no"])
        tokenizer.save_pretrained(folder)
        config = MistralConfig(
            vocab_size=len(tokenizer),
            hidden_size=hidden,
            intermediate_size=inner,
            num_hidden_layers=layers,
            num_attention_heads=heads,
            num_key_value_heads=heads // 2,
            max_position_embeddings=2048,
            sliding_window=None,
        )
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            (MistralForCausalLM if answers else MistralModel)(config).save_pretrained(folder)
        recipe = dataclasses.replace(tiny, model=dataclasses.replace(tiny.model, name_or_path=folder))
        full = dataclasses.replace(recipe.tuning, method="full")
        yield (
            dataclasses.replace(recipe, tuning=full)
            .replace(
                "prompts", query_max_length=200, examples="fixed", examples_number=60, examples_max_length=2 * PREFIX
            )
            .replace("reranking", max_length=512, template=TEMPLATE if answers else "")
        )
