"""Training: a killed run ends like an uninterrupted one, and a training that fails says why."""

import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import slow_clock
from helpers.manifests import mined_manifest
from helpers.tiny_task import chunks_and_labels, refused
from helpers.training import few_rows, finetune
from helpers.tuned_models import randomize_lora
from safetensors.torch import load_file

from rounds.artifacts import store
from rounds.config import loader
from rounds.config.recipe import Training
from rounds.data import collection, splits
from rounds.data.loaders import eedi
from rounds.encoding.encoder import encode
from rounds.models import backbone, checkpoint, peft_methods, weights_io
from rounds.training import trainer
from rounds.training.callbacks import EpochCheckpointCallback
from rounds.training.collator import Collator
from rounds.training.dataset import read_training_groups
from rounds.training.loss_module import EmbeddingLoss
from rounds.training.partial_folder import COMPLETE
from rounds.training.plan import STATE

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"
HARDNESS = {"hardness_mode": "hard_negatives", "hardness_strength": 5.0}


def weights(folder: Path) -> dict[str, torch.Tensor]:
    """Return the adapter of the last epoch, by name."""
    return load_file(folder / "lora_epoch_2" / weights_io.ADAPTER_WEIGHTS)


@pytest.fixture(scope="module")
def trained(tiny, tiny_mined, tiny_collection, tmp_path_factory) -> Path:
    """The folder of round 1, trained on a few rows without interruption."""
    folder = tmp_path_factory.mktemp("round1")
    finetune(tiny, few_rows(tiny_mined, folder), folder / "train", tiny_collection)
    return folder / "train"


def test_each_epoch_leaves_a_checkpoint_with_its_evaluation(trained):
    """Each epoch has an adapter, a manifest and metrics; last and best are named; the Trainer's states are removed."""
    manifest = store.read_manifest(trained)
    assert [epoch.folder for epoch in manifest.epochs] == ["lora_epoch_1", "lora_epoch_2"]
    assert manifest.last == manifest.continue_with == "lora_epoch_2"
    best = max(manifest.epochs, key=lambda epoch: epoch.metrics["MAP@25"])
    assert manifest.best == best.folder
    for name in ("lora_epoch_1", "lora_epoch_2"):
        assert store.read_manifest(trained / name).kind == "checkpoint"
        assert store.read_json(trained / name / "metrics.json")["queries"] > 0
    assert not list(trained.parent.glob("*.partial")) and not (trained / STATE).exists()


def test_first_batches_differ_between_epochs_and_seeds(trained, tiny, tiny_mined, tmp_path):
    """Each epoch and each seed has an order of its own, and the same seed gives the same order again."""

    def first_rows(folder: Path) -> list[list[int]]:
        """Return the rows of each epoch's first batch."""
        return [store.read_manifest(folder / f"lora_epoch_{epoch}").first_rows for epoch in (1, 2)]

    for name, seed in (("again", 42), ("other", 7)):
        finetune(tiny, few_rows(tiny_mined, tmp_path), tmp_path / name, seed=seed)
    expected, other = first_rows(trained), first_rows(tmp_path / "other")
    assert expected[0] != expected[1] and len(expected[0]) == tiny.training.batch_size
    assert first_rows(tmp_path / "again") == expected
    assert all(rows != other_rows for rows, other_rows in zip(expected, other, strict=True))


def test_an_epoch_s_run_is_that_of_the_reloaded_checkpoint(trained, tiny_collection):
    """The query vectors that were saved during training equal those of the reloaded checkpoint."""
    source = checkpoint.resolve(str(trained), device="cpu")
    texts = list(collection.read(tiny_collection).validation.values())
    reloaded = encode(source.load(), texts, source.recipe.prompts, "query", source.precision)
    (saved,) = (trained / "lora_epoch_2" / "runs").glob("validation-*/vectors.npy")
    np.testing.assert_allclose(np.load(saved), reloaded, atol=1e-6)


def test_same_inputs_give_the_same_weights(trained, tiny, tiny_mined, tiny_collection, tmp_path):
    """Training again from the same inputs writes the same bytes."""
    finetune(tiny, few_rows(tiny_mined, tmp_path), tmp_path / "train", tiny_collection)
    for name in ("lora_epoch_1", "lora_epoch_2"):
        file = Path(name) / weights_io.ADAPTER_WEIGHTS
        assert (trained / file).read_bytes() == (tmp_path / "train" / file).read_bytes()


