"""Averages of checkpoints equal those by hand, and what cannot be averaged is refused."""

import dataclasses
from pathlib import Path

import pytest
import torch
from helpers.tiny_task import refused
from helpers.tuned_models import build_tuned_model, perturb, save_checkpoint, tuned_recipe
from safetensors.torch import load_file

from rounds.config.recipe import Projection, Recipe
from rounds.models import averaging, checkpoint
from rounds.models.checkpoint import Checkpoint


def trained(folder: Path, recipe: Recipe, seed: int) -> Checkpoint:
    """Write a checkpoint whose trainable weights are changed by noise of that seed."""
    embedder = build_tuned_model(recipe)
    torch.manual_seed(seed)
    perturb(embedder, 0.1)
    return checkpoint.resolve(str(save_checkpoint(embedder, recipe, folder)), device="cpu")


def averaged(sources: list[Checkpoint], folder: Path, method: str = "mean") -> Checkpoint:
    """Write the average's files and return the checkpoint that reads them."""
    averaging.check_averageable(sources, method)
    folder.mkdir()
    recipe = averaging.write_average(sources, method, folder)
    return dataclasses.replace(sources[0], recipe=recipe, folder=folder)


def whole_weights(source: Checkpoint) -> dict[str, torch.Tensor]:
    """Return the weights of the transformer, a LoRA adapter merged into them."""
    model = source.load()[0].model
    return (model.merge_and_unload() if source.is_adapter else model).state_dict()


def with_lora(recipe: Recipe, r: int, alpha: int) -> Recipe:
    lora = dataclasses.replace(recipe.tuning.lora, r=r, alpha=alpha)
    return dataclasses.replace(recipe, tuning=dataclasses.replace(recipe.tuning, lora=lora))


def test_tensors_are_averaged_by_hand():
    """The mean is (a + b + c) / 3, in the tensors' own type; counters stay as they are."""
    tensors = [torch.tensor([value, 2.0], dtype=torch.bfloat16) for value in (1.0, 3.0, 8.0)]
    mean = averaging.average_tensors(tensors, "mean")
    assert mean.tolist() == [4.0, 2.0] and mean.dtype == torch.bfloat16
    assert averaging.average_tensors([torch.tensor([3]), torch.tensor([3])], "mean").tolist() == [3]


