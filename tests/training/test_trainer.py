"""Training: a killed run ends like an uninterrupted one, and a dead one says so."""

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
from helpers.tiny_task import chunks_and_labels, refused
from helpers.training import few_rows, finetune
from safetensors.torch import load_file

from rounds.artifacts import store
from rounds.config import loader
from rounds.config.recipe import Training
from rounds.data import collection
from rounds.encoding.encoder import encode
from rounds.models import backbone, checkpoint, peft_methods, weights_io
from rounds.training.callbacks import EpochCheckpointCallback
from rounds.training.collator import Collator
from rounds.training.dataset import read_training_groups
from rounds.training.loss_module import EmbeddingLoss
from rounds.training.plan import COMPLETE, STATE

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "lora_epoch_2" / weights_io.ADAPTER_WEIGHTS)


@pytest.fixture(scope="module")
def trained(tiny, tiny_mined, tiny_collection, tmp_path_factory) -> Path:
    """Round 1 of a few rows, trained without interruption."""
    folder = tmp_path_factory.mktemp("round1")
    finetune(tiny, few_rows(tiny_mined, folder), folder / "train", tiny_collection)
    return folder / "train"


def test_each_epoch_leaves_a_checkpoint_with_its_evaluation(trained):
    """An adapter folder, a manifest and metrics per epoch; best and last are named; nothing of the Trainer is left."""
    manifest = store.read_manifest(trained)
    assert [each["folder"] for each in manifest["epochs"]] == ["lora_epoch_1", "lora_epoch_2"]
    assert manifest["last"] == manifest["continue_with"] == "lora_epoch_2"
    best = max(manifest["epochs"], key=lambda each: each["metrics"]["MAP@25"])
    assert manifest["best"] == best["folder"]
    for name in ("lora_epoch_1", "lora_epoch_2"):
        assert store.read_manifest(trained / name)["kind"] == "checkpoint"
        assert store.read_json(trained / name / "metrics.json")["queries"] > 0
    assert not list(trained.parent.glob("*.partial")) and not (trained / STATE).exists()


def test_first_batches_differ_between_epochs_and_seeds(trained, tiny, tiny_mined, tmp_path):
    """What came first is kept: another order each epoch and seed, the same for one seed."""

    def first(folder: Path) -> list[list[int]]:
        return [store.read_manifest(folder / f"lora_epoch_{epoch}")["first_rows"] for epoch in (1, 2)]

    for name, seed in (("again", 42), ("other", 7)):
        finetune(tiny, few_rows(tiny_mined, tmp_path), tmp_path / name, seed=seed)
    assert first(trained)[0] != first(trained)[1] and len(first(trained)[0]) == tiny.training.batch_size
    assert first(tmp_path / "again") == first(trained)
    assert all(one != other for one, other in zip(first(tmp_path / "other"), first(trained), strict=True))


def test_the_run_of_an_epoch_is_what_a_reload_would_give(trained, tiny_collection):
    """Vectors kept while training equal those of the checkpoint loaded again."""
    source = checkpoint.resolve(str(trained), device="cpu")
    texts = list(collection.read(tiny_collection).validation.values())
    found = encode(source.load(), texts, source.recipe.prompts, "query", source.precision)
    (kept,) = (trained / "lora_epoch_2" / "runs").glob("validation-*/vectors.npy")
    np.testing.assert_allclose(np.load(kept), found, atol=1e-6)


def test_same_inputs_give_the_same_weights(trained, tiny, tiny_mined, tiny_collection, tmp_path):
    """Training again from the same inputs gives the same bytes."""
    finetune(tiny, few_rows(tiny_mined, tmp_path), tmp_path / "train", tiny_collection)
    for name in ("lora_epoch_1", "lora_epoch_2"):
        file = Path(name) / weights_io.ADAPTER_WEIGHTS
        assert (trained / file).read_bytes() == (tmp_path / "train" / file).read_bytes()


def test_another_seed_gives_other_weights(trained, tiny, tiny_mined, tmp_path):
    """The seed reaches the order of the data and the adapter's start."""
    finetune(tiny, few_rows(tiny_mined, tmp_path), tmp_path / "train", seed=7)
    assert not all(
        torch.equal(a, b) for a, b in zip(weights(trained).values(), weights(tmp_path / "train").values(), strict=True)
    )