def test_another_seed_gives_other_weights(trained, tiny, tiny_mined, tmp_path):
    """The seed changes the order of the data and the initial adapter."""
    finetune(tiny, few_rows(tiny_mined, tmp_path), tmp_path / "train", seed=7)
    assert not all(
        torch.equal(a, b) for a, b in zip(weights(trained).values(), weights(tmp_path / "train").values(), strict=True)
    )


def test_a_stopped_run_resumes_to_the_same_weights(
    trained, tiny, tiny_mined, tiny_collection, tmp_path, monkeypatch, capsys
):
    """Stopped within epoch 2, a run resumes from epoch 1, says how long that takes, and ends as one without a stop."""
    on_step_end = EpochCheckpointCallback.on_step_end

    def stop(self, args, state, control, **kwargs):
        on_step_end(self, args, state, control, **kwargs)
        if state.epoch > 1.4:
            raise KeyboardInterrupt

    data = few_rows(tiny_mined, tmp_path)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(EpochCheckpointCallback, "on_step_end", stop)
        finetune(tiny, data, tmp_path / "train", tiny_collection)
    assert not (tmp_path / "train").exists() and (tmp_path / "train.partial" / "lora_epoch_1").is_dir()
    (tmp_path / "train.partial" / STATE / "checkpoint-999").mkdir()  # an incomplete state
    slow_clock.use(monkeypatch)
    finetune(tiny, data, tmp_path / "train", tiny_collection)
    (line,) = (line for line in slow_clock.lines(capsys) if line.startswith("train on 20 queries: about "))
    assert f"({-(-20 // tiny.training.batch_size)} steps left, " in line
    assert all(
        torch.equal(a, b) for a, b in zip(weights(trained).values(), weights(tmp_path / "train").values(), strict=True)
    )
    assert len(store.read_manifest(tmp_path / "train").epochs) == 2


def test_a_disk_that_is_full_at_the_end_loses_no_epoch(tiny, tiny_mined, tmp_path, monkeypatch):
    """The manifest of the whole training cannot be written; the next call writes it, and trains no step again."""
    write_manifest, data = store.write_manifest, few_rows(tiny_mined, tmp_path)

    def write(path: Path, manifest: object) -> None:
        if path.parent.name == "train.partial":
            raise OSError(28, "No space left on device")
        write_manifest(path, manifest)

    with monkeypatch.context() as full, pytest.raises(OSError, match="No space"):
        full.setattr(store, "write_manifest", write)
        finetune(tiny, data, tmp_path / "train")
    monkeypatch.setattr(EpochCheckpointCallback, "on_step_end", lambda *_, **__: pytest.fail("trains again"))
    finetune(tiny, data, tmp_path / "train")
    assert len(store.read_manifest(tmp_path / "train").epochs) == 2
    assert not (tmp_path / "train" / STATE).exists()


def test_a_resumed_run_counts_the_time_of_the_call_that_was_stopped(tiny, tiny_mined, tmp_path, monkeypatch):
    """Seconds and peak memory of a training that was stopped behind epoch 1 include that epoch's."""
    on_save, data = EpochCheckpointCallback.on_save, few_rows(tiny_mined, tmp_path)

    def stop(self, args, state, control, **kwargs):
        self.start -= 1000  # as if the first epoch had taken so long
        on_save(self, args, state, control, **kwargs)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(EpochCheckpointCallback, "on_save", stop)
        finetune(tiny, data, tmp_path / "train")
    monkeypatch.setattr("rounds.training.callbacks.peak_memory", lambda device: 10.0)
    finetune(tiny, data, tmp_path / "train")
    manifest = store.read_manifest(tmp_path / "train")
    assert 1000 < manifest.seconds < 1500 and manifest.peak_mib > 100


