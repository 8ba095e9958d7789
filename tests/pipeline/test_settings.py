"""Settings: defaults, kinds, bounds, and one line for what a person got wrong."""

import subprocess
import sys

import pytest

from rounds.errors import UserError
from rounds.pipeline import help, settings


def read(*arguments, environment=None, target="", root=None):
    given = settings.read(arguments, environment or {})
    return given.resolve(target, root) if root else given


def test_defaults_are_those_of_the_readme():
    """Without any variable, round 2 of minilm on split v1 is meant."""
    given = read()
    assert (given.split, given.model, given.round, given.seed) == ("v1", "minilm", 2, 42)
    assert given.epochs is None and given.folds == (0, 1, 2, 3) and len(given.recipes) == 9


def test_an_argument_comes_before_the_environment():
    """NAME=value on the command line wins; an empty value means the default."""
    environment = {"SPLIT": "v3", "SEED": "7", "MODEL": " "}
    given = read("SPLIT=v5", environment=environment)
    assert (given.split, given.seed, given.model) == ("v5", 7, "minilm")


@pytest.mark.parametrize(
    ("argument", "name", "value"),
    [
        ("SPLIT=3", "split", "v3"),
        ("EPOCHS= 1 ", "epochs", 1),
        ("FOLDS=0 1", "folds", (0, 1)),
        ("RECIPES=a b.yaml", "recipes", ("a", "b.yaml")),
        ("RUNS= x/round1  y/round1 ", "runs", ("x/round1", "y/round1")),
        ("KAGGLE=1", "kaggle", True),
        ("KAGGLE=0", "kaggle", False),
        ("HOURS=3", "hours", 3.0),
        ("TUNE_FLAGS=--group_size 4", "tune_flags", "--group_size 4"),
        ("ROUND=7", "round", 7),
        ("MINE_FLAGS=--x a=b", "mine_flags", "--x a=b"),
        ("DEVICE=cuda:0,cuda:1", "device", "cuda:0,cuda:1"),
        ("DEVICE=cpu,cpu", "device", "cpu,cpu"),
        ("CLUSTER=auto", "cluster", "auto"),
        ("SHARDS=s3://bucket/shards", "shards", "s3://bucket/shards"),
        ("HOSTS=gpu-1, gpu-2", "host_names", ("gpu-1", "gpu-2")),
        ("CLUSTER=gpu-1.local:6379", "cluster", "gpu-1.local:6379"),
        ("ROUND=100", "round", 100),
        ("FOLD=3", "fold", 3),
    ],
)
def test_values_have_their_kinds(argument, name, value):
    """Blanks around a value are stripped, those within it survive; numbers and lists are typed."""
    assert getattr(read(argument), name) == value