def test_a_run_stopped_after_an_epoch_resumes_and_ends_alike(
    trained, tiny, tiny_mined, tiny_collection, tmp_path, monkeypatch
):
    """Stopped within epoch 2, it goes on from epoch 1 and ends with the weights of an uninterrupted run."""
    keep = EpochCheckpointCallback.on_step_end

    def stop(self, args, state, control, **kwargs):
        keep(self, args, state, control, **kwargs)
        if state.epoch > 1.4:
            raise KeyboardInterrupt

    data = few_rows(tiny_mined, tmp_path)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(EpochCheckpointCallback, "on_step_end", stop)
        finetune(tiny, data, tmp_path / "train", tiny_collection)
    assert not (tmp_path / "train").exists() and (tmp_path / "train.partial" / "lora_epoch_1").is_dir()
    (tmp_path / "train.partial" / STATE / "checkpoint-999").mkdir()  # a state that was cut off
    finetune(tiny, data, tmp_path / "train", tiny_collection)
    assert all(
        torch.equal(a, b) for a, b in zip(weights(trained).values(), weights(tmp_path / "train").values(), strict=True)
    )
    assert len(store.read_manifest(tmp_path / "train")["epochs"]) == 2


def test_a_stopped_run_of_another_configuration_is_not_continued(trained, tiny, tiny_mined, tiny_collection, tmp_path):
    """What a killed run with other flags left is thrown away, not mixed in."""
    partial = tmp_path / "train.partial"
    (partial / "lora_epoch_7").mkdir(parents=True)
    store.write_json(partial / "lora_epoch_7" / "metrics.json", {"MAP@25": 1.0})
    store.write_json(partial / "config.json", {"seed": 1})
    finetune(tiny, few_rows(tiny_mined, tmp_path), tmp_path / "train", tiny_collection)
    assert len(store.read_manifest(tmp_path / "train")["epochs"]) == 2
    assert all(
        torch.equal(a, b) for a, b in zip(weights(trained).values(), weights(tmp_path / "train").values(), strict=True)
    )


def test_a_finished_run_is_not_repeated(trained, tiny, tiny_mined, tiny_collection):
    """The same call again does nothing."""
    before = (trained / store.MANIFEST).stat().st_mtime_ns
    line = finetune(tiny, trained.parent / "few.jsonl", trained, tiny_collection)
    assert "up to date" in line and (trained / store.MANIFEST).stat().st_mtime_ns == before


def test_a_finished_folder_of_another_recipe_is_refused(trained, tiny, tiny_collection):
    """A folder that holds another configuration's checkpoint is refused with the difference named."""
    other = tiny.replace("training", learning_rate=0.5)
    with refused(trained, "recipe.training.learning_rate: 0.001 -> 0.5"):
        finetune(other, trained.parent / "few.jsonl", trained, tiny_collection)


def test_round_two_continues_from_round_one(trained, tiny, tiny_mined, tiny_collection, tmp_path):
    """Its parent is round 1's checkpoint, it starts from those weights, and carries both rounds' lineage."""
    finetune(tiny, few_rows(tiny_mined, tmp_path), tmp_path / "train", tiny_collection, start=trained)
    manifest = store.read_manifest(tmp_path / "train" / "lora_epoch_2")
    parent = store.read_manifest(trained / "lora_epoch_2")
    assert manifest["parent"]["weights"] == parent["weights"] and not manifest["parent"]["base"]
    assert set(parent["lineage"]) <= set(manifest["lineage"])
    source = checkpoint.resolve(str(tmp_path / "train"), device="cpu")
    texts = ["two thirds"]
    found = encode(source.load(), texts, tiny.prompts, "query", "fp32")
    earlier = encode(checkpoint.resolve(str(trained), device="cpu").load(), texts, tiny.prompts, "query", "fp32")
    base = encode(checkpoint.resolve(None, tiny, "cpu").load(), texts, tiny.prompts, "query", "fp32")
    assert 0 < np.abs(found - earlier).max() and not np.allclose(found, base, atol=1e-3)


