"""scripts/tune.py and scripts/predict.py: from a split to predictions, and refusals of one line."""

import json

import pytest
from helpers import scripts
from helpers.tiny_generator import make_rows

from rounds.artifacts.prompt_manifests import PromptSplitManifest
from rounds.generation import rows
from rounds.generation.rows import Split


@pytest.mark.slow
def test_from_a_split_to_predictions(tmp_path):
    """Tuning leaves checkpoints, predicting a line for each validation row; called again, both are up to date."""
    data, train, output = tmp_path / "data", tmp_path / "train", tmp_path / "out"
    split = Split(make_rows(6), make_rows(3, 6))
    rows.write_split(split, data, PromptSplitManifest(data="d", split="v1", config={}))
    tune = ("--recipe", "tiny-generator", "--data_dir", data, "--output_dir", train, "--steps", 3, "--batch_size", 2)
    tune = (*tune, "--method", "prompt", "--tokens", 2, "--checkpoint_steps", 2, "--replace_stale", "--device", "cpu")
    result = scripts.call("tune.py", *tune)
    assert result.returncode == 0, result.stderr
    assert sorted(path.name for path in train.iterdir()) == ["manifest.json", "step_2", "step_3"]
    predict = ("--model_path", train, "--data_dir", data, "--output_dir", output, "--replace_stale", "--device", "cpu")
    result = scripts.call("predict.py", *predict)
    assert result.stdout == f"{output}: 3 predictions\n", result.stderr
    lines = [json.loads(line) for line in (output / "predictions.jsonl").read_text().splitlines()]
    assert [line["id"] for line in lines] == ["r6", "r7", "r8"]
    assert json.loads((output / "manifest.json").read_text())["title"] == "tiny-generator, prompt 2 tokens, 3 steps"
    result = scripts.call("predict.py", *predict, "--samples", 3, "--output_dir", tmp_path / "drawn")
    assert result.stdout.endswith("drawn: 3 predictions\n"), result.stderr
    brittle = ("--model_path", train, "--data_dir", data, "--output_dir", tmp_path / "brittle", "--device", "cpu")
    result = scripts.call("prompt_brittle.py", *brittle)
    assert result.returncode == 0 and "a trailing newline" in result.stdout, result.stderr
    assert len(json.loads((tmp_path / "brittle/manifest.json").read_text())["effects"]) == 3
    assert scripts.call("tune.py", *tune).stdout == f"{train}: up to date\n"
    scripts.assert_one_line(scripts.call("tune.py", *tune, "--recipe", "minilm"), "minilm", "is an embedder's")
    assert scripts.call("predict.py", *predict).stdout == f"{output}: up to date\n"
