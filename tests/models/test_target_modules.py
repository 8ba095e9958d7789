"""Target modules: each target names something, by the end of a name, a regular expression or `all-linear`."""

import dataclasses

import pytest
from helpers.tiny_task import refused
from helpers.tuned_models import tuned_recipe

from rounds.config import loader
from rounds.config.recipe import HoulsbyAdapters
from rounds.models import checkpoint, peft_methods


def apply(method: str, **changes):
    """Apply a tuning method with other targets to a tiny Mistral, and return the embedder."""
    recipe = tuned_recipe(method)
    section = "lora" if method == "qlora" else method
    settings = dataclasses.replace(getattr(recipe.tuning, section), **changes)
    tuning = dataclasses.replace(recipe.tuning, **{section: settings})
    embedder = checkpoint.resolve(None, recipe, "cpu").load()
    peft_methods.apply(embedder, tuning)
    return embedder


def adapted(embedder) -> set[str]:
    """Return the last parts of the names of the modules that got an adapter."""
    inserted = ("lora_A", "ia3_l", "bottleneck")
    names = [name for name, _ in embedder.named_parameters() if any(part in name for part in inserted)]
    return {next(part for part in reversed(name.split(".")) if part.endswith("_proj")) for name in names}


LINEAR = {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}


@pytest.mark.parametrize("method", ["lora", "ia3", "bottleneck"])
def test_a_single_target_that_matches_nothing_is_refused_with_the_nearest_name(method):
    """One misspelled name among right ones is no longer left out without a word."""
    changes = {"feedforward": []} if method == "ia3" else {}
    with refused(f"tuning.{method}.targets", "k_prj matches no module", "the nearest is k_proj"):
        apply(method, targets=["q_proj", "k_prj", "v_proj"], **changes)


def test_a_feedforward_target_that_matches_nothing_is_refused():
    """`tuning.ia3.feedforward` is checked as `targets` is."""
    with refused("tuning.ia3.feedforward", "down_prj", "down_proj"):
        apply("ia3", targets=["k_proj", "down_proj"], feedforward=["down_prj"])


def test_a_feedforward_target_that_is_no_target_is_refused():
    """`tuning.ia3.feedforward` says which of the targets are rescaled before the layer, so it names no others."""
    with refused("tuning.ia3.feedforward", "down_proj is not one of tuning.ia3.targets"):
        apply("ia3", targets=["k_proj"], feedforward=["down_proj"])


@pytest.mark.parametrize("method", ["lora", "bottleneck"])
def test_all_linear_and_regular_expressions_work_as_in_peft(method):
    """`all-linear` adapts each linear layer; a regular expression matches whole names."""
    assert adapted(apply(method, targets=["all-linear"])) == LINEAR
    assert adapted(apply(method, targets=[r".*\.(q|k)_proj"])) == {"q_proj", "k_proj"}
    assert adapted(apply(method, targets=[r".*\.[qk]_proj", "up_proj"])) == {"q_proj", "k_proj", "up_proj"}


@pytest.mark.parametrize("method", ["lora", "bottleneck"])
@pytest.mark.parametrize(
    ("targets", "reason"),
    [
        ([r".*\.qq_proj"], "matches no module"),
        (["(q_proj"], "is not a regular expression"),
        (["all-linear", "q_proj"], "all-linear stands alone"),
    ],
)
def test_other_targets_are_refused_in_one_line(method, targets, reason):
    """A pattern that matches nothing, or is none, and `all-linear` beside names."""
    with refused(f"tuning.{method}.targets", reason):
        apply(method, targets=targets)


def test_the_default_adapters_name_layers_of_several_architectures():
    """Of the default targets of bottlenecks a model needs to have some."""
    assert adapted(apply("bottleneck", targets=HoulsbyAdapters().targets)) == {"o_proj", "down_proj"}


@pytest.mark.parametrize(("text", "targets"), [("all-linear", ["all-linear"]), (r"'.*\.q_proj'", [r".*\.q_proj"])])
def test_a_recipe_holds_a_pattern_as_peft_does_as_a_text(text, targets, tmp_path):
    """`targets: all-linear` and a regular expression need no list around them."""
    file = tmp_path / "recipe.yaml"
    file.write_text(f"extends: tiny-mistral\ntuning: {{lora: {{targets: {text}}}}}\n")
    assert list(loader.load(str(file)).tuning.lora.targets) == targets