def test_an_epoch_s_train_loss_is_the_mean_over_all_of_its_steps(tiny, tiny_mined, tmp_path, monkeypatch):
    """Steps behind the last one that a multiple of ten logs count as the others do."""
    rows, make_arguments = 13 * tiny.training.batch_size, trainer._training_arguments
    data = few_rows(tiny_mined, tmp_path, rows)
    finetune(tiny, data, tmp_path / "train")
    monkeypatch.setattr(
        trainer, "_training_arguments", lambda *given: dataclasses.replace(make_arguments(*given), logging_steps=1)
    )
    finetune(tiny, data, tmp_path / "each")
    losses, expected = (
        [epoch.metrics["train loss"] for epoch in store.read_manifest(tmp_path / name).epochs]
        for name in ("train", "each")
    )
    assert losses == pytest.approx(expected, abs=1e-5)


def test_a_stopped_run_of_another_configuration_is_not_continued(trained, tiny, tiny_mined, tiny_collection, tmp_path):
    """The epochs that a killed run with other flags left behind are removed."""
    partial = tmp_path / "train.partial"
    (partial / "lora_epoch_7").mkdir(parents=True)
    store.write_json(partial / "lora_epoch_7" / "metrics.json", {"MAP@25": 1.0})
    store.write_json(partial / "config.json", {"seed": 1})
    finetune(tiny, few_rows(tiny_mined, tmp_path), tmp_path / "train", tiny_collection)
    assert len(store.read_manifest(tmp_path / "train").epochs) == 2
    assert all(
        torch.equal(a, b) for a, b in zip(weights(trained).values(), weights(tmp_path / "train").values(), strict=True)
    )


def test_a_finished_run_is_not_repeated(trained, tiny, tiny_mined, tiny_collection):
    """The same call again changes nothing."""
    before = (trained / store.MANIFEST).stat().st_mtime_ns
    line = finetune(tiny, trained.parent / "few.jsonl", trained, tiny_collection)
    assert "up to date" in line and (trained / store.MANIFEST).stat().st_mtime_ns == before


def test_a_finished_folder_of_another_recipe_is_refused(trained, tiny, tiny_collection):
    """A folder with a checkpoint of another configuration is refused, and the refusal names the difference."""
    other = tiny.replace("training", learning_rate=0.5)
    with refused(trained, "recipe.training.learning_rate: 0.001 -> 0.5"):
        finetune(other, trained.parent / "few.jsonl", trained, tiny_collection)


def test_round_two_continues_from_round_one(trained, tiny, tiny_mined, tiny_collection, tmp_path):
    """Round 2 starts from round 1's weights, and its manifest names the parent and both rounds' lineage."""
    finetune(tiny, few_rows(tiny_mined, tmp_path), tmp_path / "train", tiny_collection, start=trained)
    manifest = store.read_manifest(tmp_path / "train" / "lora_epoch_2")
    parent = store.read_manifest(trained / "lora_epoch_2")
    assert manifest.parent.weights == parent.weights and not manifest.parent.base
    assert set(parent.lineage) <= set(manifest.lineage)
    source = checkpoint.resolve(str(tmp_path / "train"), device="cpu")
    texts = ["two thirds"]
    second = encode(source.load(), texts, tiny.prompts, "query", "fp32")
    first = encode(checkpoint.resolve(str(trained), device="cpu").load(), texts, tiny.prompts, "query", "fp32")
    base = encode(checkpoint.resolve(None, tiny, "cpu").load(), texts, tiny.prompts, "query", "fp32")
    assert 0 < np.abs(second - first).max() and not np.allclose(second, base, atol=1e-3)


def test_full_fine_tuning_trains_and_continues(tiny, tiny_mined, tmp_path):
    """Full fine-tuning writes whole models, and round 2 changes the weights of round 1."""
    full = dataclasses.replace(tiny, tuning=dataclasses.replace(tiny.tuning, method="full"))
    data = few_rows(tiny_mined, tmp_path)
    finetune(full, data, tmp_path / "one")
    finetune(full, data, tmp_path / "two", start=tmp_path / "one")
    assert (tmp_path / "two" / "epoch_2" / "model.safetensors").is_file()
    assert (
        store.read_manifest(tmp_path / "two" / "epoch_2").weights
        != store.read_manifest(tmp_path / "one" / "epoch_2").weights
    )