@pytest.mark.parametrize(
    ("argument", "parts"),
    [
        ("SPLIT=v9", ["SPLIT=v9", "v1"]),
        ("CLUSTER=10.0.0.1", ["CLUSTER=10.0.0.1", "HOST:PORT"]),
        ("SHARDS=shards", ["SHARDS=shards", "s3://bucket/folder"]),
        ("HOSTS=gpu-1,gpu-1", ["HOSTS=gpu-1,gpu-1", "each machine once"]),
        ("HOSTS=gpu-1", ["HOSTS=gpu-1", "HOST,HOST", "@HOSTFILE", "slurm"]),
        ("LAUNCH_BY=ssh", ["LAUNCH_BY=ssh", "{host}"]),
        ("LAUNCH_BY=ssh '{host}", ["LAUNCH_BY=ssh", "split into words", "close each quote"]),
        ("EXTRA=a.csv,,b.csv", ["EXTRA=a.csv,,b.csv", "FILE,FILE"]),
        ("EXTRA=a.csv,a.csv", ["EXTRA=", "each file once"]),
        ("SPLIT=submision", ["did you mean submission"]),
        ("TASK=eddi", ["TASK=eddi", "did you mean eedi"]),
        ("NPROC=0", ["NPROC=0", "at least 1"]),
        ("ROUND=-1", ["ROUND=-1", "at least 0"]),
        ("SPLIT=oficial", ["SPLIT=oficial", "official"]),
        ("EPOCHS=two", ["EPOCHS=two", "whole number"]),
        ("FOLDS=0 x", ["FOLDS=0 x", "'x'"]),
        ("HOURS=nan", ["HOURS=nan"]),
        ("KAGGLE=yes", ["KAGGLE=yes"]),
        ("SPLT=v1", ["SPLT", "did you mean SPLIT"]),
        ("KAGGLE_PYTHN=3.12", ["did you mean KAGGLE_PYTHON"]),
        ("ENGINE=faiss", ["ENGINE=faiss", "rounds, flagembedding"]),
        ("ROUND=1200", ["ROUND=1200", "at most 100"]),
        ("FOLD=-1", ["FOLD=-1", "at least 0"]),
        ("SEED=4294967296", ["SEED=4294967296", "at most 4294967295"]),
        ("TRAIN_SEED=4294967296", ["TRAIN_SEED=4294967296", "at most 4294967295"]),
        ("TRAIN_SEEDS=1 4294967296", ["TRAIN_SEEDS=1 4294967296", "at most 4294967295"]),
        ("N_FOLDS=1", ["N_FOLDS=1", "at least 2"]),
        ("FOLDS=0 0", ["FOLDS=0 0", "names one twice"]),
        ("FIELDS=a", ["FIELDS=a", "query,positive"]),
        ("FIELDS=a,b,c,d", ["FIELDS=a,b,c,d", "query,positive"]),
        ("FIELDS=a,,c", ["FIELDS=a,,c", "query,positive"]),
        ("FOLDS=0 00", ["FOLDS=0 00", "names one twice"]),
        ("PORT=70000", ["PORT=70000", "at most 65535"]),
        ("DEVICE=cudda", ["DEVICE=cudda", "cpu, cuda or cuda:N"]),
        ("DEVICE=cuda:0,cpu", ["DEVICE=cuda:0,cpu", "of one kind"]),
        ("DEVICE=cuda:", ["DEVICE=cuda:", "cpu, cuda or cuda:N"]),
        ('MINE_FLAGS=--range_for_sampling "2-50', ["MINE_FLAGS=--range", "close each quote"]),
        ("TUNE_FLAGS=--group_size '4", ["TUNE_FLAGS=--group_size '4", "close each quote"]),
    ],
)
def test_a_wrong_value_or_name_is_one_line(argument, parts):
    """The line names the variable, and the nearest right one for a name that nothing reads."""
    with pytest.raises(UserError) as caught:
        read(argument)
    assert "\n" not in str(caught.value) and all(part in str(caught.value) for part in parts)


@pytest.mark.parametrize("argument", ["HF_HUB_OFFLINE=1", "CUDA_VISIBLE_DEVICES=0", "ROUNDS_MODEL=x", "PY=python"])
def test_variables_of_libraries_pass(argument):
    """What a library reads may stand on make's command line."""
    assert read(argument) == read()


def test_raw_is_the_competition_once_it_is_there(tmp_path):
    """Without RAW, data/raw is taken if it holds CSVs, else the sample; a slash at the end does not count."""
    assert read(root=tmp_path).raw == "data/sample" and read(root=tmp_path).is_sample
    (tmp_path / "data" / "raw").mkdir(parents=True)
    (tmp_path / "data" / "raw" / "train.csv").touch()
    assert read(root=tmp_path).raw == "data/raw"
    assert read("RAW=data/raw/", root=tmp_path) == read("RAW=data/raw", root=tmp_path)


def test_tasks_have_defaults_of_their_own(tmp_path):
    """TASK=kbvqa has recipes that see; pairs have the sample's columns; other tasks need RAW."""
    seeing = read("TASK=kbvqa", root=tmp_path)
    assert seeing.model == "kbvqa" and len(seeing.recipes) == 8
    assert read("TASK=kbvqa", "MODEL=minilm", root=tmp_path).model == "minilm"
    assert read("TASK=pairs", root=tmp_path).fields == "question,passage,animal"
    assert read("TASK=pairs", "RAW=my.csv", root=tmp_path).fields == "query,positive"
    with pytest.raises(UserError, match="TASK=beir.*RAW=DIR"):
        read("TASK=beir", root=tmp_path)


def test_outside_questions_join_eedi_alone(tmp_path):
    """Another task has no constructs and misconceptions."""
    assert read("EXTRA= a.csv , b.csv", root=tmp_path).extra_files == ["a.csv", "b.csv"]
    with pytest.raises(UserError, match="EXTRA=a.csv: .* TASK=eedi alone, not pairs"):
        read("EXTRA=a.csv", "TASK=pairs", root=tmp_path)


