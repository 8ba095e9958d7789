"""The Makefile, with scripts that compute nothing; `tests/pipeline/` holds the rules behind it."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.make_project import FLAGS, ROOT, copy_project, make

from rounds.pipeline import keys, settings, targets

STUB = Path(__file__).with_name("stub_script.py")


@pytest.fixture
def rehearsal(tmp_path: Path, raw: Path) -> Path:
    """A project whose scripts compute nothing, with competition data in `data/raw`."""
    project = copy_project(tmp_path, "Makefile", "pyproject.toml", "src", ".ci")
    (project / "scripts").mkdir()
    for name in keys.SCRIPTS:
        shutil.copy(STUB, project / "scripts" / f"{name}.py")
    shutil.copytree(raw, project / "data" / "raw")
    return project


def test_the_makefile_tells_the_order_and_knows_nothing_else():
    """It stays short, and holds no functions, hashes, YAML or second list of variables."""
    text = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 160
    assert not re.search(r"\$\(eval|\$\(call|\bsed\b|sha256|\?=", text)
    sections = re.findall(r"^# ---- ([a-zA-Z -]+?)(?:: .*)? -+$", text, re.MULTILINE)
    assert sections == ["set-up", "data", "rounds", "second stages", "Kaggle", "measuring", "the rest"]


def test_every_target_is_one_of_both():
    """What the Makefile passes on, the pipeline knows, and the other way round."""
    text = (ROOT / "Makefile").read_text(encoding="utf-8")
    passed_on = set(re.findall(r"^([a-z_0-9]+): .*\n\t\$\(PIPELINE\)", text, re.MULTILINE))
    assert passed_on == {*targets.TARGETS, "status"}
    assert "round%" in text


def test_the_readme_names_what_is_there():
    """Each target and variable of a command in the README and the documents exists."""
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    variables = {variable.name.upper() for variable in settings.variables()}
    for page in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))):
        for command in re.findall(r"^make .*|`make [^`]*`", page.read_text(encoding="utf-8"), re.MULTILINE):
            words = re.split(r"#|&&", command.strip("`"))[0].split()[1:]
            for name in {word.partition("=")[0] for word in words if re.match(r"[A-Z_]+=", word)}:
                assert name in variables, (page.name, command)
            if words and re.fullmatch(r"[a-z_0-9]+", words[0]):
                assert targets.is_known(words[0]) or f"\n{words[0]}:" in makefile, (page.name, command)


def test_help_lists_targets_and_variables_with_defaults(rehearsal):
    """`make` and `make help` print the same list."""
    shown = make(rehearsal, "help").stdout
    assert shown == make(rehearsal).stdout
    for name in ("roundN", "setup", "sample", "download", "data", "evaluate", "submit", "status", "bench", "clean"):
        assert f"  {name} " in shown
    for name in ("SPLIT", "MODEL", "RAW", "EPOCHS", "ROUND", "DEVICE", "NPROC", "SEED"):
        assert f"  {name} " in shown
    assert "minilm" in shown


def test_help_works_before_the_set_up(tmp_path):
    """Nothing but Python is needed to read it."""
    for name in ("Makefile", "src"):
        (tmp_path / name).symlink_to(ROOT / name)
    environment = {"PATH": f"{Path(sys.base_prefix) / 'bin'}{os.pathsep}{os.environ['PATH']}"}
    shown = subprocess.run(["make", "help"], cwd=tmp_path, capture_output=True, text=True, env=environment)
    assert shown.returncode == 0 and "  SPLIT " in shown.stdout, shown.stderr


def test_make_n_and_dry_print_the_calls_and_run_nothing(rehearsal):
    """Each line can be pasted; -n alone prints make's own call first."""
    dry = make(rehearsal, "round2", "DRY=1", *FLAGS).stdout.splitlines()
    shown = make(rehearsal, "-n", "round2", *FLAGS).stdout.splitlines()
    assert shown[1:] == dry and "rounds.pipeline round2" in shown[0]
    assert [line.split()[1] for line in dry if not line.startswith("#")].count("scripts/finetune.py") == 2
    assert not list(rehearsal.glob("model_output/*/round*"))


