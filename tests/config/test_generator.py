"""Generators' recipes: those of the package load, and what a generator would not heed is refused."""

import pytest

from rounds.config import generator, loader
from rounds.config.generator import FOLDER
from rounds.errors import UserError

TEXTS = "prompt:\n  template: '{original_text} {rewritten_text}'\n"


def write(tmp_path, text: str) -> str:
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    return str(path)


@pytest.mark.parametrize("name", generator.names())
def test_recipes_of_the_package_load(name):
    """Each recipe is valid, and comes back from its own values."""
    recipe = generator.load(name)
    assert generator.from_dict(recipe.to_dict(), name) == recipe


def test_the_7b_recipe_has_the_notes_settings():
    """The recipe of Mistral has 8 virtual tokens, a learning rate of 0.1, batches of 16, 640 tokens, no warm-up."""
    recipe = generator.load("Mistral-7B-Instruct-v0.2")
    training = recipe.training
    assert (recipe.tuning.method, recipe.tuning.virtual.tokens, training.learning_rate) == ("prompt", 8, 0.1)
    assert (training.batch_size, training.max_length, training.warmup_steps, training.order) == (16, 640, 0, "shuffled")


def test_a_recipe_inherits_another(tmp_path):
    """With extends, keys that a file leaves out are those of the other recipe."""
    recipe = generator.load(write(tmp_path, "extends: tiny-generator\ntraining:\n  steps: 7\n"))
    assert (recipe.name, recipe.training.steps, recipe.training.max_length) == ("mine", 7, 336)
    recipe = generator.load(write(tmp_path, "extends: gemma-3-270m-it\n"))  # which extends another one itself
    assert (recipe.tuning.method, recipe.training.max_length) == ("lora", 640)
    with pytest.raises(UserError, match="mine.yaml: extends itself, by way of"):
        generator.load(write(tmp_path, f"extends: {tmp_path / 'mine.yaml'}\n"))


def test_the_kinds_of_recipes_are_kept_apart(tmp_path):
    """An embedder's recipe is no generator's, by name or by file, and the other way round."""
    with pytest.raises(UserError, match="'minilm': is an embedder's; recipes of generators are Mistral"):
        generator.load("minilm")
    with pytest.raises(UserError, match="has no section prompt, so it is no generator's recipe"):
        generator.load(write(tmp_path, "training:\n  epochs: 1\n"))
    both = {"Qwen2.5-0.5B-Instruct", "gemma-3-270m"}  # base models that embed for one task and generate for the other
    assert set(generator.names()) & set(loader.names()) == both
    assert all((loader.read_values(name, FOLDER)[0]).parent.name == "generators" for name in generator.names())


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("model:\n  pooling: cls\n", "model.pooling is for embedders and has no effect on a generator"),
        ("tuning:\n  separate: true\n", "tuning.separate is for embedders"),
        ("tuning:\n  method: bottleneck\n", "tuning.method bottleneck is for embedders; a generator takes full, lora"),
        ("tuning:\n  method: qlora\n", "tuning.method qlora needs model.precision: nf4 or fp4"),
        ("tuning:\n  virtual: {init: text}\n", "tuning.virtual.init must be random, or text with an init_text"),
        ("training:\n  step: 3\n", "unknown key training.step; did you mean training.steps?"),
        ("training:\n  gradient_accumulation_steps: 3\n", "batch_size 16 cannot be divided into 3 parts"),
        ("generation:\n  max_new_tokens: 640\n", "max_new_tokens is 640 and training.max_length 640"),
        ("training:\n  learning_rate: 0\n", "training.learning_rate is 0, must be above 0"),
    ],
)
def test_what_a_generator_does_not_take_is_refused(tmp_path, text, message):
    """The line names the key and what is wrong."""
    with pytest.raises(UserError, match=message):
        generator.load(write(tmp_path, TEXTS + text))


@pytest.mark.parametrize("template", ["{rewritten_text} {original_text}", "{original_text}", "{original_text} " * 2])
def test_a_template_holds_both_texts_once(tmp_path, template):
    """Without one of the texts, or with one twice, a template is refused."""
    with pytest.raises(UserError, match="must hold {original_text} and {rewritten_text}, each once and in this order"):
        generator.load(write(tmp_path, f"prompt:\n  template: '{template}'\n"))


def test_another_method_keeps_the_rest():
    """A recipe in another tuning method differs in the named keys alone, and a wrong one is refused."""
    recipe = generator.load("tiny-generator")
    changed = recipe.with_method("lora", rank=1)
    assert (changed.tuning.method, changed.tuning.lora.r, changed.tuning.lora.alpha) == ("lora", 1, 2)
    assert changed.training == recipe.training and changed.tuning.lora.targets == recipe.tuning.lora.targets
    with pytest.raises(UserError, match="flags: tuning.method p_tuning is for embedders"):
        recipe.with_method("p_tuning")
    for size, key in ({"rank": 0}, "lora.r"), ({"tokens": 0}, "virtual.tokens"):
        with pytest.raises(UserError, match=f"flags: tuning.{key} is 0, must be"):
            recipe.with_method("lora", **size)
