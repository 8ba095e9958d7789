"""Collator: every text of a training file has its place in a batch."""

import dataclasses

import torch
from helpers.tiny_task import chunks_and_labels
from tokenizers import processors

from rounds.artifacts import store
from rounds.models import checkpoint
from rounds.training.collator import Collator
from rounds.training.dataset import read_training_groups
from rounds.training.loss_module import EmbeddingLoss


def test_a_text_without_tokens_is_trained_on(tiny, tmp_path):
    """An empty negative has an embedding and the loss is finite, with a tokenizer that adds no special token."""
    model = dataclasses.replace(tiny.model, name_or_path="random:qwen2", bos=None, eos=None)
    recipe = dataclasses.replace(tiny, model=model).replace("prompts", passage_prefix="", passage_suffix="")
    embedder = checkpoint.resolve(None, recipe, "cpu", "fp32").load()
    embedder.tokenizer.backend_tokenizer.post_processor = processors.ByteLevel()
    rows = [{"query": f"query {n}", "pos": [f"positive {n}"], "neg": ["", f"negative {n}"]} for n in range(3)]
    path = tmp_path / "data.jsonl"
    store.write_jsonl(path, rows)
    batch = Collator(read_training_groups(path, 42, recipe), embedder, recipe, 42)([{"row": n} for n in range(3)])
    with torch.no_grad():
        assert torch.isfinite(EmbeddingLoss(embedder, recipe.training, "fp32")(*chunks_and_labels(batch)))
