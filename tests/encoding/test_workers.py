"""Devices: several processes encode as one does, and end as one does."""

import dataclasses
import importlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.tiny_task import refused
from transformers import HfArgumentParser

from rounds.config import loader
from rounds.encoding import run_store, workers
from rounds.encoding.checkpoint_encoder import CheckpointEncoder
from rounds.encoding.run_store import RunStore
from rounds.encoding.workers import EncodingWorker
from rounds.models import checkpoint
from rounds.models.devices import resolve_device, resolve_devices, restrict_to_one_gpu

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"
TWO = ("cpu", "cpu")
TEXTS = ["two thirds", "a longer text about adding fractions " * 9, "x", "angles in a kite", "two thirds", "x"] + [
    f"the sum of {n} and {n + 1}" * (n % 4 + 1) for n in range(20)
]


def base(name: str = "tiny-mistral", precision: str = "fp32"):
    return checkpoint.resolve(None, loader.load(name), "cpu", precision)


def ended(processes: list, seconds: float = 20) -> bool:
    """Whether all of them end within the time."""
    deadline = time.monotonic() + seconds
    while any(process.is_alive() for process in processes) and time.monotonic() < deadline:
        time.sleep(0.05)
    return not any(process.is_alive() for process in processes)


def test_two_processes_give_the_vectors_of_one(tmp_path):
    """In order, with repeats and with examples, under the same key; threads are given back, processes end."""
    before = [[f"an example {n}" * (n % 3), "another example"] for n in range(2)] * (len(TEXTS) // 2)
    one, two = (
        run_store.open_store(base(), tmp_path / "one"),
        run_store.open_store(base().with_options(devices=TWO), tmp_path / "two"),
    )
    threads = torch.get_num_threads()
    for texts, examples in ((TEXTS, None), (TEXTS, before), (["x", "x"], None)):
        expected, folder = one.vectors(texts, "query", "some", examples)
        found, other = two.vectors(texts, "query", "some", examples)
        np.testing.assert_allclose(found, expected, atol=2e-6)
        assert found.dtype == np.float32 and folder.name == other.name
    assert len(two.encoder.workers) == 1 and torch.get_num_threads() == threads
    processes = [helper.process for helper in two.encoder.workers]
    del two
    assert ended(processes)


@pytest.mark.parametrize("count", [1, 2, 3, 7])
def test_shares_hold_each_row_once_and_about_as_many_tokens(count):
    """No row is lost or doubled, a share is off by less than a row at either end, and rows that start alike meet."""
    ids = [[n % 5] * 8 + [n] * (n % 11) for n in range(60)]
    parts = workers.split_by_length(ids, count)
    assert sorted(row for part in parts for row in part) == list(range(60))
    sizes = [sum(len(ids[row]) for row in part) for part in parts]
    assert len(parts) == count and max(sizes) - min(sizes) <= 2 * max(map(len, ids))
    assert sum(len({ids[row][0] for row in part}) for part in parts) <= 5 + count - 1


def test_fewer_texts_than_devices_leave_no_share_empty():
    """Shares are as many as there are texts, at most."""
    assert workers.split_by_length([[3], [1, 2, 3, 4, 5, 6]], 5) == [[1], [0]]


@pytest.mark.parametrize(
    ("names", "parts"),
    [("cpu,cuda:0", ["cpu,cuda:0", "one kind", "cpu,cpu"]), ("cpu,", ["cpu,", "one kind"]), ("tpu,tpu", ["'tpu'"])],
)
def test_devices_that_do_not_go_together_are_refused(names, parts):
    """A list of two kinds, a list with a gap and an unknown device are one line."""
    with refused(*parts):
        resolve_devices(names)


def test_a_card_named_twice_is_refused(monkeypatch):
    """One card would hold the model twice; `cuda` is its first."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert resolve_devices("cuda,cuda:1") == ("cuda", "cuda:1")
    with refused("cuda,cuda:0", "twice"):
        resolve_devices("cuda,cuda:0")


@pytest.mark.parametrize("single", [restrict_to_one_gpu, resolve_device])
def test_training_refuses_a_list(single):
    """What runs on one device says so, and names the way to two processes."""
    with refused("cuda:0,cuda:1", "several", "NPROC=2"):
        single("cuda:0,cuda:1")


@pytest.mark.parametrize("way", ["refused", "crashed", "killed"])
def test_a_failing_process_is_one_line(way, tmp_path):
    """A helper that cannot load, that crashes or that is killed ends the whole in one line and leaves nothing."""
    source = base()
    broken = source
    if way == "refused":
        (tmp_path / "model").mkdir()
        broken = dataclasses.replace(source, folder=tmp_path / "model")
    elif way == "crashed":
        broken = source.with_options(precision="none")
    helper = EncodingWorker(broken.with_options(devices=("cpu",)), 1)
    if way == "killed":
        helper.process.kill()
    encoder = RunStore(CheckpointEncoder(source, source.load(), [helper]), tmp_path / "runs")
    line = {"refused": "cannot be loaded", "crashed": "device cpu: KeyError: 'none'", "killed": "exit code -9"}[way]
    with refused(line):
        encoder.vectors(TEXTS, "query", "some")
    assert ended([helper.process])
    assert [path.name for path in (tmp_path / "runs").iterdir()] == [".lock"]


@pytest.mark.slow
@pytest.mark.parametrize(("way", "at_work"), [("killed", True), ("interrupted", True), ("interrupted", False)])
def test_no_process_outlives_its_parent(way, at_work, tmp_path):
    """A parent that is killed, or Ctrl-C on all, ends the processes loading or at work, and they print nothing."""
    script = tmp_path / "work.py"
    script.write_text(
        "from rounds.encoding import workers\nfrom rounds.config import loader\nfrom rounds.models import checkpoint\n"
        "if __name__ == '__main__':\n"
        "    source = checkpoint.resolve(None, loader.load('tiny-mistral'), 'cpu', 'fp32')\n"
        "    source = source.with_options(devices=('cpu', 'cpu'))\n"
        "    (helper,) = workers.start_workers(source)\n"
        f"    {'' if at_work else '#'}helper.send([[1, 5, 2]] * 2_000_000)\n"
        "    print(helper.process.pid, flush=True)\n"
        "    helper.receive()\n",
        encoding="utf-8",
    )
    errors = tmp_path / "errors"
    with open(errors, "w") as file:
        command = [sys.executable, str(script)]
        parent = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=file, text=True, start_new_session=True)
        child = Path(f"/proc/{int(parent.stdout.readline())}")
        if way == "killed":
            parent.kill()
        else:
            os.killpg(parent.pid, signal.SIGINT)
        parent.wait()
    deadline = time.monotonic() + 20
    while child.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not child.exists()
    assert errors.read_text().count("Traceback") == (way == "interrupted")  # the script's own


@pytest.mark.slow
def test_mining_on_two_devices_writes_the_same_file(tiny_collection, tmp_path):
    """`--devices cpu cpu` mines what `--devices cpu` mines, and prints as much."""
    mined, printed = [], []
    for names in (["cpu"], ["cpu", "cpu"]):
        folder = tmp_path / "-".join(names)
        command = [
            sys.executable, str(SCRIPTS / "hn_mine.py"), "--recipe", "tiny-mistral", "--devices", *names,
            "--input_file", str(tiny_collection / "finetune_data.jsonl"), "--output_file", str(folder / "mined.jsonl"),
            "--model_output", str(folder),
        ]  # fmt: skip
        result = subprocess.run(command, capture_output=True, text=True)
        assert result.returncode == 0, result.stderr
        mined.append((folder / "mined.jsonl").read_text(encoding="utf-8"))
        printed.append(result.stderr + result.stdout.partition(": ")[2])
    assert mined[0] == mined[1] and printed[0] == printed[1]


@pytest.mark.parametrize(
    ("script", "flags"),
    [
        ("hn_mine", "--devices cpu cuda --input_file {0}/finetune_data.jsonl --output_file {1}/mined.jsonl"),
        ("eval_llm_embedder", "--device cpu,cuda --data_dir {0} --output_dir {1}/eval"),
        ("make_submission", "--device cpu,cuda --data_dir {0} --raw_dir {0} --output_file {1}/o.csv"),
    ],
)
def test_scripts_take_a_list_of_devices(script, flags, tiny_collection, tmp_path, monkeypatch):
    """The flag reaches the check of devices, before anything is written."""
    monkeypatch.syspath_prepend(str(SCRIPTS))
    module = importlib.import_module(script)
    (parsed,) = HfArgumentParser(module.Flags).parse_args_into_dataclasses(
        flags.format(tiny_collection, tmp_path).split()
    )
    with refused("devices cpu,cuda", "one kind"):
        module.main(parsed)
    assert not list(tmp_path.iterdir())
