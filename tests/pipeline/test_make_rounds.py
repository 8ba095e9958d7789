"""Real rounds by make: a tiny model through every stage, killed, repeated, submitted and reported."""

import csv
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest
from helpers.make_project import FLAGS, copy_project, experiment, make

from rounds.artifacts import store


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the project."""
    return copy_project(tmp_path_factory.mktemp("project"), "Makefile", "pyproject.toml", "scripts", "src", ".ci")


@pytest.fixture(scope="module")
def own_raw(raw: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Competition CSVs that the tests may change."""
    folder = tmp_path_factory.mktemp("csv") / "tiny"
    shutil.copytree(raw, folder)
    return folder


@pytest.fixture(scope="module")
def round_one(project: Path, own_raw: Path) -> Path:
    """The project after `make round1`."""
    result = make(project, "round1", f"RAW={own_raw}", *FLAGS)
    assert all(name in result.stdout for name in ("BM25", "zero-shot", "round 1, epoch 1"))
    return project


@pytest.mark.slow
def test_a_finished_round_is_not_run_again(round_one, own_raw):
    """The same command again runs nothing, says so, and prints the table that it printed at first."""
    before = {p: p.stat().st_mtime_ns for p in round_one.glob("model_output/**/manifest.json")}
    result = make(round_one, "round1", f"RAW={own_raw}", *FLAGS)
    assert "==" not in result.stdout and "round1: up to date" in result.stdout
    assert all(name in result.stdout for name in ("BM25", "zero-shot", "round 1, epoch 1"))
    assert before == {p: p.stat().st_mtime_ns for p in round_one.glob("model_output/**/manifest.json")}


@pytest.mark.slow
def test_round_two_starts_from_round_one_and_submits(round_one, own_raw):
    """Round 2 runs without repeating round 1, continues its checkpoint, and yields a checked CSV."""
    result = make(round_one, "round2", "-j2", f"RAW={own_raw}", *FLAGS)
    assert "round 1:" not in result.stdout and "== round 2: mine" in result.stdout
    folder = experiment(round_one)
    parent = store.read_manifest(folder / "round1" / "train" / "lora_epoch_1")
    child = store.read_manifest(folder / "round2" / "train" / "lora_epoch_1")
    assert child.parent.weights == parent.weights
    result = make(round_one, "submit", "ROUND=2", f"RAW={own_raw}", *FLAGS, "DEVICE=cpu,cpu")
    assert "==" not in result.stdout
    assert "kaggle competitions submit eedi-mining-misconceptions-in-mathematics -f " in result.stdout
    (file,) = round_one.glob("submissions/*.csv")
    with open(file, newline="") as submitted, open(own_raw / "sample_submission.csv", newline="") as sample:
        rows, expected = list(csv.DictReader(submitted)), list(csv.DictReader(sample))
    assert [row["QuestionId_Answer"] for row in rows] == [row["QuestionId_Answer"] for row in expected]
    assert all(len(set(row["MisconceptionId"].split(" "))) == 25 for row in rows)
    assert file.stem in (round_one / "model_output" / "ledger.csv").read_text()


@pytest.mark.slow
def test_a_private_leaderboard_scores_a_round(project, own_raw):
    """Hold out, train, submit and score; CV and LB stand side by side, and a second look is refused."""
    make(project, "private_lb", f"RAW={own_raw}")
    (folder,) = project.glob("data/private-tiny-*")
    private = f"RAW=data/{folder.name}"
    result = make(project, "private_lb", private, "ROUND=1", *FLAGS)
    assert "LB public" in result.stdout and "== round 1: finetune" in result.stdout
    shown = make(project, "ledger").stdout
    assert "LB private" in shown and "of 1 checkpoints: Pearson too few" in shown
    again = make(project, "private_lb", private, "ROUND=1", *FLAGS, check=False)
    assert again.returncode == 2 and "scored before" in again.stderr