def test_slerp_is_the_middle_of_the_arc():
    """It equals the usual formula by the angle between the tensors; opposite ones have no arc, and their mean is 0."""
    one, other = torch.randn(2, 3, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    angle = torch.acos((one * other).sum() / one.norm() / other.norm())
    expected = (torch.sin(angle / 2) / torch.sin(angle)) * (one + other)
    torch.testing.assert_close(averaging.average_tensors([one, other], "slerp"), expected)
    torch.testing.assert_close(averaging.average_tensors([one, one], "slerp"), one)
    assert averaging.average_tensors([one, -one], "slerp").abs().max() == 0


@pytest.mark.parametrize("method", averaging.METHODS)
def test_whole_models_are_averaged_tensor_by_tensor(method, tmp_path):
    """Each tensor of the file is the average of the parents', a projection head included, and the model loads."""
    recipe = tuned_recipe("full", "bert", projection=Projection(dim=8))
    sources = [trained(tmp_path / str(seed), recipe, seed) for seed in (1, 2)]
    result = averaged(sources, tmp_path / "average", method)
    files = sorted(path.relative_to(result.folder) for path in result.folder.rglob("*.safetensors"))
    assert files == sorted(path.relative_to(tmp_path / "1") for path in (tmp_path / "1").rglob("*.safetensors"))
    for file in files:
        one, other = (load_file(source.folder / file) for source in sources)
        for name, value in load_file(result.folder / file).items():
            torch.testing.assert_close(value, averaging.average_tensors([one[name], other[name]], method))
    parents, loaded = [whole_weights(source) for source in sources], whole_weights(result)
    if method == "mean":
        for name, value in loaded.items():
            torch.testing.assert_close(value, (parents[0][name] + parents[1][name]) / 2)


def test_of_adapters_the_products_are_averaged(tmp_path):
    """Merged, the average is the mean of the merged adapters, of other ranks and scales too; of factors it is not."""
    recipe = tuned_recipe("lora")
    recipes = [with_lora(recipe, 4, 8), with_lora(recipe, 2, 10), with_lora(recipe, 4, 4)]
    sources = [trained(tmp_path / str(seed), recipe, seed) for seed, recipe in enumerate(recipes)]
    result = averaged(sources, tmp_path / "average")
    parents = [whole_weights(source) for source in sources]
    for name, value in whole_weights(result).items():
        expected = sum(parent[name] for parent in parents) / 3
        torch.testing.assert_close(value, expected, rtol=1e-4, atol=1e-6)
    assert result.recipe.tuning.lora.r == 10


def test_weights_of_ia3_are_averaged(tmp_path):
    """They multiply a layer's weights, so that the mean of the merged models is that of the adapters."""
    sources = [trained(tmp_path / str(seed), tuned_recipe("ia3"), seed) for seed in (1, 2)]
    result = averaged(sources, tmp_path / "average")
    parents = [whole_weights(source) for source in sources]
    for name, value in whole_weights(result).items():
        torch.testing.assert_close(value, (parents[0][name] + parents[1][name]) / 2, rtol=1e-4, atol=1e-6)


def test_the_recipe_has_the_names_of_all(tmp_path):
    """Averaged recipes of one shape are both named."""
    recipe = tuned_recipe("full", "bert")
    recipes = [dataclasses.replace(recipe, name=name).replace("training", epochs=n) for n, name in ((1, "a"), (2, "b"))]
    sources = [trained(tmp_path / recipe.name, recipe, seed) for seed, recipe in enumerate(recipes)]
    assert averaged(sources, tmp_path / "average").recipe == dataclasses.replace(recipes[0], name="a+b")


@pytest.mark.parametrize("method", ["bottleneck", "prompt", "prefix", "p_tuning"])
def test_weights_that_no_matrix_holds_are_refused(method, tmp_path):
    """The line names the method and those that can be averaged."""
    source = trained(tmp_path / "one", tuned_recipe(method), 1)
    with refused(source.name, f"tuning.method {method}", "full, lora, qlora, ia3"):
        averaging.check_averageable([source, source], "mean")


def test_a_wrong_number_of_checkpoints_or_another_method_is_refused(tmp_path):
    """One checkpoint is no average, SLERP takes two, and of adapters only the mean is a model's."""
    whole = trained(tmp_path / "whole", tuned_recipe("full", "bert"), 1)
    adapter = trained(tmp_path / "adapter", tuned_recipe("lora", "bert"), 1)
    with refused("method mean: takes two checkpoints or more, not 1"):
        averaging.check_averageable([whole], "mean")
    with refused("method slerp: takes two checkpoints, not 3"):
        averaging.check_averageable([whole] * 3, "slerp")
    with refused("method median: is not one of mean, slerp"):
        averaging.check_averageable([whole] * 2, "median")
    with refused(adapter.name, "is an adapter", "merge it first", "take the mean"):
        averaging.check_averageable([adapter] * 2, "slerp")
    with refused(adapter.name, "is an adapter, and", whole.name, "is not; merge it first"):
        averaging.check_averageable([whole, adapter], "mean")


def test_a_base_model_is_refused():
    """A base model is no checkpoint of a round."""
    base = checkpoint.resolve(None, tuned_recipe("full", "bert"), "cpu")
    with refused("random:bert: is no checkpoint that a round trained"):
        averaging.check_averageable([base, base], "mean")


@pytest.mark.parametrize(
    ("section", "values", "says"),
    [
        ("prompts", {"query_prefix": "other: "}, 'prompts.query_prefix: "" -> "other: "'),
        ("model", {"normalize": False}, "model.normalize: true -> false"),
    ],
)
def test_checkpoints_of_other_prompts_or_pooling_are_refused(section, values, says, tmp_path):
    """The refusal names what differs."""
    recipe = tuned_recipe("full", "bert").replace("prompts", query_prefix="").replace("model", normalize=True)
    sources = [trained(tmp_path / str(n), r, n) for n, r in enumerate((recipe, recipe.replace(section, **values)))]
    with refused(sources[1].name, "its recipe is not that of", sources[0].name, says):
        averaging.check_averageable(sources, "mean")


def test_another_base_model_or_other_shapes_are_refused(tmp_path):
    """Equal recipes over another base, and adapters in other layers, are not of one shape."""
    recipe = tuned_recipe("lora")
    source = trained(tmp_path / "one", recipe, 1)
    moved = dataclasses.replace(recipe.model, name_or_path="random:qwen2")
    other = dataclasses.replace(source, recipe=dataclasses.replace(recipe, model=moved))
    with refused("was trained from another base model than"):
        averaging.check_averageable([source, other], "mean")
    lora = dataclasses.replace(recipe.tuning.lora, targets=["q_proj"])
    narrow = dataclasses.replace(recipe, tuning=dataclasses.replace(recipe.tuning, lora=lora))
    with refused("tensors are not of the shape that", source.name, "adapter_model.safetensors: "):
        averaging.check_averageable([source, trained(tmp_path / "two", narrow, 2)], "mean")
