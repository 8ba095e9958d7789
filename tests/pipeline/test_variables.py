"""Variables of some targets only: others refuse them on the command line, and no target reads what it refuses."""

import shutil

import pytest

from rounds.errors import UserError
from rounds.pipeline import __main__, fold_choice, settings, targets, variables
from rounds.pipeline.session import Session
from rounds.pipeline.settings import Settings


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (["report", "RUNS=a/round1 b/round1"], "RUNS: make report does not read it; compare, average, evaluate"),
        (["rerank", "RUNS=a/round1"], "RUNS: make rerank does not read it"),
        (["sweep", "ROUND=2"], "ROUND: make sweep does not read it"),
        (["round2", "ROUND=1"], "ROUND: make round2 does not read it"),
        (["round2", "KAGGLE=1"], "KAGGLE: make round2 does not read it; submit"),
        (["evaluate", "TASKS=SciFact"], "TASKS: make evaluate does not read it; mteb does; leave it out"),
        (["candidates", "FOLDS=0 1"], "FOLDS: make candidates does not read it"),
    ],
)
def test_a_variable_that_the_target_ignores_is_one_line(arguments, part, project, capsys):
    """Nothing runs, and the line names the targets that read it."""
    assert __main__.main([*arguments, "RAW=raw"], {}) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1 and part in error


def test_a_variable_is_for_any_target_of_the_command_line():
    """`make round2 submit KAGGLE=1` names it once for both, and the environment is for whoever reads it."""
    variables.check(["KAGGLE"], ["round2", "submit"])
    with pytest.raises(UserError, match="KAGGLE: make round2 data does not read it"):
        variables.check(["KAGGLE"], ["round2", "data"])
    assert __main__.main(["round1", "RAW=nowhere", "DRY=1"], {"KAGGLE": "1", "ROUNDS_GOALS": "round1"}) == 2


def test_variables_that_shape_experiments_are_for_all_targets():
    """They choose the folders in which a target works, or how its stages run."""
    names = {variable.name for variable in settings.variables()}
    assert variables.READERS.keys() < names
    shared = {"split", "model", "task", "raw", "extra", "explanations", "epochs", "seed", "fold", "device", "engine"}
    assert not shared & variables.READERS.keys()


class Recording(Settings):
    """Settings that remember which of them are read, apart from copies with others in their place."""

    reads: set[str] = set()

    def __getattribute__(self, name: str):
        Recording.reads.add(name)
        return super().__getattribute__(name)

    __eq__, __hash__ = object.__eq__, object.__hash__  # a comparison reads nothing either

    def on(self, **changes: object) -> Settings:
        """A copy reads all."""
        reads = set(Recording.reads)
        changed = super().on(**changes)
        Recording.reads = reads
        return changed


SLOW = ("cv", "rerank")  # each fold's stages are planned anew


@pytest.mark.parametrize(
    "target", [pytest.param(name, marks=[pytest.mark.slow] * (name in SLOW)) for name in sorted(targets.TARGETS)]
)
def test_no_target_reads_what_it_refuses(target, session, project, monkeypatch):
    """What a rehearsal of the target reads of the settings is taken from its command line."""
    raw = "data/private-raw" if target == "private_lb" else "raw"
    shutil.copytree(project / "raw", project / "data" / "private-raw")
    monkeypatch.setattr(targets, "find_spec", lambda name: name)
    named = "A=minilm B=minilm TASKS=SciFact REPO=you/name RECIPES=r.yaml ROUND=1".split()
    split = "v5" if target in ("pseudo_label", *fold_choice.FOLDED_STAGES) else "v1"
    made = session(f"RAW={raw}", f"SPLIT={split}", *named, "FOLDS=0 1", target=target, is_dry=True)
    values = {variable.name: getattr(made.settings, variable.name) for variable in settings.variables()}
    recording = Recording(**values, given=made.settings.given)
    monkeypatch.setattr(Recording, "reads", set())
    try:
        targets.TARGETS[target](Session(recording, made.runner))
    except UserError as error:
        assert any(part in str(error) for part in ("RUNS", "names no vision model", "is for TASK=prompt_recovery"))
    refused = {name for name in Recording.reads if target not in variables.READERS.get(name, (target,))}
    assert refused == set()
