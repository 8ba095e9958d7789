"""Scripts: flags, and errors as one line with exit code 2."""

import runpy
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.scripts import SCRIPTS, assert_one_line, call

from rounds import process


@pytest.mark.parametrize(
    ("script", "flags", "parts"),
    [
        ("gen_data_for_hn_mine.py", ["--raw_dir", "nowhere"], ["nowhere", "no such folder"]),
        ("gen_data_for_hn_mine.py", ["--validation_version", "v9"], ["v9", "v1, v2"]),
        ("gen_data_for_hn_mine.py", ["--mode", "both"], ["mode 'both'"]),
        ("gen_data_for_hn_mine.py", ["--recipe", "minilmm"], ["minilmm", "minilm"]),
        ("gen_data_for_hn_mine.py", ["--explanations", "e.csv"], ["e.csv", "prompts.passage"]),
        ("hn_mine.py", ["--input_file", "no.jsonl", "--output_file", "x.jsonl"], ["no.jsonl", "no such file"]),
        ("hn_mine.py", ["--input_file", "a", "--output_file", "b"], ["a", "no such file"]),
        ("finetune.py", ["--train_data", "no.jsonl", "--output_dir", "out"], ["no.jsonl"]),
        (
            "finetune.py",
            ["--train_data", "a", "--output_dir", "out", "--epochs", "0"],
            ["training.epochs is 0", "only a reranker"],
        ),
        ("eval_llm_embedder.py", ["--data_dir", "nowhere"], ["nowhere", "no collection"]),
        ("make_submission.py", ["--data_dir", "n", "--raw_dir", "n", "--output_file", "o.csv"], ["no collection"]),
        ("compare.py", ["--runs", "nowhere"], ["nowhere"]),
        ("merge.py", ["--lora_path", "./no", "--output_dir", "o", "--data_dir", "d"], ["./no", "no such folder"]),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(script, flags, parts, tmp_path):
    """A wrong path, name or number exits with 2 and one line that names it; no file appears."""
    assert_one_line(call(script, *flags, cwd=tmp_path), *parts)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("flags", "parts"),
    [
        (["--range_for_sampling", "200"], ["200", "2-200"]),
        (["--embedder_name_or_path", "m", "--embedder_model_class", "icl"], ["embedder_model_class 'icl'"]),
        (["--recipe", "tiny-mistral", "--engine", "faiss"], ["engine 'faiss'", "flagembedding"]),
    ],
)
def test_wrong_mining_flags_are_one_line(flags, parts, tmp_path):
    """A wrong value is named before a model is loaded."""
    for name in ("in.jsonl", "candidate_pool.jsonl"):
        (tmp_path / name).touch()
    files = ["--input_file", tmp_path / "in.jsonl", "--output_file", tmp_path / "out.jsonl"]
    assert_one_line(call("hn_mine.py", *files, *flags, cwd=tmp_path), *parts)
    assert not (tmp_path / "out.jsonl").exists()


def test_an_unknown_flag_is_refused(tmp_path):
    """A misspelt flag is never ignored."""
    result = call("finetune.py", "--train_data", "a", "--output_dir", "b", "--learning_rat", "1", cwd=tmp_path)
    assert result.returncode != 0 and "learning_rat" in result.stderr


@pytest.mark.parametrize(("value", "expected"), [("False", False), ("True", True), ("0", False), (None, True)])
def test_booleans_mean_what_they_say(value, expected):
    """`--bm25=False` means false, a bare `--bm25` true."""
    from transformers import HfArgumentParser

    sys.path.insert(0, str(SCRIPTS))
    try:
        import eval_llm_embedder
    finally:
        sys.path.remove(str(SCRIPTS))
    (flags,) = HfArgumentParser(eval_llm_embedder.Flags).parse_args_into_dataclasses(
        [f"--use_examples_in_query={value}"] if value else []
    )
    assert flags.use_examples_in_query is (expected if value else None)
    flag = "--bm25" if value is None else f"--bm25={value}"
    (flags,) = HfArgumentParser(eval_llm_embedder.Flags).parse_args_into_dataclasses([flag])
    assert flags.bm25 is expected


def test_download_without_credentials_says_where_to_put_them(tmp_path):
    """One line names the token's file and variable, and no half-filled folder stays."""
    if not Path(sys.executable).with_name("kaggle").is_file():
        pytest.skip("the kaggle extra is not installed")
    env = {"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "HTTPS_PROXY": "http://127.0.0.1:9"}
    command = [sys.executable, str(SCRIPTS / "download.py"), "--output_dir", str(tmp_path / "raw")]
    result = subprocess.run(command, capture_output=True, text=True, env=env, stdin=subprocess.DEVNULL)
    assert_one_line(result, "access_token", "KAGGLE_API_TOKEN")
    assert not (tmp_path / "raw").exists()


@pytest.mark.parametrize("script", sorted(path.name for path in SCRIPTS.glob("*.py")))
def test_every_script_explains_its_flags(script, monkeypatch, capsys):
    """`--help` works and says what the stage does; run in this process, since imports are most of a script's start."""
    for name in ("quiet_libraries", "keep_freed_memory"):
        monkeypatch.setattr(process, name, lambda: None)
    monkeypatch.setattr(sys, "argv", [script, "--help"])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(SCRIPTS / script), run_name="__main__")
    assert not ended.value.code and "--" in capsys.readouterr().out


def test_an_unknown_flag_that_is_a_key_of_the_recipe_says_where_to_set_it():
    """A script takes a few keys as flags; the last line of its refusal tells how to set any other."""
    result = call("finetune.py", "--train_data", "x", "--output_dir", "y", "--recipe", "minilm", "--warmup-ratio=0.2")
    assert result.returncode == 2
    line = result.stderr.splitlines()[-1]
    assert "unknown flag --warmup-ratio=0.2; training.warmup_ratio is a key" in line and "`extends: minilm`" in line


def test_scripts_name_the_flag_for_a_recipe_where_they_have_it():
    """A script says that it takes a model's recipe exactly where it has the flag whose default is the checkpoint's."""
    scripts = {path.stem: path.read_text() for path in sorted(SCRIPTS.glob("*.py"))}
    names = {name for name, text in scripts.items() if "takes_recipe=True" in text or "resolve_epochs" in text}
    assert names == {name for name, text in scripts.items() if "RecipeOfCheckpoint" in text}
