"""An averaged checkpoint is a checkpoint like any other, with the lineage of all its parents."""

from pathlib import Path

import pytest
import torch
from helpers.tiny_task import refused
from helpers.tuned_models import build_tuned_model, perturb, save_checkpoint, tuned_recipe

from rounds.artifacts import store
from rounds.data import lineage
from rounds.encoding import averaged_checkpoint, canary
from rounds.models import checkpoint
from rounds.models.checkpoint import Checkpoint


def trained(folder: Path, seed: int, method: str = "lora", **entries) -> Checkpoint:
    """Write a checkpoint with noise of that seed, and further entries in its manifest."""
    recipe = tuned_recipe(method)
    embedder = build_tuned_model(recipe)
    torch.manual_seed(seed)
    perturb(embedder)
    return checkpoint.resolve(str(save_checkpoint(embedder, recipe, folder, **entries)), device="cpu")


def averaged(sources: list[Checkpoint], folder: Path, **options) -> Checkpoint:
    averaged_checkpoint.average(sources, folder, **options)
    return checkpoint.resolve(str(folder), device="cpu")


def test_the_lineage_is_that_of_all_parents(tmp_path):
    """An average that one parent pollutes is refused on the validation questions, and so is an average of it."""
    one = trained(tmp_path / "one", 1, lineage={"1": "aa", "2": "bb"}, lineage_status="clean")
    other = trained(tmp_path / "other", 2, lineage={"3": "cc"}, lineage_status="POLLUTED", round=2)
    result = averaged([one, other], tmp_path / "average")
    assert result.lineage == {"1": "aa", "2": "bb", "3": "cc"} and result.manifest.lineage_status == "POLLUTED"
    assert lineage.guard("x", result.lineage, {"9": "zz"}, allow_leak=False) == lineage.CLEAN
    with refused("was trained on 1 of the 2 validation questions"):
        lineage.guard("x", result.lineage, {"3": "cc", "4": "dd"}, allow_leak=False)
    again = averaged([result, one], tmp_path / "again")
    assert again.lineage.keys() == {"1", "2", "3"} and again.is_adapter


def test_an_unknown_lineage_makes_the_average_s_unknown(tmp_path):
    """Nobody knows what the average was trained on, either."""
    sources = [trained(tmp_path / str(n), n, lineage=known) for n, known in enumerate(({"1": "aa"}, None))]
    result = averaged(sources, tmp_path / "average")
    assert result.lineage is None and result.manifest.lineage_status == lineage.UNKNOWN


def test_the_manifest_names_the_parents(tmp_path):
    """Folders and weights of the parents, and a title that tells the average from rounds in tables."""
    sources = [trained(tmp_path / str(number), number, round=number) for number in (1, 2)]
    manifest = averaged(sources, tmp_path / "average").manifest
    assert [(parent.name, parent.weights) for parent in manifest.parents] == [
        (source.name, source.weights_digest) for source in sources
    ]
    assert manifest.title == "mean of round 1, round 2" and manifest.round is None and manifest.adapter


def test_seeds_of_one_round_are_counted(tmp_path):
    """Equal names would not tell the parents apart."""
    sources = [trained(tmp_path / str(number), number) for number in (1, 2, 3)]
    assert averaged(sources, tmp_path / "average").manifest.title == "mean of 3 checkpoints"


def test_an_average_is_made_once(tmp_path):
    """The same call changes nothing; other parents in its folder are refused, unless it may be replaced."""
    sources = [trained(tmp_path / str(number), number) for number in (1, 2, 3)]
    folder = tmp_path / "average"
    assert "mean of" in averaged_checkpoint.average(sources[:2], folder)
    assert "up to date" in averaged_checkpoint.average(sources[:2], folder)
    with refused(folder, "made from another configuration"):
        averaged_checkpoint.average(sources, folder)
    assert "mean of" in averaged_checkpoint.average(sources, folder, overwrite=True)


def test_nothing_is_left_of_what_cannot_be_averaged(tmp_path):
    """A refusal leaves no folder."""
    sources = [trained(tmp_path / str(number), number, "bottleneck") for number in (1, 2)]
    with refused("tuning.method bottleneck"):
        averaged_checkpoint.average(sources, tmp_path / "average")
    assert not (tmp_path / "average").exists()


@pytest.mark.parametrize("separate", [False, True])
def test_canaries_are_those_of_the_average(separate, tmp_path):
    """Two encoders are averaged side by side, and their canary embeddings are checked when it is loaded."""
    recipe = tuned_recipe("lora", separate=separate)
    sources = []
    for seed in (1, 2):
        embedder = build_tuned_model(recipe)
        torch.manual_seed(seed)
        perturb(embedder)
        folder = save_checkpoint(embedder, recipe, tmp_path / str(seed))
        sources.append(checkpoint.resolve(str(folder), device="cpu"))
    result = averaged(sources, tmp_path / "average")
    assert (result.manifest.proof is not None) == separate
    canary.check(result, result.load())
    assert store.read_manifest(result.folder).weights == result.weights_digest