def test_training_lowers_the_loss(tiny, tiny_mined, tmp_path):
    """The loss on the training rows falls by a fifth or more."""
    recipe = dataclasses.replace(tiny, tuning=dataclasses.replace(tiny.tuning, method="full")).replace(
        "training", epochs=6
    )
    data = few_rows(tiny_mined, tmp_path)
    before = mean_loss(checkpoint.resolve(None, recipe, "cpu").load(), recipe, data)
    finetune(recipe, data, tmp_path / "train")
    after = mean_loss(checkpoint.resolve(str(tmp_path / "train"), device="cpu").load(), recipe, data)
    assert after < 0.8 * before


def mean_loss(embedder, recipe, data: Path) -> float:
    """Return the loss of all rows as one batch."""
    groups = read_training_groups(data, 42, recipe)
    collate = Collator(groups, embedder, recipe, 42)
    batch = collate([{"row": row} for row in range(len(groups.queries))])
    with torch.no_grad():
        return float(EmbeddingLoss(embedder, Training(temperature=0.02), "fp32")(*chunks_and_labels(batch)))


def gradients(embedder) -> dict[str, torch.Tensor]:
    """Return the gradients of the trainable parameters that have one."""
    parameters = peft_methods.trainable_parameters(embedder)
    return {name: parameter.grad for name, parameter in parameters.items() if parameter.grad is not None}


@pytest.mark.parametrize("budget", [32, 200, 100_000])
@pytest.mark.parametrize(
    ("name", "dropout", "weights"),
    [
        ("tiny-mistral", 0.0, {}),
        ("tiny-mistral", 0.1, {}),
        ("tiny-tokens", 0.1, {"false_negative_margin": 0.05, **HARDNESS}),
    ],
    ids=["tiny-mistral", "with dropout", "tokens, with weighted negatives"],
)
def test_cached_gradients_equal_plain_ones(name, tiny_mined, budget, dropout, weights):
    """Gradient caching gives the loss and the gradients of a single graph, for any size of its micro-batches."""
    recipe = loader.load(name)
    lora = dataclasses.replace(recipe.tuning.lora, dropout=dropout)
    recipe = dataclasses.replace(recipe, tuning=dataclasses.replace(recipe.tuning, lora=lora))
    groups = read_training_groups(tiny_mined, 42, recipe)
    results = []
    for cached in (False, True):
        torch.manual_seed(0)
        embedder = backbone.load(recipe, "fp32", "cpu")
        peft_methods.apply(embedder, recipe.tuning)
        randomize_lora(embedder)
        collate = Collator(groups, embedder, recipe.replace("training", micro_batch_tokens=budget, **weights), 42)
        settings = Training(temperature=0.05, micro_batch_tokens=budget if cached else 0, **weights)
        batch = chunks_and_labels(collate([{"row": n} for n in range(10)]))
        torch.manual_seed(1)
        loss = EmbeddingLoss(embedder.train(), settings, "fp32")(*batch)
        loss.backward()
        results.append((loss.item(), gradients(embedder)))
    (plain_loss, plain), (cached_loss, cached) = results
    assert cached_loss == pytest.approx(plain_loss, rel=1e-6)
    assert plain and plain.keys() == cached.keys()
    for name, value in plain.items():
        assert torch.norm(cached[name] - value) <= 1e-5 * torch.norm(value), name


def test_micro_batches_keep_to_their_budget(tiny, tiny_mined):
    """No chunk has more padded tokens than the recipe allows, unless a single text has more."""
    groups = read_training_groups(tiny_mined, 42, tiny)
    embedder = backbone.load(tiny, "fp32", "cpu")
    collate = Collator(groups, embedder, tiny.replace("training", micro_batch_tokens=256), 42)
    chunks, labels = chunks_and_labels(collate([{"row": n} for n in range(10)]))
    assert all(chunk["input_ids"].numel() <= 256 or len(chunk["cu_seq_lens_q"]) <= 3 for chunk in chunks)
    assert len(labels["query_order"]) == 10 and len(chunks) > 1