def test_full_fine_tuning_trains_and_continues(tiny, tiny_mined, tmp_path):
    """All weights: saved as a model folder, continued in round 2."""
    full = dataclasses.replace(tiny, tuning=dataclasses.replace(tiny.tuning, method="full"))
    data = few_rows(tiny_mined, tmp_path)
    finetune(full, data, tmp_path / "one")
    finetune(full, data, tmp_path / "two", start=tmp_path / "one")
    assert (tmp_path / "two" / "epoch_2" / "model.safetensors").is_file()
    assert (
        store.read_manifest(tmp_path / "two" / "epoch_2")["weights"]
        != store.read_manifest(tmp_path / "one" / "epoch_2")["weights"]
    )


def test_training_lowers_the_loss(tiny, tiny_mined, tmp_path):
    """On its own rows, the loss after training is below that before."""
    recipe = dataclasses.replace(tiny, tuning=dataclasses.replace(tiny.tuning, method="full")).replace(
        "training", epochs=6
    )
    data = few_rows(tiny_mined, tmp_path)
    before = mean_loss(checkpoint.resolve(None, recipe, "cpu").load(), recipe, data)
    finetune(recipe, data, tmp_path / "train")
    after = mean_loss(checkpoint.resolve(str(tmp_path / "train"), device="cpu").load(), recipe, data)
    assert after < 0.8 * before


def mean_loss(embedder, recipe, data: Path) -> float:
    rows = read_training_groups(data, 42, recipe)
    collate = Collator(rows, embedder, recipe, 42)
    batch = collate([{"row": row} for row in range(len(rows.queries))])
    with torch.no_grad():
        return float(EmbeddingLoss(embedder, Training(temperature=0.02), "fp32")(*chunks_and_labels(batch)))


@pytest.mark.parametrize("budget", [32, 200, 100_000])
@pytest.mark.parametrize("dropout", [0.0, 0.1])
def test_cached_gradients_equal_plain_ones(tiny, tiny_mined, budget, dropout):
    """Gradient caching, whatever its micro-batches, gives the loss and the gradients of one graph."""
    lora = dataclasses.replace(tiny.tuning.lora, dropout=dropout)
    recipe = dataclasses.replace(tiny, tuning=dataclasses.replace(tiny.tuning, lora=lora))
    rows = read_training_groups(tiny_mined, 42, recipe)
    found = []
    for cached in (False, True):
        torch.manual_seed(0)
        embedder = backbone.load(recipe, "fp32", "cpu")
        peft_methods.apply(embedder, recipe.tuning)
        for name, value in peft_methods.trainable_parameters(embedder).items():
            if "lora_B" in name:
                torch.nn.init.normal_(value, std=0.05)
        collate = Collator(rows, embedder, recipe.replace("training", micro_batch_tokens=budget), 42)
        how = Training(temperature=0.05, micro_batch_tokens=budget if cached else 0)
        torch.manual_seed(1)
        loss = EmbeddingLoss(embedder.train(), how, "fp32")(
            *chunks_and_labels(collate([{"row": n} for n in range(10)]))
        )
        loss.backward()
        found.append((loss.item(), {name: p.grad for name, p in peft_methods.trainable_parameters(embedder).items()}))
    (plain_loss, plain), (cached_loss, cached) = found
    assert cached_loss == pytest.approx(plain_loss, rel=1e-6)
    for name, value in plain.items():
        assert torch.norm(cached[name] - value) <= 1e-5 * torch.norm(value), name


def test_micro_batches_keep_to_their_budget(tiny, tiny_mined):
    """No chunk has more padded tokens than asked for, unless one text alone has."""
    rows = read_training_groups(tiny_mined, 42, tiny)
    embedder = backbone.load(tiny, "fp32", "cpu")
    collate = Collator(rows, embedder, tiny.replace("training", micro_batch_tokens=256), 42)
    chunks, labels = chunks_and_labels(collate([{"row": n} for n in range(10)]))
    assert all(chunk["input_ids"].numel() <= 256 or len(chunk["cu_seq_lens_q"]) <= 3 for chunk in chunks)
    assert len(labels["query_order"]) == 10 and len(chunks) > 1


