"""Experiment: names of folders, plain for the defaults and never one for two configurations."""

import os

import pytest

from rounds.pipeline import distillation, settings
from rounds.pipeline.experiment import Experiment


@pytest.fixture(autouse=True)
def project(tmp_path, monkeypatch):
    """An empty project."""
    monkeypatch.chdir(tmp_path)


def named(*arguments: str) -> Experiment:
    return Experiment(settings.read(arguments, {}).resolve())


def test_defaults_have_plain_names():
    """The README's names: the data, the recipe, the split."""
    names = named()
    assert str(names.data) == "data/sample-minilm/validation_v1"
    assert str(names.evaluation(1)) == "model_output/sample-minilm-v1/round1/eval"
    assert str(names.mined(2)) == "model_output/sample-minilm-v1/round2/finetune_data_minedHN.jsonl"
    assert str(named("RAW=data/raw", "SPLIT=5").folder) == "model_output/raw-minilm-v5"
    assert str(named("SPLIT=submission").data) == "data/sample-minilm/submission"
    assert names.submission == "sample-minilm-v1-round2"
    assert (
        str(names.private) == "data/private-sample" and str(names.cross_validation) == "model_output/cv-sample-minilm"
    )


def test_names_that_documents_and_recipes_hold():
    """Folders that were written before keep their names, and so does the one that a packaged recipe starts from."""
    assert named("TASK=kbvqa", "MODEL=kbvqa-words").folder.name == "sample-kbvqa-kbvqa-words-v1-89836e7d"
    private = named("RAW=data/private-sample", "SPLIT=v5", "EPOCHS=1", "ROUND=1")
    assert private.submission == "private-sample-minilm-v5-41e5b1e5-round1" and private.is_private


@pytest.mark.parametrize("spell", ["./{}".format, "{}/".format, os.path.abspath])
def test_one_folder_has_one_name_however_it_is_written(spell):
    """The default's own spelling names the same experiment as others of the folder."""
    assert named(f"RAW={spell('data/raw')}").name == named("RAW=data/raw").name == "raw-minilm"
    assert named(f"RAW={spell('data/private-raw')}").is_private


@pytest.mark.parametrize(
    "changes",
    [
        ["EPOCHS=1"],
        ["SEED=7"],
        ["FOLD=1"],
        ["TRAIN_SEED=7"],
        ["TRAIN_SEED=0"],
        ["NPROC=2"],
        ["ENGINE=flagembedding"],
        ["MINE_FLAGS=--x 1"],
        ["TUNE_FLAGS=--x 1"],
        ["SPLIT=v2"],
        ["MODEL=minilm-lora"],
        ["MODEL=elsewhere/minilm.yaml"],
        ["RAW=elsewhere/sample"],
        ["EXTRA=more.csv"],
        ["EXTRA=more.csv,elsewhere/more.csv"],
        ["TASK=pairs"],
        ["TASK=pairs", "FIELDS=a,b"],
        ["TASK=beir", "RAW=data/sample"],
        ["EXPLANATIONS=e.csv"],
    ],
)
def test_what_changes_the_result_changes_the_folder(changes):
    """Every configuration has folders of its own."""
    assert named(*changes).folder != named().folder
    assert named(*changes).folder != named(*changes, "EPOCHS=2").folder


def test_tables_of_other_texts_have_other_names():
    """Explanations and outside questions tag the tables of folds and recipes, as they tag the folders."""
    variants = [named(), named("EXPLANATIONS=a.csv"), named("EXPLANATIONS=b.csv"), named("EXTRA=a.csv")]
    for path in (lambda names: names.cross_validation, distillation.table_file):
        assert len(set(map(path, variants))) == len(variants)
    for kind in ("sweep", "compared"):
        assert len({names.table(kind) for names in variants}) == len(variants)
    assert variants[0].table_tag == "" and str(variants[0].table("sweep")) == "model_output/sweep-sample-v1"
    assert str(variants[1].cross_validation) == f"model_output/cv-sample-minilm-{variants[1].table_tag}"


@pytest.mark.parametrize(
    "change", ["FOLDS=0 1 2", "ROUND=3", "SEED=7", "TRAIN_SEED=7", "TRAIN_SEEDS=7 8", "EPOCHS=3", "TUNE_FLAGS=--bf16"]
)
def test_tables_over_folds_of_other_settings_have_other_names(change):
    """No cross-validation overwrites another one's table; v5, whose folds are the default, and FOLD change nothing."""
    for path in (lambda names: names.cross_validation, distillation.table_file):
        assert path(named(change)) != path(named())
    assert named("SPLIT=v5", "FOLD=1").cross_validation == named().cross_validation
    assert str(named(change).cross_validation).endswith(named(change).cv_tag)


