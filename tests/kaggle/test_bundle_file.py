"""bundle.json: written as ever, and a broken one is named in one line by those who read it."""

import pytest
from helpers.tiny_task import refused

from rounds.artifacts import store
from rounds.kaggle import bundle_file, notebook
from rounds.kaggle.bundle_file import BUNDLE, BundleFile
from rounds.kaggle.client import Client, push_submission

CONTENT = {
    "submission": "größe-v1-round2",
    "competition": "titanic",
    "split": "v1",
    "seed": 42,
    "fold": 0,
    "wheel": "rounds-0.1.0-py3-none-any.whl",
}

BROKEN = [
    *(({key: value for key, value in CONTENT.items() if key != name}, f"key {name!r} is missing") for name in CONTENT),
    ({**CONTENT, "seed": "42"}, "key 'seed' is \"42\""),
    ({**CONTENT, "fold": True}, "key 'fold' is true"),
    ({**CONTENT, "submission": None}, "key 'submission' is null"),
    ({**CONTENT, "whel": "x"}, "key 'whel' is unknown; did you mean 'wheel'?"),
    ([CONTENT], "not a JSON object"),
]


def test_the_file_has_its_keys_in_order(tmp_path):
    """Names first, then the split, then the wheel; it comes back as it was written."""
    bundle_file.write(tmp_path, BundleFile(**CONTENT))
    store.write_json(tmp_path / "expected.json", CONTENT)
    assert (tmp_path / BUNDLE).read_bytes() == (tmp_path / "expected.json").read_bytes()
    assert bundle_file.read(tmp_path) == BundleFile(**CONTENT)


def test_the_number_of_folds_comes_back(tmp_path):
    """A notebook draws fold 9 of 10 as the bundle's maker did."""
    bundle_file.write(tmp_path, BundleFile(**{**CONTENT, "fold": 9}, n_folds=10))
    assert bundle_file.read(tmp_path).n_folds == 10


@pytest.mark.parametrize(("content", "part"), BROKEN, ids=lambda value: str(value)[-40:])
def test_a_broken_file_is_one_line(content, part, tmp_path):
    """File and key are named, and the line says what to do."""
    store.write_json(tmp_path / BUNDLE, content)
    with refused(tmp_path / BUNDLE, part, "make the bundle again"):
        bundle_file.read(tmp_path)


def test_half_a_file_is_one_line(tmp_path):
    """So is a file that an interrupted copy left."""
    bundle_file.write(tmp_path, BundleFile(**CONTENT))
    path = tmp_path / BUNDLE
    path.write_bytes(path.read_bytes()[:40])
    with refused(path, "not valid JSON"):
        bundle_file.read(tmp_path)


def test_the_notebook_refuses_a_broken_file(tmp_path):
    """Before it loads the checkpoint."""
    (tmp_path / "input").mkdir()
    (tmp_path / "input" / "misconception_mapping.csv").touch()
    store.write_json(tmp_path / "input" / BUNDLE, {})
    with refused(tmp_path / "input" / BUNDLE, "'submission' is missing"):
        notebook.run_notebook(tmp_path)
    assert not (tmp_path / "working").exists()


@pytest.mark.parametrize(
    ("name", "part"),
    [(BUNDLE, "'submission' is missing"), ("dataset-metadata.json", "no id"), ("kernel-metadata.json", "no id")],
)
def test_a_push_of_a_broken_bundle_runs_no_command(name, part, tmp_path):
    """The names that go to Kaggle are read before its client is called."""
    commands = []
    bundle_file.write(tmp_path, BundleFile(**CONTENT))
    for metadata in ("dataset-metadata.json", "kernel-metadata.json"):
        store.write_json(tmp_path / metadata, {"id": "someone/x"})
    store.write_json(tmp_path / name, {})
    with refused(tmp_path / name, part, "make the bundle again"):
        push_submission(Client(dry=True, show=commands.append), tmp_path, tmp_path)
    assert not commands