def test_a_round_with_gradient_caching_ends_like_one_without(tiny, tiny_mined, tmp_path):
    """The Trainer takes the cached loss as any other: the same weights in the end."""
    lora = dataclasses.replace(tiny.tuning.lora, dropout=0.0)
    still = dataclasses.replace(tiny, tuning=dataclasses.replace(tiny.tuning, lora=lora))
    found = []
    for budget in (0, 512):
        output = tmp_path / f"train{budget}"
        finetune(still.replace("training", micro_batch_tokens=budget), few_rows(tiny_mined, tmp_path), output)
        found.append(weights(output))
    for name, value in found[0].items():
        torch.testing.assert_close(value, found[1][name], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("budget", [0, 512])
def test_gradient_checkpointing_changes_memory_only(tiny, tiny_mined, precision, budget):
    """Recomputing activations gives the gradients of keeping them, under mixed precision and gradient caching too."""
    lora = dataclasses.replace(tiny.tuning.lora, dropout=0.0)
    recipe = dataclasses.replace(tiny, tuning=dataclasses.replace(tiny.tuning, lora=lora))
    rows = read_training_groups(tiny_mined, 42, recipe)
    found = []
    for on in (False, True):
        torch.manual_seed(0)
        embedder = backbone.load(recipe, precision, "cpu")
        peft_methods.apply(embedder, recipe.tuning)
        if on:
            embedder.gradient_checkpointing_enable({"use_reentrant": False})
        how = Training(gradient_checkpointing=on, micro_batch_tokens=budget)
        collate = Collator(rows, embedder, dataclasses.replace(recipe, training=how), 42)
        batch = chunks_and_labels(collate([{"row": n} for n in range(6)]))
        EmbeddingLoss(embedder.train(), how, precision)(*batch).backward()
        found.append(
            {name: p.grad for name, p in peft_methods.trainable_parameters(embedder).items() if p.grad is not None}
        )
    assert found[0].keys() == found[1].keys() and found[0]
    tolerance = {"fp32": 1e-4, "bf16": 0.05}[precision]  # attention is computed by another kernel
    for name, value in found[0].items():
        assert torch.norm(found[1][name] - value) <= tolerance * torch.norm(value), name


def test_the_batched_loss_equals_query_by_query(tiny, tiny_mined):
    """Chunks, unique passages and masks change nothing: the loss is the mean of each query's own InfoNCE."""
    embedder = backbone.load(tiny, "fp32", "cpu")
    rows = read_training_groups(tiny_mined, 42, tiny)
    collate = Collator(rows, embedder, tiny, 42)
    numbers = list(range(10))
    found = float(
        EmbeddingLoss(embedder, Training(temperature=0.05), "fp32")(
            *chunks_and_labels(collate([{"row": n} for n in numbers]))
        )
    )
    queries = encode(embedder, [rows.queries[n] for n in numbers], tiny.prompts, "query", "fp32")
    passages = encode(embedder, rows.passages, tiny.prompts, "passage", "fp32")
    drawn = {n: rows.draw(n, 0, 4) for n in numbers}
    pool = {p for positive, negatives in drawn.values() for p in (positive, *negatives)}
    losses = []
    for n, query in zip(numbers, queries, strict=True):
        positive = drawn[n][0]
        kept = [p for p in sorted(pool) if p == positive or p not in rows.false_negatives[n]]
        scores = passages[kept] @ query / 0.05
        losses.append(np.log(np.exp(scores).sum()) - scores[kept.index(positive)])
    assert found == pytest.approx(np.mean(losses), rel=1e-4)


def test_a_loss_that_is_not_a_number_stops(tiny, tiny_mined, tmp_path):
    """A learning rate that blows the weights up ends in one clear line, and nothing looks finished."""
    wild = dataclasses.replace(tiny, tuning=dataclasses.replace(tiny.tuning, method="full"))
    wild = wild.replace("training", learning_rate=1e38, epochs=3)
    with refused("not a finite number", "learning_rate"):
        finetune(wild, few_rows(tiny_mined, tmp_path), tmp_path / "train")
    assert not (tmp_path / "train").exists()


def test_weights_that_never_move_stop(tiny, tiny_mined, tmp_path):
    """A learning rate too small to move a weight is found after the first epoch."""
    still = tiny.replace("training", learning_rate=1e-45)
    with refused("moved none"):
        finetune(still, few_rows(tiny_mined, tmp_path), tmp_path / "train")
    assert not (tmp_path / "train").exists()


def test_training_on_validation_questions_is_refused(tiny, tiny_mined, tiny_collection, raw, tmp_path):
    """Rows of another split's training part that stand in this split's validation stop before training."""
    from rounds.data import splits
    from rounds.data.loaders import eedi

    task = eedi.load(raw)
    collection.write(task, splits.make_split(task, "v3", seed=1), tiny.prompts, tmp_path / "v3", {})
    with refused("was trained on", "validation questions", "--allow_leak"):
        finetune(tiny, tiny_mined, tmp_path / "train", tmp_path / "v3")


def test_an_adapter_cannot_go_on_as_full_fine_tuning(trained, tiny, tiny_mined, tmp_path):
    """Continuing an adapter with all weights is refused rather than done by halves."""
    full = dataclasses.replace(tiny, tuning=dataclasses.replace(tiny.tuning, method="full"))
    with refused("tuning.method full"):
        finetune(full, few_rows(tiny_mined, tmp_path), tmp_path / "train", start=trained)


@pytest.mark.slow
def test_a_killed_process_resumes_to_the_same_weights(trained, tiny_collection, tmp_path):
    """SIGKILL in epoch 2, then the same command: the weights of an uninterrupted run."""
    command = [
        sys.executable, str(SCRIPTS / "finetune.py"), "--recipe", "tiny-mistral", "--device", "cpu",
        "--train_data", str(trained.parent / "few.jsonl"), "--data_dir", str(tiny_collection),
        "--output_dir", str(tmp_path / "train"), "--model_output", str(tmp_path),
    ]  # fmt: skip
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
    """Flags that are left out leave the recipe as it is."""
    recipe = loader.load("tiny-mistral")
    assert recipe.replace("training", epochs=None) == recipe


def test_a_polluted_miner_pollutes_what_it_mined_for(tiny, tiny_mined, tiny_collection, tmp_path):
    """Negatives mined by a checkpoint that saw the validation questions carry its lineage into training."""
    data = few_rows(tiny_mined, tmp_path)
    seen = collection.read(tiny_collection).questions["validation"]
    store.write_json(store.file_manifest(data), {"kind": "mined", "lineage": seen})
    with refused("was trained on", "validation questions"):
        finetune(tiny, data, tmp_path / "train", tiny_collection)


def test_a_recipe_on_top_of_a_checkpoint_inherits_its_lineage(trained, tiny):
    """Naming a checkpoint as a recipe's base model does not wash it clean."""
    folder = trained / "lora_epoch_2"
    base = dataclasses.replace(tiny, model=dataclasses.replace(tiny.model, name_or_path=str(folder)))
    assert checkpoint._base_lineage(base) == store.read_manifest(folder)["lineage"]


def test_another_lora_rank_is_not_continued_in_silence(trained, tiny, tiny_mined, tmp_path):
    """A recipe with another rank than the adapter's is refused with the difference named."""
    lora = dataclasses.replace(tiny.tuning.lora, r=2)
    other = dataclasses.replace(tiny, tuning=dataclasses.replace(tiny.tuning, lora=lora))
    with refused("tuning.lora.r: 8 -> 2"):
        finetune(other, few_rows(tiny_mined, tmp_path), tmp_path / "train", start=trained)


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("g++"), reason="torch.compile needs a C++ compiler")
def test_a_compiled_model_trains_the_same_weights(tiny, tiny_mined, tmp_path):
    """`compile` changes nothing but time, and its checkpoint has the names of any other."""
    lora = dataclasses.replace(tiny.tuning.lora, dropout=0.0)
    still = dataclasses.replace(tiny, tuning=dataclasses.replace(tiny.tuning, lora=lora))
    found = []
    for on in (False, True):
        finetune(still.replace("training", compile=on), few_rows(tiny_mined, tmp_path), tmp_path / str(on))
        found.append(weights(tmp_path / str(on)))
    assert found[0].keys() == found[1].keys()
    for name, value in found[0].items():
        torch.testing.assert_close(value, found[1][name], rtol=1e-3, atol=1e-4)
