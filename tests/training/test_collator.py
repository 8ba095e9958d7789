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


def test_the_hardness_of_negatives_gets_each_query_s_own_group(tiny, tmp_path):
    """Rows of the positive and the drawn negatives, filled up with -1; without hardness or a teacher there are none."""
    rows = [
        {"query": "one", "pos": ["a"], "neg": ["b", "c", "d"]},
        {"query": "two", "pos": ["b"], "neg": ["a"]},
    ]
    path = tmp_path / "data.jsonl"
    store.write_jsonl(path, rows)
    groups = read_training_groups(path, 42, tiny)
    embedder = checkpoint.resolve(None, tiny, "cpu", "fp32").load()
    weighted = tiny.replace("training", hardness_mode="hard_negatives", hardness_strength=5.0, group_size=4)
    labels = Collator(groups, embedder, weighted, 42)([{"row": 0}, {"row": 1}])["label"]
    texts = [groups.passages[number] for number in labels["passages"].tolist()]
    own = [[texts[row] for row in group if row >= 0] for group in labels["group_rows"].tolist()]
    assert own[0][0] == "a" and sorted(own[0]) == ["a", "b", "c", "d"] and own[1] == ["b", "a"]
    assert labels["group_rows"].shape == (2, 4) and "teacher_scores" not in labels
    assert "group_rows" not in Collator(groups, embedder, tiny, 42)([{"row": 0}, {"row": 1}])["label"]


def test_outside_rows_have_the_recipe_s_weight(tiny, tmp_path):
    """Their loss counts half, that of the others as it is; at a weight of 1 and without such rows there is no label."""
    rows = [{"query": f"query {n}", "pos": [f"positive {n}"], "neg": [f"negative {n}"]} for n in range(3)]
    embedder, weighted = checkpoint.resolve(None, tiny, "cpu", "fp32").load(), tiny.replace("outside", weight=0.5)

    def labels(recipe, *last: dict) -> dict:
        store.write_jsonl(tmp_path / "data.jsonl", [*rows, *last])
        groups = read_training_groups(tmp_path / "data.jsonl", 42, recipe)
        return Collator(groups, embedder, recipe, 42)([{"row": n} for n in range(len(groups.queries))])["label"]

    outside = {**rows[0], "query": "another", "outside": "more"}
    assert labels(weighted, outside)["weights"].tolist() == [1, 1, 1, 0.5]
    assert "weights" not in labels(tiny, outside) and "weights" not in labels(weighted)
