"""Scores of prompts: the metric by hand, baselines against slow loops, and predictions of other rows refused."""

from io import StringIO

import numpy as np
import pandas as pd
import pytest
from helpers.tiny_task import refused

from rounds.artifacts import store
from rounds.artifacts.prompt_manifests import PromptBaselinesManifest
from rounds.data import lineage
from rounds.errors import Refused
from rounds.generation import baselines, metrics, predictions, rows, tables
from rounds.generation.predictions import Predictions
from rounds.generation.rows import PromptRow
from rounds.kaggle import prompt_submission

ROWS = [PromptRow(f"r{place}", f"a {place}", f"b {place}", f"Do {place}", f"f{place % 2}") for place in range(4)]


def embed(texts):
    """Return vectors that depend on each text alone."""
    vectors = [np.random.default_rng(list(text.encode())).normal(size=8) for text in texts]
    return np.array([vector / np.linalg.norm(vector) for vector in vectors], np.float32)


def test_the_metric_is_the_mean_cube_of_clipped_cosines():
    """Cosines 1, 0.6 and -1 score 1, 0.216 and 0."""
    truths, predicted = np.array([[1.0, 0], [1, 0], [1, 0]]), np.array([[1.0, 0], [0.6, 0.8], [-1, 0]])
    assert metrics.sharpened_cosines(truths, predicted).mean() == pytest.approx((1 + 0.216 + 0) / 3)


def test_exact_matches_and_families():
    """Case and white space do not matter; rows without a family are in no family's mean."""
    assert metrics.exact_matches(["Do it", "a"], ["do  IT\n", "b"]).tolist() == [True, False]
    assert metrics.family_means(["x", "", "x"], np.array([1.0, 9.0, 0.0])) == {"x": 0.5}


def test_the_fixed_prompt_is_that_of_a_slow_loop(monkeypatch):
    """Blocks and counts find the prompt that scores best on all rows, repeated ones included."""
    monkeypatch.setattr(baselines, "BLOCK", 3)
    prompts = [f"p{number % 7}" for number in range(20)]
    scores = {
        prompt: sum(max(0.0, float(embed([prompt])[0] @ embed([other])[0])) ** 3 for other in prompts)
        for prompt in prompts
    }
    assert baselines.fixed_prompt(prompts, embed) == max(scores, key=scores.get)


def test_the_nearest_pair_lends_its_prompt():
    """A row that repeats a training row's texts gets its prompt."""
    asked = [PromptRow("x", "a 2", "b 2"), PromptRow("y", "a 0", "b 0")]
    assert baselines.nearest_prompts(ROWS, asked, embed) == ["Do 2", "Do 0"]


def write_baseline(tmp_path, texts):
    with store.writing(tmp_path / "b", PromptBaselinesManifest(titles={"copy": "copied"}, config={})) as folder:
        predictions.write(folder / "copy", ROWS[: len(texts)], texts)
    return tmp_path / "b" / "copy"


def test_predictions_come_back_in_the_order_of_the_rows(tmp_path):
    """The file's order does not matter, and the manifest above names the baseline."""
    folder = write_baseline(tmp_path, ["w", "x", "y", "z"])
    assert predictions.read(folder, ROWS[::-1]) == Predictions("copied", ["z", "y", "x", "w"], {})


def test_predictions_by_other_programs_are_read(tmp_path):
    """Windows' line ends, a byte order mark and ids that are numbers change nothing."""
    folder, listed = write_baseline(tmp_path, ["w"]), [PromptRow("7", "a", "b"), PromptRow("08", "a", "b")]
    lines = '\ufeff{"id": 7, "prediction": "None"}\r\n{"id": "08", "prediction": "x"}\r\n'
    (folder / "predictions.jsonl").write_bytes(lines.encode())
    assert predictions.read(folder, listed).texts == ["None", "x"]


def test_predictions_without_a_manifest_are_of_unknown_origin(tmp_path):
    """They are scored under their folder's name, and the table marks them."""
    predictions.write(tmp_path / "mine", ROWS, ["a"] * 4)
    read = predictions.read(tmp_path / "mine", ROWS)
    assert read == Predictions(f"{tmp_path.name}/mine", ["a"] * 4, None)
    assert tables.score([read], ROWS, embed)[0].status == lineage.UNKNOWN


def test_predictions_of_other_rows_are_refused(tmp_path):
    """Missing rows and empty predictions are named."""
    with refused("predicts 3 rows, the split has 4", "r3 has no prediction"):
        predictions.read(write_baseline(tmp_path, ["w", "x", "y"]), ROWS)
    with refused("line 2", "id '0' appears twice"):
        (tmp_path / "b" / "copy" / "predictions.jsonl").write_text('{"id": 0, "prediction": "a"}\n' * 2)
        predictions.read(tmp_path / "b" / "copy", ROWS)
    with refused("line 2", "prediction is empty"):
        predictions.read(write_baseline(tmp_path, ["w", " ", "y", "z"]), ROWS)


def test_table_names_its_embedder_and_refuses_leaks():
    """True prompts score 1; a generator that was trained on a scored row is refused."""
    truth = Predictions("truth", [row.rewrite_prompt for row in ROWS], {}, 0.5)
    scored = tables.score([truth, Predictions("copy", ["a"] * 4, None)], ROWS, embed)
    table = tables.main_table(scored, "minilm", 4)
    assert "SCS minilm" in table.header and table.rows[0][1:] == ["1.0000", "1.0000", "", "0.5000"]
    assert lineage.UNKNOWN in table.rows[1][0]
    assert tables.family_table(scored, ROWS, "minilm").rows[0][:3] == ["f0", 2, "1.0000"]
    with pytest.raises(Refused, match="1 of the 4"):
        tables.score([Predictions("leak", ["a"] * 4, rows.row_digests(ROWS[:1]))], ROWS, embed)


def test_submissions_are_read_back_by_pandas(tmp_path):
    """Kaggle reads them with it: no prompt is then missing, and other texts are as they were predicted."""
    texts = [
        *prompt_submission.READ_AS_MISSING,
        "Sag 'nichts'",
        'a "b",c',
        "\u0627\u0643\u062a\u0628 \U0001f600",
        "007",
    ]
    prompt_submission.write({f"r{number}": text for number, text in enumerate(texts)}, None, tmp_path / "s.csv")
    read = pd.read_csv(tmp_path / "s.csv", dtype=str)["rewrite_prompt"].tolist()
    assert read == [f"{text}." for text in texts[:-4]] + texts[-4:]
    names = "\n".join(prompt_submission.READ_AS_MISSING)
    assert pd.read_csv(StringIO(f"x\n{names}"), skip_blank_lines=False)["x"].isna().all()


def test_submissions_are_checked(tmp_path):
    """The sample gives ids and order; other ids and empty prompts are refused and leave nothing."""
    sample, path = tmp_path / "sample_submission.csv", tmp_path / "s.csv"
    sample.write_text("id,rewrite_prompt\nb,x\na,x\n")
    assert prompt_submission.write({"a": 'Say "A",\nnow', "b": "B"}, sample, path) == 2
    assert path.read_text() == 'id,rewrite_prompt\nb,B\na,"Say ""A"", now"\n'
    path.unlink()
    with refused("2 ids, the predictions are 1", "b has no prediction"):
        prompt_submission.write({"a": "A"}, sample, path)
    with refused("row 2", "the prompt is empty"):
        prompt_submission.write({"a": "A", "b": " "}, sample, path)
    assert not path.exists()