def test_what_make_n_prints_runs_nothing_by_itself_when_pasted(rehearsal):
    """The first line, make's own call, has no variables: in a shell without make it does nothing."""
    first = make(rehearsal, "-n", "round2", *FLAGS).stdout.splitlines()[0]
    environment = {"PATH": os.environ["PATH"]}
    pasted = subprocess.run(["bash", "-c", first], cwd=rehearsal, capture_output=True, text=True, env=environment)
    assert (pasted.returncode, pasted.stdout, pasted.stderr) == (0, "", "")
    assert not (rehearsal / "model_output").exists()


def test_a_round_without_a_number_is_one_line(rehearsal):
    """No built-in rule makes `round.o` of it; the line says what to type."""
    result = make(rehearsal, "round", *FLAGS, check=False)
    lines = [line for line in result.stderr.splitlines() if not line.startswith("make")]
    assert result.returncode == 2 and lines == [
        "error: round: name its number, such as make round1 (make help lists all)"
    ]


def test_seven_rounds_and_their_table(rehearsal):
    """`make round7` and ROUND=7 are rounds like any other, and -j is safe."""
    assert make(rehearsal, "-j2", "round7", "round6", *FLAGS).returncode == 0
    assert len(list(rehearsal.glob("model_output/*/round7/eval/manifest.json"))) == 1
    shown = make(rehearsal, "evaluate", "ROUND=7", *FLAGS).stdout
    assert "round7: up to date" in shown and "MAP@25" in shown


def test_values_with_blanks_survive(rehearsal):
    """FOLDS="0 1" is two folds, and TUNE_FLAGS reaches the script as its flags."""
    shown = make(rehearsal, "best", "FOLDS=0 1", "ROUND=1", "TUNE_FLAGS=--group_size 4", "DRY=1", *FLAGS).stdout
    assert "# == fold 1" in shown and "# == fold 2" not in shown and "--group_size 4" in shown


@pytest.mark.parametrize("target", ["report", "dims", "sweep", "compare", "tune_bm25", "dashboard", "brittle"])
def test_a_split_without_validation_is_refused(target, rehearsal):
    """Not "Nothing to be done": one line and exit 2."""
    result = make(rehearsal, target, "SPLIT=submission", *FLAGS, check=False)
    assert result.returncode == 2 and "no validation queries" in result.stderr and result.stdout == ""


def test_clean_keeps_what_the_pipeline_did_not_make(rehearsal):
    """The competition's data, the ledger, and a person's own folders and files stay."""
    make(rehearsal, "round1", *FLAGS)
    (rehearsal / "model_output" / "ledger.csv").touch()
    for own in ("data/mine/pairs.csv", "data/mine/validation_v1/notes.txt", "submissions/notes.txt"):
        (rehearsal / own).parent.mkdir(parents=True, exist_ok=True)
        (rehearsal / own).touch()
    make(rehearsal, "clean")
    assert [path.name for path in rehearsal.glob("model_output/*")] == ["ledger.csv"]
    assert sorted(path.name for path in rehearsal.glob("data/*")) == ["mine", "raw"]
    kept = sorted(path.name for folder in ("data/mine", "submissions") for path in (rehearsal / folder).rglob("*.*"))
    assert kept == ["notes.txt", "notes.txt", "pairs.csv"]


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["round1", "RAW=nowhere"], ["RAW=nowhere", "no such folder"]),
        (["round1", "MODEL=nothing"], ["MODEL=nothing", "no recipe"]),
        (["round1", "SPLIT=v9"], ["SPLIT=v9"]),
        (["data", "TASK=beir", "RAW="], ["TASK=beir", "RAW=DIR"]),
        (["round1", "SPLTI=v1"], ["SPLTI", "did you mean SPLIT"]),
    ],
)
def test_wrong_variables_stop_before_any_stage(rehearsal, arguments, parts):
    """A wrong path, recipe, split or name is one line that names the variable."""
    result = make(rehearsal, *arguments, check=False)
    assert result.returncode == 2
    lines = [line for line in result.stderr.splitlines() if not line.startswith("make")]
    assert len(lines) == 1 and all(part in lines[0] for part in parts), result.stderr
