"""Tuning: what a tiny model learns, what its checkpoints say, and how a killed call goes on."""

import dataclasses
import json

import pytest
import torch
from helpers.tiny_generator import PROMPT, make_recipe, make_rows

from rounds.artifacts import store
from rounds.config.generator import GeneratorRecipe
from rounds.errors import UserError
from rounds.generation import generator, tuning
from rounds.generation.rows import row_digests
from rounds.generation.tuning import TuningJob, tune


def make_job(output, recipe: GeneratorRecipe, **values: object) -> TuningJob:
    return TuningJob(
        **{
            "train": make_rows(8),
            "validation": make_rows(3, 8),
            **values,
            "recipe": recipe,
            "output": output,
            "device": "cpu",
        }
    )


def test_a_tiny_model_learns_a_fixed_prompt(tmp_path):
    """After some steps on rows with one prompt, the model writes it behind new texts and ends it with EOS."""
    tune(make_job(tmp_path / "out", make_recipe(steps=30, checkpoint_steps=30, learning_rate=1e-2)))
    tuned = generator.find_checkpoint(tmp_path / "out").load("cpu")
    contexts = [tuned.tokenization.context(row) for row in make_rows(2, 20)]
    assert tuned.write(contexts) == [[PROMPT], [PROMPT]]


@pytest.mark.parametrize("method", ["lora", "prompt", "prefix"])
def test_a_checkpoint_computes_what_the_model_in_training_did(tmp_path, method):
    """A loaded checkpoint has the validation loss of its manifest, and its folder has no weights of the base model."""
    tune(make_job(tmp_path / "out", make_recipe(method, steps=2, checkpoint_steps=2, learning_rate=0.1)))
    saved = generator.find_checkpoint(tmp_path / "out")
    tuned = saved.load("cpu")
    examples = [tuned.tokenization.example(row) for row in make_rows(3, 8)]
    assert tuning.validation_loss(tuned, examples) == pytest.approx(saved.manifest.validation_loss, abs=1e-5)
    assert not (saved.folder / "model.safetensors").exists()


def test_a_killed_call_goes_on_and_ends_as_an_uninterrupted_one(tmp_path, monkeypatch):
    """Killed behind its first checkpoint, a tuning resumes there and writes the same weights and losses."""
    recipe = make_recipe("lora", steps=4, checkpoint_steps=2, learning_rate=1e-2)
    tune(make_job(tmp_path / "whole", recipe))
    original = tuning.CheckpointCallback.on_step_end

    def die(self, args, state, control, **kwargs):
        original(self, args, state, control, **kwargs)
        if state.global_step == 3:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(tuning.CheckpointCallback, "on_step_end", die)
        with pytest.raises(KeyboardInterrupt):
            tune(make_job(tmp_path / "killed", recipe))
    assert not (tmp_path / "killed").exists()
    tune(make_job(tmp_path / "killed", recipe))
    whole, killed = (store.read_manifest(tmp_path / name) for name in ("whole", "killed"))
    assert [step.validation_loss for step in killed.checkpoints] == [step.validation_loss for step in whole.checkpoints]
    digests = {
        json.loads((tmp_path / name / "step_4/manifest.json").read_text())["weights_digest"]
        for name in ("whole", "killed")
    }
    assert len(digests) == 1
    assert tune(make_job(tmp_path / "killed", recipe)) is None
    assert sorted(path.name for path in tmp_path.iterdir()) == ["killed", "whole"]


def test_a_call_killed_behind_its_last_step_trains_no_further(tmp_path, monkeypatch):
    """The last checkpoint was whole, in the middle of an epoch: the next call puts it in place, with its time."""
    recipe = make_recipe("lora", steps=3, checkpoint_steps=3, learning_rate=1e-2)

    def die(self, *args, **kwargs):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(tuning.CheckpointCallback, "on_train_end", die)
        patch.setattr(tuning.CheckpointCallback, "seconds", lambda self: 1000.0)
        with pytest.raises(KeyboardInterrupt):
            tune(make_job(tmp_path / "out", recipe))
    written = store.read_manifest(tmp_path / "out.partial/step_3")
    manifest = tune(make_job(tmp_path / "out", recipe))
    assert [step.folder for step in manifest.checkpoints] == ["step_3"]
    assert store.read_manifest(tmp_path / "out/step_3") == written and manifest.seconds >= written.seconds == 1000


def test_a_checkpoint_s_train_loss_is_the_mean_over_all_of_its_steps(tmp_path, monkeypatch):
    """Checkpoints that do not fall on a multiple of ten steps, and the last one, have the losses of their own steps."""
    recipe, make_arguments = make_recipe("lora", steps=16, checkpoint_steps=6), tuning._training_arguments
    tune(make_job(tmp_path / "out", recipe))
    monkeypatch.setattr(
        tuning, "_training_arguments", lambda *given: dataclasses.replace(make_arguments(*given), logging_steps=1)
    )
    tune(make_job(tmp_path / "each", recipe))
    losses, expected = (
        [step.train_loss for step in store.read_manifest(tmp_path / name).checkpoints] for name in ("out", "each")
    )
    assert losses == pytest.approx(expected, abs=1e-5) and len(losses) == 3


def test_parts_of_a_batch_change_nothing(tmp_path):
    """Gradients added up over parts of a batch train the weights that the whole batch does."""
    losses = []
    for parts in (1, 4):
        recipe = make_recipe(steps=2, checkpoint_steps=2, learning_rate=1e-2, gradient_accumulation_steps=parts)
        tune(make_job(tmp_path / str(parts), recipe))
        losses.append(store.read_manifest(tmp_path / str(parts)).checkpoints[-1].validation_loss)
    assert losses[0] == pytest.approx(losses[1], abs=1e-4)


