"""Loading a reranker: a hub model is loaded in the recipe's revision, each of its files."""

import types

import pytest

from rounds.config import loader
from rounds.models import cross_encoder

REVISION = "a-commit"


class Stop(Exception):
    """Raised in place of loading weights."""


@pytest.mark.parametrize(
    ("template", "architecture"),
    [
        pytest.param("{query} {passage}?", "Qwen2ForCausalLM", id="decoder"),
        pytest.param("", "BertForSequenceClassification", id="classifier"),
        pytest.param("", "BertModel", id="new head"),
    ],
)
def test_a_hub_model_is_loaded_in_the_recipe_s_revision(template, architecture, monkeypatch):
    """Configuration, tokenizer and weights are asked for in the revision, whatever kind of model it is."""
    asked = []

    def read_config(name, revision=None):
        asked.append(revision)
        return types.SimpleNamespace(architectures=[architecture])

    def load_whole(name, revision=None, **arguments):
        asked.append(revision)
        raise Stop

    def load_encoder(name, *, model_kwargs, processor_kwargs, config_kwargs, **arguments):
        asked.extend(part.get("revision") for part in (model_kwargs, processor_kwargs, config_kwargs))
        raise Stop

    monkeypatch.setattr(cross_encoder.AutoConfig, "from_pretrained", read_config)
    monkeypatch.setattr(cross_encoder, "CrossEncoder", load_whole)
    monkeypatch.setattr(cross_encoder, "Transformer", load_encoder)
    recipe = loader.load("tiny-qwen2").replace("model", name_or_path="someone/model", revision=REVISION)
    with pytest.raises(Stop):
        cross_encoder.load("someone/model", recipe.replace("reranking", template=template), "cpu")
    assert asked and set(asked) == {REVISION}