def test_a_round_with_gradient_caching_ends_like_one_without(tiny, tiny_mined, tmp_path):
    """With gradient caching the Trainer ends with the same weights."""
    lora = dataclasses.replace(tiny.tuning.lora, dropout=0.0)
    recipe = dataclasses.replace(tiny, tuning=dataclasses.replace(tiny.tuning, lora=lora))
    for budget in (0, 512):
        data, output = few_rows(tiny_mined, tmp_path), tmp_path / f"train{budget}"
        finetune(recipe.replace("training", micro_batch_tokens=budget), data, output)
    torch.testing.assert_close(weights(tmp_path / "train512"), weights(tmp_path / "train0"), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("budget", [0, 512])
def test_gradient_checkpointing_changes_memory_only(tiny, tiny_mined, precision, budget):
    """Recomputed activations give the same gradients, with mixed precision and with gradient caching too."""
    lora = dataclasses.replace(tiny.tuning.lora, dropout=0.0)
    recipe = dataclasses.replace(tiny, tuning=dataclasses.replace(tiny.tuning, lora=lora))
    groups = read_training_groups(tiny_mined, 42, recipe)
    results = []
    for on in (False, True):
        torch.manual_seed(0)
        embedder = backbone.load(recipe, precision, "cpu")
        peft_methods.apply(embedder, recipe.tuning)
        if on:
            embedder.gradient_checkpointing_enable({"use_reentrant": False})
        settings = Training(gradient_checkpointing=on, micro_batch_tokens=budget)
        collate = Collator(groups, embedder, dataclasses.replace(recipe, training=settings), 42)
        batch = chunks_and_labels(collate([{"row": n} for n in range(6)]))
        EmbeddingLoss(embedder.train(), settings, precision)(*batch).backward()
        results.append(gradients(embedder))
    plain, recomputed = results
    assert plain and plain.keys() == recomputed.keys()
    tolerance = {"fp32": 1e-4, "bf16": 0.05}[precision]  # another kernel computes the attention
    for name, value in plain.items():
        assert torch.norm(recomputed[name] - value) <= tolerance * torch.norm(value), name


def test_the_batched_loss_equals_query_by_query(tiny, tiny_mined):
    """The loss of a batch is the mean of each query's own InfoNCE, computed without chunks and masks."""
    embedder = backbone.load(tiny, "fp32", "cpu")
    groups = read_training_groups(tiny_mined, 42, tiny)
    collate = Collator(groups, embedder, tiny, 42)
    rows = list(range(10))
    batch = chunks_and_labels(collate([{"row": row} for row in rows]))
    loss = EmbeddingLoss(embedder, Training(temperature=0.05), "fp32")(*batch).item()
    queries = encode(embedder, [groups.queries[row] for row in rows], tiny.prompts, "query", "fp32")
    passages = encode(embedder, groups.passages, tiny.prompts, "passage", "fp32")
    drawn = {row: groups.draw(row, 0, 4) for row in rows}
    pool = {p for positive, negatives in drawn.values() for p in (positive, *negatives)}
    losses = []
    for row, query in zip(rows, queries, strict=True):
        positive = drawn[row].positive
        kept = [p for p in sorted(pool) if p == positive or p not in groups.false_negatives[row]]
        scores = passages[kept] @ query / 0.05
        losses.append(np.log(np.exp(scores).sum()) - scores[kept.index(positive)])
    assert loss == pytest.approx(np.mean(losses), rel=1e-4)


def test_a_loss_that_is_not_a_number_stops(tiny, tiny_mined, tmp_path):
    """A learning rate that is far too high is refused in one line, and no finished folder is left."""
    wild = dataclasses.replace(tiny, tuning=dataclasses.replace(tiny.tuning, method="full"))
    wild = wild.replace("training", learning_rate=1e38, epochs=3)
    with refused("not a finite number", "learning_rate"):
        finetune(wild, few_rows(tiny_mined, tmp_path), tmp_path / "train")
    assert not (tmp_path / "train").exists()


def test_weights_that_never_move_stop(tiny, tiny_mined, tmp_path):
    """A learning rate too low to change a weight is refused after the first epoch."""
    frozen = tiny.replace("training", learning_rate=1e-45)
    with refused("moved none"):
        finetune(frozen, few_rows(tiny_mined, tmp_path), tmp_path / "train")
    assert not (tmp_path / "train").exists()


def test_training_on_validation_questions_is_refused(tiny, tiny_mined, tiny_collection, raw, tmp_path):
    """Training rows of one split that are validation queries of another are refused before training."""
    task = eedi.load(raw)
    collection.write(task, splits.make_split(task, "v3", seed=1), tiny.prompts, tmp_path / "v3", {})
    with refused("was trained on", "validation questions", "--allow_leak"):
        finetune(tiny, tiny_mined, tmp_path / "train", tmp_path / "v3")


def test_an_adapter_cannot_go_on_as_full_fine_tuning(trained, tiny, tiny_mined, tmp_path):
    """Full fine-tuning of an adapter checkpoint is refused."""
    full = dataclasses.replace(tiny, tuning=dataclasses.replace(tiny.tuning, method="full"))
    with refused("tuning.method full"):
        finetune(full, few_rows(tiny_mined, tmp_path), tmp_path / "train", start=trained)


@pytest.mark.slow
def test_a_killed_process_resumes_to_the_same_weights(trained, tiny_collection, tmp_path):
    """A run that gets SIGKILL in epoch 2 and is started again ends with the weights of an uninterrupted run."""
    flags = ["--recipe", "tiny-mistral", "--device", "cpu", "--data_dir", tiny_collection]
    flags += ["--train_data", trained.parent / "few.jsonl"]
    flags += ["--output_dir", tmp_path / "train", "--model_output", tmp_path]
    command = [sys.executable, SCRIPTS / "finetune.py", *flags]
    process = subprocess.Popen(command, env={**os.environ})
    epoch_one = tmp_path / "train.partial" / STATE
    deadline = time.monotonic() + 240
    while not list(epoch_one.glob(f"checkpoint-*/{COMPLETE}")) and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "train").exists()
    subprocess.run(command, check=True)
    assert all(
        torch.equal(a, b) for a, b in zip(weights(trained).values(), weights(tmp_path / "train").values(), strict=True)
    )
    assert json.loads((tmp_path / "train" / "manifest.json").read_text())["last"] == "lora_epoch_2"