@pytest.mark.parametrize("target", ["rerank", "cv", "best", "distil"])
def test_second_stages_do_less_on_the_sample(target, tmp_path):
    """One round of one epoch on two folds, unless the data are real or the person says otherwise."""
    given = read(root=tmp_path, target=target)
    assert (given.round, given.epochs, given.folds, given.tune_flags) == (1, 1, (0, 1), "--group_size 4")
    assert read("EPOCHS=3", root=tmp_path, target=target).epochs == 3
    assert read("RAW=x", root=tmp_path, target=target).folds == (0, 1, 2, 3)
    assert read(root=tmp_path, target="round1").epochs is None


def test_help_lists_every_variable_with_its_default():
    """`make help` prints what `Settings` says, and needs no third-party library for it."""
    text = "\n".join(help.lines())
    for variable in settings.variables():
        assert f"  {variable.name.upper()} " in f"{text} "
        assert settings.default_text(variable) in text
    code = (
        "import sys, rounds.pipeline.help; print([name for name in ('yaml', 'rich', 'numpy') if name in sys.modules])"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "[]"


def test_folds_are_all_of_their_number(tmp_path):
    """FOLDS are all N_FOLDS unless it is given; the sample's second stages take two of any number."""
    assert read("N_FOLDS=10", "RAW=x", root=tmp_path, target="cv").folds == tuple(range(10))
    assert read("N_FOLDS=10", "RAW=x", "FOLDS=0 9", root=tmp_path, target="cv").folds == (0, 9)
    assert read("N_FOLDS=10", root=tmp_path, target="cv").folds == (0, 1)


@pytest.mark.parametrize("target", ["rerank", "cv", "best", "distil"])
def test_second_stages_learn_from_folds_of_v5_or_v6(target, tmp_path):
    """SPLIT names v6's; without it, and for the submission, they are v5's; splits without folds are refused."""
    taken = [read(*split, root=tmp_path, target=target).fold_split for split in ([], ["SPLIT=submission"], ["SPLIT=6"])]
    assert taken == ["v5", "v5", "v6"]
    with pytest.raises(UserError, match=f"SPLIT=v1: make {target} works on the folds of v5 or v6"):
        read("SPLIT=v1", root=tmp_path, target=target)


@pytest.mark.parametrize(
    ("given", "parts"),
    [
        (["SPLIT=v5", "FOLD=7"], ["FOLD=7: N_FOLDS=4 has folds 0 to 3"]),
        (["FOLDS=0 9"], ["FOLDS=0 9: N_FOLDS=4 has folds 0 to 3"]),
        (["SPLIT=v5", "N_FOLDS=10", "FOLD=10"], ["FOLD=10: N_FOLDS=10 has folds 0 to 9"]),
        (["SPLIT=v6", "N_FOLDS=3", "FOLDS=0 3"], ["FOLDS=0 3: N_FOLDS=3 has folds 0 to 2"]),
        (["SPLIT=v6", "N_FOLDS=10", "TASK=prompt_recovery"], ["N_FOLDS=10", "TASK=prompt_recovery has 4 folds"]),
        (["N_FOLDS=10"], ["N_FOLDS=10", "SPLIT=v1 has no folds", "v5 or v6"]),
        (["SPLIT=submission", "N_FOLDS=10"], ["N_FOLDS=10", "SPLIT=submission has no folds"]),
    ],
)
def test_folds_that_are_not_there_are_refused(given, parts, tmp_path):
    """The line names the variable and the folds that there are."""
    with pytest.raises(UserError) as caught:
        read(*given, root=tmp_path, target="round1")
    assert "\n" not in str(caught.value) and all(part in str(caught.value) for part in parts)


def test_every_task_has_a_loader():
    """The settings, which import no loader, name the tasks that the loaders read."""
    from rounds.data.loaders.registry import LOADERS

    assert set(settings.TASKS) == set(LOADERS)


def test_shards_are_a_cluster_s():
    """SHARDS without CLUSTER is refused, since nothing would be written there."""
    with pytest.raises(UserError, match="SHARDS=s3://b/f: only CLUSTER's workers write shards"):
        settings.read(["SHARDS=s3://b/f"], {}).resolve()
    assert settings.read(["SHARDS=s3://b/f", "CLUSTER=auto"], {}).resolve().shards == "s3://b/f"


def test_constructs_are_the_competition_s_alone():
    """SPLIT=v6 for another task is refused before data are made."""
    with pytest.raises(UserError, match="SPLIT=v6: groups questions by ConstructId, which TASK=pairs lacks"):
        settings.read(["SPLIT=6", "TASK=pairs"], {}).resolve()
    assert settings.read(["SPLIT=6"], {}).resolve().split == "v6"
