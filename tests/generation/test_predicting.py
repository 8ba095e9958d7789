"""Predicting: batches change nothing, a killed call goes on, and no prediction is silently empty."""

import dataclasses
import json

import numpy as np
import pytest
import torch
from helpers.tiny_generator import make_recipe, make_rows
from helpers.tiny_task import refused

from rounds.artifacts import store
from rounds.errors import UserError
from rounds.generation import generator, minimum_risk, predictions
from rounds.generation.generator import Generator
from rounds.generation.predicting import PredictionJob, predict


def make_job(output, batch_size: int = 2, **values: object) -> PredictionJob:
    recipe = make_recipe().replace("generation", batch_size=batch_size)
    return PredictionJob(
        **{
            "source": recipe,
            "rows": make_rows(5),
            "output": output,
            "device": "cpu",
            "recipe": recipe,
            "title": "tiny",
            **values,
        }
    )


def read(folder) -> list[dict]:
    return [json.loads(line) for line in (folder / "predictions.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("method", ["full", "lora", "prompt", "prefix"])
def test_batches_of_1_and_8_write_the_same(method):
    """Padding on the left, virtual tokens and the cache change no row: a batch of 8 writes what batches of 1 do."""
    torch.manual_seed(0)
    tuned = generator.load(make_recipe(method), "cpu", trains=True)
    with torch.no_grad():
        for parameter in tuned.model.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter) * 0.3)
    contexts = [tuned.tokenization.context(row) for row in make_rows(8)]
    assert len({len(context) for context in contexts}) > 1
    assert tuned.write(contexts) == [tuned.write([context])[0] for context in contexts]


@pytest.mark.parametrize("method", ["full", "prompt", "prefix"])
def test_greedy_texts_are_those_of_a_loop_without_cache(method):
    """Generation takes the most likely next token of the training forward pass, token by token."""
    torch.manual_seed(1)
    tuned = generator.load(make_recipe(method), "cpu", trains=True)
    with torch.no_grad():
        for parameter in tuned.model.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter) * 0.3)
    tuned.model.eval()
    context = tuned.tokenization.context(make_rows(1)[0])
    ids = list(context)
    for _ in range(12):
        with torch.no_grad():
            logits = tuned.model(input_ids=torch.tensor([ids]), attention_mask=torch.ones(1, len(ids))).logits
        ids.append(int(logits[0, -1].argmax()))
        if ids[-1] == 2:
            break
    expected = tuned.tokenization.tokenizer.decode(ids[len(context) :], skip_special_tokens=True)
    assert tuned.write([context]) == [[expected]]


def test_predictions_stand_in_the_order_of_the_rows(tmp_path):
    """Rows are written longest first, and the file has them in their own order, each on one line."""
    manifest = predict(make_job(tmp_path / "out"))
    rows = read(tmp_path / "out")
    assert [row["id"] for row in rows] == [f"r{number}" for number in range(5)]
    assert all(row["prediction"] == " ".join(row["prediction"].split()) != "" for row in rows)
    assert (manifest.rows, manifest.title, manifest.step) == (5, "tiny", 0)


def test_a_killed_call_keeps_its_rows(tmp_path, monkeypatch):
    """The second call writes only the rows that the first one left, and drops a torn line."""
    predict(make_job(tmp_path / "whole"))
    write, calls = Generator.write, []

    def die(self, contexts, samples=1):
        if len(calls) == 2:
            raise KeyboardInterrupt
        calls.append(len(contexts))
        return write(self, contexts, samples)

    with monkeypatch.context() as patch:
        patch.setattr(Generator, "write", die)
        with pytest.raises(KeyboardInterrupt):
            predict(make_job(tmp_path / "killed"))
    partial = tmp_path / "killed.partial" / "predictions.jsonl"
    partial.write_text(partial.read_text() + '{"id": "r')
    monkeypatch.setattr(Generator, "write", lambda *args: calls.append(len(args[1])) or write(*args))
    predict(make_job(tmp_path / "killed"))
    assert calls == [2, 2, 1]
    assert read(tmp_path / "killed") == read(tmp_path / "whole")