def test_the_number_of_folds_names_what_depends_on_it():
    """Folders of v5 and v6, tables and students of other N_FOLDS are others; those of all of train are the same."""
    for split in ("v5", "v6"):
        plain, ten = named(f"SPLIT={split}"), named(f"SPLIT={split}", "N_FOLDS=10")
        assert plain.data != ten.data and plain.folder != ten.folder
        assert plain.table("compared-folds") != ten.table("compared-folds")
        assert named(f"SPLIT={split}", "N_FOLDS=4").folder == plain.folder
    plain, ten = (named("SPLIT=v5", "FOLDS=0 1", *number) for number in ([], ["N_FOLDS=10"]))
    assert distillation.folder(plain).name != distillation.folder(ten).name
    assert plain.cross_validation != ten.cross_validation
    whole = (Experiment(names.settings.on(split="submission", fold=0)) for names in (plain, ten))
    assert len({names.folder for names in whole}) == 1


def test_folds_of_v6_name_what_depends_on_them():
    """Tables, submissions and students of v6's folds are others than v5's; the rounds on all of train are the same."""
    plain, constructs = named("SPLIT=v5"), named("SPLIT=v6")
    assert plain.cross_validation != constructs.cross_validation
    assert plain.fused_submission != constructs.fused_submission
    assert distillation.table_file(plain) != distillation.table_file(constructs)
    wholes = [Experiment(names.settings.on(split="submission", fold=0)) for names in (plain, constructs)]
    assert wholes[0].folder == wholes[1].folder and distillation.folder(wholes[0]) != distillation.folder(wholes[1])


def test_submissions_of_the_ensemble_stand_side_by_side():
    """With the defaults it is best.csv; outside questions, folds, seeds and another recipe have a file of their own."""
    changes = [[], ["EXTRA=a.csv"], ["FOLDS=0 1 2"], ["TRAIN_SEEDS=7 8"], ["SEED=7"], ["MODEL=minilm-lora"]]
    names = [named("RAW=x", *change) for change in changes]
    assert len({each.fused_submission for each in names}) == len(names)
    assert str(names[0].fused_submission) == "submissions/best.csv"
    assert names[1].fused_submission.stem == f"best-{names[1].cv_tag}"  # as the table's
    assert str(named("RAW=data/private-raw").fused_submission) == "submissions/best-private-raw.csv"


def test_all_folds_by_name_are_no_other_table():
    """FOLDS with all N_FOLDS is the default; the first four of ten are not."""
    every = [f"FOLDS={' '.join(map(str, range(number)))}" for number in (4, 10)]
    plain, all_ten, four = (named("RAW=x", "SPLIT=v5", "N_FOLDS=10", *more) for more in ([], every[1:], every[:1]))
    assert plain.cross_validation == all_ten.cross_validation != four.cross_validation


def test_the_defaults_of_the_samples_second_stages_change_no_name():
    """make report, whose own defaults are others, finds the table that make cv wrote of the sample."""
    plain, written = named(), Experiment(settings.read(["FOLDS=0 1", "ROUND=1"], {}).resolve("cv"))
    assert written.cross_validation == plain.cross_validation


def test_models_that_differ_in_the_training_seed_have_one_split():
    """TRAIN_SEED leaves the data's folder alone, and the seed that training has anyway leaves all folders alone."""
    other = named("SPLIT=v5", "TRAIN_SEED=7")
    assert other.data == named("SPLIT=v5").data and other.folder != named("SPLIT=v5").folder
    assert named("SEED=7", "TRAIN_SEED=7").folder == named("SEED=7").folder


@pytest.mark.parametrize("changes", [["DEVICE=cuda:0,cuda:1"], ["TRACK=wandb"], ["DRY=1"], ["ROUND=7"], ["PORT=1"]])
def test_where_a_stage_runs_does_not_change_the_folder(changes):
    """Training on one card and submitting on two finds the same checkpoint."""
    assert named(*changes).folder == named().folder and named(*changes).data == named().data


def test_recipes_of_one_name_in_two_folders_do_not_meet():
    """MODEL=a/r.yaml and MODEL=b/r.yaml have folders of their own, in every name that holds the recipe."""
    one, other = named("MODEL=a/r.yaml"), named("MODEL=b/r.yaml")
    for name in ("folder", "data", "submission", "report", "cross_validation"):
        assert getattr(one, name) != getattr(other, name)


def test_data_of_one_name_in_two_folders_do_not_meet():
    """RAW=x/raw and RAW=y/raw have folders of their own, and neither has that of data/raw."""
    names = [named(f"RAW={raw}") for raw in ("x/raw", "y/raw", "data/raw")]
    for name in ("folder", "data", "submission", "report", "cross_validation", "private"):
        assert len({getattr(each, name) for each in names}) == 3
    assert len({each.table("sweep") for each in names}) == 3


def test_one_path_has_one_name():
    """A path may be written relative to the project or from the root, with a slash at the end or without."""
    assert named("RAW=x/raw").folder == named(f"RAW={os.getcwd()}/x/raw/").folder
    assert named("MODEL=a/r.yaml").folder == named("MODEL=./a/../a/r.yaml").folder


def test_blanks_in_paths_stay_out_of_names():
    """A folder's name never holds a blank."""
    assert " " not in str(named("RAW=my data/raw files").folder)
