"""Evaluate, submit and bundle of prompt recovery: which stages run, what is fresh, and what is refused."""

import pytest

from rounds.errors import UserError
from rounds.pipeline import targets
from tests.helpers.target_runs import last_call, ran

PROMPTS = ("TASK=prompt_recovery", "RAW=raw", "SPLIT=submission")
TUNED = (*PROMPTS, "MODEL=tiny-generator")


@pytest.fixture(autouse=True)
def rows(project):
    """Rows to learn from and to predict, as the stages name them; no stage here reads them."""
    for name in ("train.csv", "test.csv"):
        (project / "raw" / name).write_text(name, encoding="utf-8")


@pytest.fixture
def unnamed(session):
    """Makes sessions of a command line without MODEL."""

    def make(*arguments: str, target: str = "", is_dry: bool = False):
        made = session("MODEL=tiny-generator", *arguments, target=target, is_dry=is_dry)
        return made.on(given=made.settings.given - {"model"})

    return make


def test_evaluate_makes_the_baselines_once(session, project):
    """Called again it prints the table and makes nothing; changed rows make data and baselines stale."""
    arguments = ("TASK=prompt_recovery", "SPLIT=v6", "MODEL=tiny-generator")
    assert ran(session, "evaluate", *arguments) == ["gen_prompt_data", "prompt_baselines", "eval_prompts"]
    assert ran(session, "evaluate", *arguments) == ["eval_prompts"]
    (project / "raw" / "train.csv").write_text("other rows", encoding="utf-8")
    assert ran(session, "evaluate", *arguments) == ["gen_prompt_data", "prompt_baselines", "eval_prompts"]


def test_submit_tunes_and_predicts_what_is_missing(session, project):
    """The CSV is the generator's; called again it is written from what is there; changed rows make all stages stale."""
    stages = ["gen_prompt_data", "tune", "predict", "submit_prompts"]
    assert ran(session, "submit", *TUNED) == stages
    call = last_call(session, "submit", *TUNED)
    assert call.value("predictions").endswith("-submission/tiny-generator/test")
    assert call.value("output_file").endswith("-submission-tiny-generator.csv")
    assert call.value("competition") == "llm-prompt-recovery"
    assert ran(session, "submit", *TUNED) == ["submit_prompts"]
    (project / "raw" / "train.csv").write_text("other rows", encoding="utf-8")
    assert ran(session, "submit", *TUNED) == stages


def test_a_finished_prediction_says_so(session, capsys):
    """Nothing runs, and a line names what is up to date."""
    ran(session, "predict", *TUNED)
    capsys.readouterr()
    assert ran(session, "predict", *TUNED) == []
    assert "up to date" in capsys.readouterr().out


def test_a_generator_of_a_validated_split_may_be_submitted(session, project):
    """Its CV and LB then stand in one row of the ledger, and its predictions of test rows are not evaluated."""
    call = last_call(session, "submit", *TUNED, "SPLIT=v6")
    assert call.value("predictions").endswith("-v6/tiny-generator/test")
    for side in ("test", "validation"):
        (project / call.value("predictions")).with_name(side).mkdir(exist_ok=True)
        (project / call.value("predictions")).with_name(side).joinpath("predictions.jsonl").touch()
    scored = dict(last_call(session, "evaluate", *TUNED, "SPLIT=v6").flags)["predictions"]
    assert [folder.rpartition("/")[2] for folder in scored] == ["copy", "fixed", "nearest", "joined", "validation"]


def test_without_a_model_the_fixed_prompt_is_submitted(unnamed, capsys):
    """A line says so, and the file is named after the prompt and its embedder."""
    assert ran(unnamed, "submit", *PROMPTS) == ["gen_prompt_data", "prompt_baselines", "submit_prompts"]
    assert "no generator: MODEL names none, so the baseline 'fixed' predicts every row" in capsys.readouterr().out
    call = last_call(unnamed, "submit", *PROMPTS)
    assert call.value("predictions").endswith("/baselines-minilm/fixed")
    assert call.value("output_file").endswith("-submission-fixed-minilm.csv")
    with pytest.raises(UserError, match="submit: SPLIT=v6 .* say SPLIT=submission, or name a generator with MODEL"):
        ran(unnamed, "submit", *PROMPTS, "SPLIT=v6")


def test_bundle_takes_what_submit_takes(session, unnamed):
    """Name and competition are those of the submission; the fixed prompt comes along for rows without time."""
    stages = ["gen_prompt_data", "prompt_baselines", "tune", "bundle_prompts"]
    assert ran(session, "bundle", *TUNED) == stages
    call = last_call(session, "bundle", *TUNED, "COMPETITION=another", "BASE=a/b", "HOURS=2")
    assert call.value("model_path").endswith("/tiny-generator/train") and call.value("baseline") == ""
    names = ("competition", "base", "hours", "name", "baselines")
    competition, base, hours, name, folder = map(call.value, names)
    assert (competition, base, hours) == ("another", "a/b", "2.0") and folder.endswith("/baselines-minilm")
    assert last_call(session, "submit", *TUNED).value("output_file") == f"submissions/{name}.csv"
    assert ran(unnamed, "bundle", *PROMPTS) == ["bundle_prompts"]
    fixed, nearest = (last_call(unnamed, "bundle", *PROMPTS, f"RUNS={run}") for run in ("", "baselines-minilm/nearest"))
    assert (fixed.value("baseline"), nearest.value("baseline")) == ("fixed", "nearest")
    assert fixed.value("name") != nearest.value("name")


@pytest.mark.parametrize(
    ("target", "argument", "message"),
    [
        ("submit", "COMPETITION=eedi-mining-misconceptions-in-mathematics", "COMPETITION=eedi.*: takes no prompts"),
        ("bundle", "COMPETITION=eedi-mining-misconceptions-in-mathematics", "COMPETITION=eedi.*: takes no prompts"),
        ("bundle", "MERGED=1", "MERGED=1: .* BASE="),
        ("bundle", "RUNS=tiny-generator/test", "RUNS=tiny-generator/test: .* MODEL and no RUNS"),
        ("submit", "RAW=raw/train.csv", "raw/train.csv: has no test rows"),
    ],
)
def test_what_does_not_fit_is_refused_before_any_stage(session, target, argument, message):
    """The line names the variable."""
    made = session(*TUNED, argument, target=target)
    with pytest.raises(UserError, match=message):
        targets.run(target, made)
    assert made.runner.scripts == []