def test_a_recipe_overrides_nothing_that_is_not_given():
    """An override of None leaves the recipe's value."""
    recipe = loader.load("tiny-mistral")
    assert recipe.replace("training", epochs=None) == recipe


def test_the_miner_s_lineage_counts(tiny, tiny_mined, tiny_collection, tmp_path):
    """Negatives mined by a checkpoint that was trained on the validation questions are refused."""
    data = few_rows(tiny_mined, tmp_path)
    questions = collection.read(tiny_collection).questions["validation"]
    store.write_manifest(store.file_manifest(data), mined_manifest(lineage=questions))
    with refused("was trained on", "validation questions"):
        finetune(tiny, data, tmp_path / "train", tiny_collection)


def test_a_recipe_on_top_of_a_checkpoint_inherits_its_lineage(trained, tiny):
    """A recipe whose base model is one of our checkpoints starts with that checkpoint's lineage."""
    folder = trained / "lora_epoch_2"
    base = dataclasses.replace(tiny, model=dataclasses.replace(tiny.model, name_or_path=str(folder)))
    assert checkpoint.resolve(None, base, "cpu").lineage == store.read_manifest(folder).lineage


def test_an_adapter_of_another_rank_is_refused(trained, tiny, tiny_mined, tmp_path):
    """A recipe whose rank is not the adapter's is refused, and the refusal names the difference."""
    lora = dataclasses.replace(tiny.tuning.lora, r=2)
    other = dataclasses.replace(tiny, tuning=dataclasses.replace(tiny.tuning, lora=lora))
    with refused("tuning.lora.r: 8 -> 2"):
        finetune(other, few_rows(tiny_mined, tmp_path), tmp_path / "train", start=trained)


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("g++"), reason="torch.compile needs a C++ compiler")
def test_a_compiled_model_trains_the_same_weights(tiny, tiny_mined, tmp_path):
    """A compiled model ends with the same weights, under the same names."""
    lora = dataclasses.replace(tiny.tuning.lora, dropout=0.0)
    recipe = dataclasses.replace(tiny, tuning=dataclasses.replace(tiny.tuning, lora=lora))
    for on in (False, True):
        finetune(recipe.replace("training", compile=on), few_rows(tiny_mined, tmp_path), tmp_path / str(on))
    torch.testing.assert_close(weights(tmp_path / "True"), weights(tmp_path / "False"), rtol=1e-3, atol=1e-4)