def test_a_disk_that_is_full_at_the_end_loses_no_prediction(tmp_path, monkeypatch):
    """The manifest cannot be written; the next call writes it, and predicts nothing again."""
    with monkeypatch.context() as full:
        full.setattr(store, "write_manifest", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))
        with pytest.raises(OSError, match="No space"):
            predict(make_job(tmp_path / "out"))
    monkeypatch.setattr(Generator, "write", lambda *_, **__: pytest.fail("predicts again"))
    predict(make_job(tmp_path / "out"))
    assert len(read(tmp_path / "out")) == 5


def test_empty_predictions_are_counted(tmp_path, monkeypatch, capsys):
    """Where nothing is written, the fallback stands, and a line and the manifest say how often."""
    monkeypatch.setattr(Generator, "write", lambda self, contexts, samples: [[" \n"] for _ in contexts])
    manifest = predict(make_job(tmp_path / "out"))
    assert manifest.empty == 5
    assert {row["prediction"] for row in read(tmp_path / "out")} == {make_recipe().generation.fallback}
    assert "5 of 5 predictions were empty" in capsys.readouterr().out


def test_numbers_that_are_not_finite_are_refused():
    """Their most likely token would be any, so nothing is written."""
    broken = generator.load(make_recipe(), "cpu")
    broken.model.lm_head.weight.data.fill_(float("nan"))
    with refused("random:mistral_lm", "no finite numbers in fp32", "its weights may be broken"):
        broken.write([[1, 2, 3]])


def test_samples_are_chosen_by_minimum_risk(tmp_path, monkeypatch):
    """Of several texts the one most similar to the others is taken; empty ones do not count."""
    monkeypatch.setattr(Generator, "write", lambda self, contexts, samples: [["a", "b", "c", ""] for _ in contexts])
    recipe = make_recipe().replace("generation", samples=4)
    axes = {"a": [1.0, 0.0], "b": [0.8, 0.6], "c": [0.0, 1.0]}
    predict(make_job(tmp_path / "out", recipe=recipe), lambda texts: np.array([axes[text] for text in texts]))
    assert {row["prediction"] for row in read(tmp_path / "out")} == {"b"}


def test_minimum_risk_equals_a_loop():
    """The chosen text has the highest mean cube of the cosine to the others, counted pair by pair."""
    vectors = np.random.default_rng(0).normal(size=(6, 4))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    gains = [sum(max(0.0, vectors[i] @ vectors[j]) ** 3 for j in range(6) if j != i) for i in range(6)]
    assert minimum_risk.choose(list("abcdef"), lambda texts: vectors) == "abcdef"[int(np.argmax(gains))]


def test_draws_differ_and_repeat_with_the_seed():
    """Samples are drawn from torch's generator: other texts each time, the same ones from one seed."""
    tuned = generator.load(make_recipe(), "cpu")
    contexts = [tuned.tokenization.context(row) for row in make_rows(2)]
    torch.manual_seed(0)
    first = tuned.write(contexts, 3)
    torch.manual_seed(0)
    assert tuned.write(contexts, 3) == first
    assert [len(set(texts)) for texts in first] == [3, 3]


def test_other_settings_are_refused(tmp_path):
    """A folder of other rows is refused by name, and kept; the batch size does not matter."""
    predict(make_job(tmp_path / "out"))
    assert predict(make_job(tmp_path / "out", batch_size=3)) is None
    with pytest.raises(UserError, match="made from another configuration"):
        predict(make_job(tmp_path / "out", rows=make_rows(4)))


def test_predictions_of_changed_texts_are_refused(tmp_path):
    """Rows with the same ids and other texts are not scored by what was predicted before."""
    predict(make_job(tmp_path / "out"))
    assert predictions.read(tmp_path / "out", make_rows(5)).title == "tiny"
    changed = [dataclasses.replace(row, rewritten_text="other") for row in make_rows(5)]
    with refused("the texts of its rows have changed since", "predict the rows of this split anew"):
        predictions.read(tmp_path / "out", changed)


def test_a_recipe_without_room_leaves_nothing(tmp_path):
    """What cannot be predicted is refused before a folder is made."""
    recipe = make_recipe().replace("generation", max_new_tokens=95)
    with refused("leave no room for texts"):
        predict(make_job(tmp_path / "out", recipe=recipe))
    assert list(tmp_path.iterdir()) == []


def test_no_rows_are_refused(tmp_path):
    """A side without rows is refused before a model is loaded."""
    with pytest.raises(UserError, match="no rows to predict"):
        predict(make_job(tmp_path / "out", rows=[]))
