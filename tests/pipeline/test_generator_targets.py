"""Targets of prompt recovery's generators: which scripts they run, and what they refuse."""

import contextlib

import pytest

from rounds.errors import UserError
from rounds.pipeline import generator_stages, settings, status, targets
from tests.helpers.target_runs import last_call, ran

PROMPTS = ("TASK=prompt_recovery", "RAW=raw", "MODEL=tiny-generator", "SPLIT=v6")


def test_a_generator_is_tuned_then_writes(session):
    """Predictions are those of the tuned checkpoint; flags for tuning reach its script and name its folder."""
    assert ran(session, "predict", *PROMPTS) == ["gen_prompt_data", "tune", "predict"]
    assert ran(session, "tune", *PROMPTS) == []
    call = last_call(session, "tune", *PROMPTS, "TUNE_FLAGS=--steps 5 --method lora --rank 1")
    assert settings.read(["TASK=prompt_recovery"], {}).resolve().model == "tiny-generator"
    assert [call.value(name) for name in ("recipe", "steps", "method", "rank")] == ["tiny-generator", "5", "lora", "1"]
    assert call.value("output_dir").startswith("model_output/prompts-raw") and "tiny-generator-" in call.value(
        "output_dir"
    )
    test = last_call(session, "predict", *PROMPTS[:3], "SPLIT=submission")
    assert (test.value("side"), test.value("output_dir")[-4:]) == ("test", "test")


def test_sweep_tunes_in_each_way_and_scores_all(session):
    """A random model is tuned whole on half of the prompts, and each other way on the other half, in its own folder."""
    made = session(*PROMPTS, "TUNE_FLAGS=--steps 5 --batch_size 2", target="sweep")
    targets.run("sweep", made)
    ways = ["tune", "predict"] * 7
    assert made.runner.scripts == ["gen_prompt_data", "prompt_baselines", *ways, "prompt_brittle", "prompt_sweep"]
    tunings = [call for call in made.runner.calls if call.script == "tune"]
    assert len({call.value("output_dir") for call in tunings}) == 7
    assert [call.value("model_path") for call in tunings] == ["", *[tunings[0].value("output_dir")] * 6]
    assert [call.value("steps") for call in tunings] == ["", "5", "5", "20", "5", "5", "5"]
    assert [call.value("prompts") for call in tunings] == ["first_half", *["second_half"] * 6]
    assert [call.value("order") for call in tunings] == ["", "", "", "", "grouped", "", ""]
    default = generator_stages.swept(session(*PROMPTS).settings)
    assert "--steps 150" in default["r=16"].settings.tune_flags  # half of what the base took
    table = dict(made.runner.calls[-1].flags)
    assert (len(table["baselines"]), len(table["generators"]), len(table["joined"])) == (4, 7, 4)
    with pytest.raises(UserError, match="sweep: SPLIT=submission"):
        ran(session, "sweep", *PROMPTS[:3], "SPLIT=submission")


@pytest.mark.parametrize("target", ["sweep", "submit"])
def test_a_killed_call_goes_on(session, monkeypatch, project, target):
    """Killed behind each script in turn, a target runs each of them once, in the order of an uninterrupted call."""
    (project / "raw" / "test.csv").touch()
    arguments = (*PROMPTS, "TUNE_FLAGS=--steps 5")
    whole = session(*arguments, target=target, is_dry=True)
    targets.run(target, whole)
    call = type(whole.runner).call

    def die(self, command, is_quiet=False):
        if self.calls:
            raise KeyboardInterrupt
        call(self, command, is_quiet)

    monkeypatch.setattr(type(whole.runner), "call", die)
    ran_scripts = []
    for _ in range(len(whole.runner.calls)):
        made = session(*arguments, target=target)
        with contextlib.suppress(KeyboardInterrupt):
            targets.run(target, made)
        ran_scripts += made.runner.calls
    assert ran_scripts == whole.runner.calls


def test_sweep_starts_from_a_real_model_itself(session, project):
    """A model that is not random has no base to be tuned first."""
    (project / "real.yaml").write_text("extends: tiny-generator\nmodel: {name_or_path: ./model}\n", encoding="utf-8")
    made = session(*PROMPTS[:2], "SPLIT=v6", "MODEL=real.yaml", target="sweep")
    targets.run("sweep", made)
    assert [call.value("model_path") for call in made.runner.calls if call.script == "tune"] == [""] * 6


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ("--tokens 4", "--tokens is what make sweep sets"),
        ("--steps few", "--steps few is not a whole number from 1"),
        ("--steps 0", "--steps 0 is not"),
    ],
)
def test_sweep_refuses_flags_that_it_sets(session, flags, message):
    """TUNE_FLAGS that would make all ways the same are refused before anything runs."""
    with pytest.raises(UserError, match=message):
        ran(session, "sweep", *PROMPTS, f"TUNE_FLAGS={flags}")


def test_rows_shorten_the_validation_side(session):
    """ROWS reaches the split, whose folder and results are then others."""
    call = last_call(session, "data", *PROMPTS, "ROWS=7")
    assert call.value("validation_rows") == "7"
    assert call.value("output_dir") != last_call(session, "data", *PROMPTS).value("output_dir")


def test_status_shows_the_generators_stages(session):
    """Rows, baselines, the base that a method starts from, the generator and its predictions have a state each."""
    arguments = (*PROMPTS, "TUNE_FLAGS=--method lora")
    ran(session, "predict", *arguments)
    table = status.table(session(*arguments).experiment)
    names, states, _ = (list(column.cells) for column in table.columns)
    assert names == ["data", "baselines", "tune", "tune", "predict: validation"]
    assert ["missing" in state for state in states] == [False, True, False, False, False]
    assert "tiny-generator-" in table.title


def test_brittle_takes_the_tuned_generator(session):
    """It is tuned first where it is missing."""
    assert ran(session, "brittle", *PROMPTS) == ["gen_prompt_data", "tune", "prompt_brittle"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("MODEL=minilm",), "MODEL=minilm: recipe 'minilm': is an embedder's; recipes of generators are"),
        (("MODEL=none.yaml",), "MODEL=none.yaml: no recipe none.yaml"),
        (("TUNE_FLAGS=--epochs 3",), "TUNE_FLAGS=--epochs 3: --epochs is not one of --steps"),
    ],
)
def test_what_a_generator_is_not_tuned_with_is_refused(session, arguments, message):
    """The line names the variable, before any stage runs."""
    with pytest.raises(UserError, match=message):
        ran(session, "tune", *PROMPTS, *arguments)


def test_generators_are_for_prompt_recovery(session):
    """Other tasks have no generator, and the line says what they have."""
    with pytest.raises(UserError, match="tune: is for TASK=prompt_recovery; make round1 fine-tunes an embedder"):
        ran(session, "tune")