def test_rows_are_shuffled_unless_the_recipe_says_otherwise(tmp_path):
    """Training sees the rows of order file as they stand; by default, in another order."""
    orders = []
    for order in ("shuffled", "file"):
        recipe = make_recipe(steps=2, checkpoint_steps=2, order=order)
        job = make_job(tmp_path / "out", recipe)
        tuned = generator.load(recipe, "cpu", trains=True)
        train = [tuned.tokenization.example(row) for row in job.train]
        callback = tuning.CheckpointCallback(job, tmp_path, tuned, [])
        trainer = tuning._make_trainer(job, tmp_path, tuned, train, callback)
        orders.append(list(trainer._get_train_sampler()))
    assert orders[0] != orders[1] == list(range(8))


def test_an_adapter_starts_from_a_tuned_generator(tmp_path):
    """It is loaded over the checkpoint's weights, names them as its base, and inherits their training rows."""
    tune(make_job(tmp_path / "base", make_recipe(steps=2, checkpoint_steps=2)))
    start = generator.find_checkpoint(tmp_path / "base")
    recipe = generator.continuing(make_recipe("lora", steps=1, checkpoint_steps=1), start)
    tune(make_job(tmp_path / "out", recipe, train=make_rows(4, 20), start=start.manifest.lineage))
    saved = generator.find_checkpoint(tmp_path / "out")
    assert saved.manifest.base_digest == start.manifest.weights_digest
    assert saved.manifest.lineage.keys() == {row.id for row in (*make_rows(8), *make_rows(4, 20))}
    tuned = saved.load("cpu")
    examples = [tuned.tokenization.example(row) for row in make_rows(3, 8)]
    assert tuning.validation_loss(tuned, examples) == pytest.approx(saved.manifest.validation_loss, abs=1e-5)
    with pytest.raises(UserError, match="holds an adapter"):
        generator.continuing(recipe, saved)


def test_a_checkpoint_names_the_rows_of_its_half_alone(tmp_path):
    """Its lineage holds the rows that the recipe chose among the split's."""
    rows = [*make_rows(4), *make_rows(4, 20, "Sing it.")]
    for half in ("first_half", "second_half"):
        recipe = make_recipe(steps=1, checkpoint_steps=1, prompts=half)
        tune(make_job(tmp_path / half, recipe, train=rows, validation=[]))
    first, second = (generator.find_checkpoint(tmp_path / half).manifest for half in ("first_half", "second_half"))
    assert {len(first.lineage), len(second.lineage)} == {4} and first.lineage | second.lineage == row_digests(rows)
    assert first.data_digest != second.data_digest


def test_a_base_that_saw_validation_rows_is_refused(tmp_path):
    """Rows that the base model was tuned on count as training rows."""
    with pytest.raises(UserError, match="3 of 3 validation rows are training rows, too"):
        tune(make_job(tmp_path / "out", make_recipe(), start=row_digests(make_rows(3, 8))))


def test_rows_on_both_sides_are_refused(tmp_path):
    """A validation row that is a training row, too, is refused with the count, and nothing is written."""
    with pytest.raises(UserError, match="1 of 3 validation rows are training rows, too, such as r7"):
        tune(make_job(tmp_path / "out", make_recipe(), validation=make_rows(3, 7)))
    assert list(tmp_path.iterdir()) == []


def test_a_row_without_prompt_is_refused(tmp_path):
    """A training row whose prompt is empty is named."""
    with pytest.raises(UserError, match="row r0: rewrite_prompt is empty"):
        tune(make_job(tmp_path / "out", make_recipe(), train=make_rows(1, prompt=" ")))


def test_changed_weights_are_refused(tmp_path):
    """A checkpoint whose weights are not those of its manifest is not loaded."""
    tune(make_job(tmp_path / "out", make_recipe("prompt", steps=1, checkpoint_steps=1, learning_rate=0.1)))
    saved = generator.find_checkpoint(tmp_path / "out")
    file = saved.folder / "adapter_model.safetensors"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    with pytest.raises(UserError, match="weights are not those of its manifest"):
        saved.load("cpu")


def test_a_folder_without_generator_is_refused(tmp_path):
    """A folder that tuning did not write is refused, and so is one that is not there."""
    for folder in (tmp_path, tmp_path / "missing"):
        with pytest.raises(UserError, match="holds no tuned generator"):
            generator.find_checkpoint(folder)


def test_virtual_tokens_alone_are_trained(tmp_path):
    """Prompt tuning trains the virtual tokens and nothing of the base model."""
    tuned = generator.load(make_recipe("prompt"), "cpu", trains=True)
    trained = {name: value.shape for name, value in tuned.model.named_parameters() if value.requires_grad}
    assert list(trained.values()) == [torch.Size([4, 64])]


def test_experts_that_4_bits_leave_out_are_counted(capsys):
    """Joined weights of three dimensions are no linear layer: a line says how many stay in 16 bits."""
    layer = torch.nn.Linear(3, 3)
    generator._say_unquantized(layer, "model m")
    layer.experts = torch.nn.Parameter(torch.zeros(2, 3, 4))
    generator._say_unquantized(layer, "model m")
    assert capsys.readouterr().out.startswith("model m: 24 weights of its experts stay in 16 bits (0.0 GiB)")