@pytest.mark.slow
def test_an_edited_mined_file_is_mined_again(round_one, own_raw):
    """A touched file changes nothing; an edited one is made again, after which nothing behind it is stale."""
    mined = experiment(round_one) / "round1" / "finetune_data_minedHN.jsonl"
    content = mined.read_bytes()
    os.utime(mined)
    assert "==" not in make(round_one, "round1", f"RAW={own_raw}", *FLAGS).stdout
    mined.write_bytes(content + b"{}\n")
    shown = make(round_one, "round1", f"RAW={own_raw}", *FLAGS).stdout
    assert "== round 1: mine" in shown and "finetune\n" not in shown
    assert mined.read_bytes() == content


@pytest.mark.slow
def test_a_round_made_again_is_the_same(round_one, own_raw):
    """Training and evaluation of one round, made twice, are equal byte for byte."""
    folder = experiment(round_one) / "round1"
    files = folder / "train" / "lora_epoch_1" / "adapter_model.safetensors", folder / "eval" / "metrics.json"
    before = [file.read_bytes() for file in files]
    shutil.rmtree(folder / "train")
    result = make(round_one, "round1", f"RAW={own_raw}", *FLAGS)
    assert "== round 1: finetune" in result.stdout and "== round 1: mine" not in result.stdout
    assert before == [file.read_bytes() for file in files]


@pytest.mark.slow
def test_pasted_calls_leave_what_make_finds_fresh(round_one, own_raw):
    """`make -n` in a shell, line by line: make has nothing to do afterwards."""
    flags = [f"RAW={own_raw}", *FLAGS, "SEED=5"]
    for call in make(round_one, "round1", "DRY=1", *flags).stdout.splitlines():
        subprocess.run(call, shell=True, cwd=round_one, check=True, capture_output=True)
    assert "==" not in make(round_one, "round1", *flags).stdout


@pytest.mark.slow
def test_a_stage_killed_halfway_leaves_nothing_that_looks_finished(project, own_raw):
    """Killed while it trains, `make` goes on from the mined file and ends with a whole round."""
    arguments = ["round1", "SPLIT=v3", f"RAW={own_raw}", *FLAGS]
    command = ["make", "--no-print-directory", "-o", ".venv/.setup", *arguments]
    process = subprocess.Popen(command, cwd=project, start_new_session=True, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 240
    while not list(project.glob("model_output/*-v3-*/round1/train.partial")) and time.monotonic() < deadline:
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    folder = experiment(project, "v3") / "round1"
    assert not (folder / "train").exists() and not (folder / "eval").exists()
    result = make(project, *arguments)
    assert "== round 1: mine" not in result.stdout and "round 1, epoch 1" in result.stdout
    assert (folder / "train" / "manifest.json").is_file() and not (folder / "train.partial").exists()


@pytest.mark.slow
def test_a_submission_split_trains_on_everything(project, own_raw):
    """SPLIT=submission has no validation: no evaluation, the recipe's epochs, a CSV all the same."""
    result = make(project, "submit", "SPLIT=submission", "ROUND=1", f"RAW={own_raw}", *FLAGS)
    assert "evaluate" not in result.stdout and "MAP@25" not in result.stdout
    assert list(project.glob("submissions/tiny-*-tiny-mistral-submission-*-round1.csv"))


@pytest.mark.slow
def test_a_polluted_checkpoint_is_refused_and_marked(project, own_raw):
    """A checkpoint of all data on v1 is refused with the count; with --allow_leak every number reads POLLUTED."""
    make(project, "round1", "SPLIT=submission", f"RAW={own_raw}", *FLAGS)
    make(project, "data", f"RAW={own_raw}", *FLAGS)
    (data,) = project.glob("data/tiny-*-tiny-mistral/validation_v1")
    model = experiment(project, "submission") / "round1" / "train"
    flags = ["--data_dir", str(data), "--device", "cpu", "--model_path", str(model)]
    command = [".venv/bin/python", "scripts/eval_llm_embedder.py", *flags]
    refused = subprocess.run(command, cwd=project, capture_output=True, text=True)
    count = len(store.read_json(data / "questions.json")["validation"])
    assert refused.returncode == 2 and f"trained on {count} of the {count} validation questions" in refused.stderr
    allowed = subprocess.run([*command, "--allow_leak"], cwd=project, capture_output=True, text=True)
    assert allowed.returncode == 0 and "POLLUTED" in allowed.stdout
    assert "POLLUTED" in (project / "model_output" / "ledger.csv").read_text()


@pytest.mark.slow
def test_a_sweep_ends_in_one_table_and_goes_on_where_it_was(round_one, own_raw):
    """A round of each recipe, with chance, BM25 and zero-shot; what was trained before is not trained again."""
    mine = round_one / "mine.yaml"
    mine.write_text("extends: tiny-mistral\ntuning: {method: bottleneck}\n", encoding="utf-8")
    make(round_one, "round1", f"RAW={own_raw}", *FLAGS)
    arguments = ["sweep", "RECIPES=tiny-mistral mine.yaml", f"RAW={own_raw}", *FLAGS]
    result = make(round_one, *arguments)
    assert "== round 1: mine" in result.stdout.partition("== sweep: mine.yaml")[2]
    assert "==" not in result.stdout.partition("== sweep: mine.yaml")[0].replace("== sweep", "")
    (file,) = round_one.glob("model_output/sweep-tiny-*-v1.md")
    table = file.read_text(encoding="utf-8").splitlines()
    assert [line.split(" | ")[1] for line in table[2:7]] == ["chance", "BM25", "zero-shot", "tiny-mistral", "mine"]
    again = make(round_one, *arguments)
    assert "round 1" not in again.stdout.replace("round 1, epoch", "")


@pytest.mark.slow
def test_compare_and_dims_read_what_rounds_left(round_one, own_raw):
    """Tables of all metrics and of cut vectors; without RUNS, one line says what to name."""
    name = experiment(round_one).name
    make(round_one, "round1", f"RAW={own_raw}", *FLAGS)
    result = make(round_one, "compare", f"RUNS={name}/round1", f"RAW={own_raw}", *FLAGS)
    assert all(part in result.stdout for part in ("chance", "HitRate@100", "model_output/compared-tiny-", ".tex"))
    result = make(round_one, "dims", "ROUND=1", f"RAW={own_raw}", *FLAGS)
    assert "index" in result.stdout and "+" in result.stdout
    result = make(round_one, "compare", f"RAW={own_raw}", *FLAGS, check=False)
    assert result.returncode == 2 and "RUNS" in result.stderr


@pytest.mark.slow
@pytest.mark.parametrize("call", [("brittle", "ROUND=1"), ("tokens",), ("fit_batch",), ("tune_bm25",)])
def test_probes_print_a_table(call, round_one, own_raw):
    """Each reads the split's texts, and the round's checkpoint where it needs one."""
    result = make(round_one, *call, f"RAW={own_raw}", *FLAGS)
    assert "───" in result.stdout


@pytest.mark.slow
def test_pairs_run_a_round_without_any_data(project):
    """`TASK=pairs` generates its sample and goes through a round; no folder of Eedi's is touched."""
    result = make(project, "round1", "TASK=pairs", *FLAGS)
    assert "pairs.csv" in result.stdout and "round 1, epoch 1" in result.stdout
    assert not (project / "data" / "sample").exists()


@pytest.fixture(scope="module")
def folded_raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Enough generated questions for two folds of v5."""
    from rounds.data.synthetic import maths

    folder = tmp_path_factory.mktemp("folded") / "folded"
    folder.mkdir()
    maths.generate(folder, questions=150, test_questions=8, seed=0)
    return folder


def _evaluated(project: Path, split: str) -> list[Path]:
    """The folders of round 1 on a split."""
    return [path.parent for path in project.glob(f"model_output/*-{split}-*/round1/eval")]


def _tables(project: Path) -> set[Path]:
    """The tables over folds that `make cv` and `make best` wrote, of whatever settings."""
    return set(project.glob("model_output/cv-folded-*-tiny-mistral-*.csv"))


@pytest.mark.slow
def test_best_ends_in_a_submission_and_goes_on_where_it_was(project, folded_raw, tmp_path):
    """Rounds on folds, a table of all stages, 24 checked rows; rerankers are trained on the same folds afterwards."""
    reranker = tmp_path / "tiny-reranker.yaml"
    reranker.write_text(
        "model:\n  name_or_path: random:bert\ntraining:\n  epochs: 1\n  group_size: 3\n"
        "reranking:\n  depth: 10\n  max_length: 64\n"
    )
    flags = [f"RAW={folded_raw}", *FLAGS, "ROUND=1", "FOLDS=0 1"]
    there = _tables(project)
    shown = make(project, "best", *flags).stdout
    submission = shown.splitlines()[-1].partition(":")[0]
    rows = list(csv.DictReader((project / submission).open()))
    assert len(rows) == 24 and all(len(set(row["MisconceptionId"].split())) == 25 for row in rows)
    (file,) = _tables(project) - there
    table = file.read_text().splitlines()
    stages = [line.partition(",")[0] for line in table[1:]]
    assert stages == ["BM25", "zero-shot", "round 1", "fusion", "ensemble"] and all(name in shown for name in stages)
    stamps = {path: path.stat().st_mtime for path in project.glob("model_output/folded-*/round1/*/manifest.json")}
    assert len(stamps) == 3 + 2 + 3  # trained, evaluated, candidates
    again = make(project, "best", *flags).stdout
    assert stamps == {path: path.stat().st_mtime for path in stamps}
    assert again.splitlines()[-1] == f"{submission}: up to date" and all(name in again for name in stages)
    assert "learning curve" in again and "made from" not in again
    runs = " ".join(str(path.relative_to(project / "model_output")) for path in _evaluated(project, "v5"))
    shown = make(project, "compare", flags[0], *FLAGS, f"RUNS={runs}").stdout
    assert "2 of 4 folds of v5" in shown and "round 1" in shown and "compared-folds-folded-" in shown
    shown = make(project, "cv", *flags, f"RERANKER={reranker}").stdout
    assert "unseen prior: none; it takes 3 folds or more" in shown
    table = file.with_suffix(".md").read_text()
    ablated = ("rerank", "fusion without votes", "ensemble, reranked")
    assert all(f"| {name} |" in table for name in ablated)
    again = make(project, "best", *flags).stdout
    assert "fusion without votes" in again and file.with_suffix(".md").read_text() == table
    assert stamps == {path: path.stat().st_mtime for path in stamps}


@pytest.mark.slow
def test_best_takes_the_mean_of_training_seeds(project, folded_raw):
    """Rounds of both seeds on each fold and on all of train; the table has a row of their mean similarity."""
    flags = [f"RAW={folded_raw}", *FLAGS, "ROUND=1", "FOLDS=0 1", "TRAIN_SEEDS=42 43"]
    there = _tables(project)
    shown = make(project, "best", *flags).stdout
    assert "TRAIN_SEED=43" in shown and "means over 2 training seeds" in shown
    (file,) = _tables(project) - there
    stages = [line.partition(",")[0].strip('"') for line in file.read_text().splitlines()[1:]]
    assert stages[:3] == ["BM25", "zero-shot", "round 1"] and stages[-2:] == ["fusion", "ensemble"]
    assert '"round 1, 2 seeds"' in file.read_text() and (project / shown.splitlines()[-1].partition(":")[0]).is_file()


@pytest.mark.slow
def test_distil_ends_in_a_submission_and_its_student_is_scored_on_no_fold(project, folded_raw):
    """All training rows have a teacher's scores; again, nothing is made twice; every fold refuses the student."""
    flags, folds = [f"RAW={folded_raw}", *FLAGS, "ROUND=1"], "FOLDS=0 1"
    shown = make(project, "distil", *flags, folds).stdout
    (folder,) = project.glob("model_output/folded-*-tiny-mistral-submission-*/distil-*")
    (file,) = project.glob(f"submissions/*-{folder.name}.csv")
    rows = list(csv.DictReader(file.open()))
    assert len(rows) == 24 and all(len(set(row["MisconceptionId"].split())) == 25 for row in rows)
    assert str(file.relative_to(project)) in shown and "distilled" in shown
    taught = store.read_jsonl(folder / "finetune_data_teacher.jsonl", ("pos_scores", "neg_scores"))
    (data,) = project.glob("data/folded-*-tiny-mistral/submission/finetune_data.jsonl")
    assert len(taught) == len(data.read_text().splitlines())
    stamps = {path: path.stat().st_mtime_ns for path in project.glob("model_output/folded-*/**/*manifest.json")}
    assert "==" not in make(project, "distil", *flags, folds).stdout.partition("== all of train")[2]
    assert stamps == {path: path.stat().st_mtime_ns for path in stamps}
    run = f"RUNS={folder.parent.name}/{folder.name}"
    for fold in (0, 1):
        refused = make(project, "evaluate", *flags, run, "SPLIT=v5", f"FOLD={fold}", check=False)
        assert refused.returncode == 2 and "was trained on" in refused.stderr
    submitted = make(project, "submit", *flags, run, "SPLIT=submission").stdout
    assert str(file.relative_to(project)) in submitted


@pytest.mark.slow
def test_pseudo_labels_join_their_own_fold_alone(project, folded_raw):
    """The table and the file are there; the fold that they were made for takes them, another one refuses them."""
    flags = [f"RAW={folded_raw}", *FLAGS, "SPLIT=v5"]
    choice = ["FOLD=1", "FOLDS=0 1", "ROUND=1", "MIN_PRECISION=0"]
    shown = make(project, "pseudo_label", *flags, *choice).stdout
    (file,) = (path.relative_to(project) for path in project.glob("model_output/folded-*/round1/pseudo_labels.jsonl"))
    assert "held-out ones" in shown and f"make round1 with EXTRA={file}" in shown
    assert f"{file}: up to date" in make(project, "pseudo_label", *flags, *choice).stdout
    assert "rows join the training queries" in make(project, "data", *flags, "FOLD=1", f"EXTRA={file}").stdout
    refused = make(project, "data", *flags, "FOLD=0", f"EXTRA={file}", check=False)
    assert refused.returncode == 2 and "FOLD=1" in refused.stderr


SEEING = {
    "beside": "  name_or_path: random:bert\n  vision:\n    name_or_path: model_output/vision-tiny\n",
    "joint": "  name_or_path: random:qwen3_vl\n  pooling: last_token\n  vision: {join: joint, image_size: 32}\n",
}


@pytest.mark.slow
@pytest.mark.parametrize("seeing", SEEING)
def test_a_round_on_pictures(seeing, project, tmp_path):
    """A tower is pretrained first and once; tables have rows on words and pictures alone; the report shows pictures."""
    from rounds.data.synthetic import places

    (raw := tmp_path / f"places-{seeing}").mkdir()
    places.generate(raw, places=12, captions=40)
    recipe = tmp_path / f"tiny-{seeing}.yaml"
    recipe.write_text(
        f"model:\n{SEEING[seeing]}"
        "mining:\n  range_for_sampling: 0-20\n  negative_number: 4\n  negatives: {dense: 0.5, pictures: 0.5}\n"
        "training:\n  epochs: 1\n  group_size: 3\n"
        "pretraining:\n  image_size: 32\n  hidden_size: 16\n  layers: 1\n  epochs: 1\n  batch_size: 16\n"
    )
    flags = ["TASK=kbvqa", f"RAW={raw}", f"MODEL={recipe}"]
    shown = make(project, "round1", *flags).stdout
    assert ("== pretrain: vision" in shown) == (seeing == "beside")
    assert shown.index("round 1: mine") > shown.find("== pretrain: vision")
    assert "from dense" in shown and "pictures" in shown and shown.count("only)") == 4
    assert "==" not in make(project, "round1", *flags).stdout
    make(project, "report", "ROUND=1", *flags)
    (page,) = project.glob(f"model_output/report-places-{seeing}-*/report.html")
    assert "data:image/jpeg;base64," in page.read_text()
    shutil.copy(raw / "images" / "q0-0.jpg", raw / "images" / "a0.jpg")
    assert "== round 1: mine" in make(project, "round1", *flags).stdout
    (raw / "images" / "a0.jpg").write_bytes(b"")
    broken = make(project, "round1", *flags, check=False)
    assert broken.returncode == 2 and "passages row 1 (a0-year): images/a0.jpg cannot be read" in broken.stderr
