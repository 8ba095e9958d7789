"""Workers: several processes encode as one does, and end with it."""

import dataclasses
import functools
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
from helpers import scripts, slow_clock
from helpers.tiny_embedders import model
from helpers.tiny_task import refused
from transformers import HfArgumentParser

from rounds.config import loader
from rounds.encoding import batching, run_store, workers
from rounds.encoding.checkpoint_encoder import CheckpointEncoder
from rounds.encoding.encoder import EncodingOptions, encode, encode_ids
from rounds.encoding.run_store import RunStore
from rounds.encoding.tokenization import tokenize
from rounds.encoding.workers import EncodingWorker
from rounds.models import checkpoint
from rounds.models.checkpoint import Checkpoint
from rounds.models.devices import resolve_device, resolve_devices, restrict_to_one_gpu

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"
TWO = ("cpu", "cpu")
TEXTS = ["two thirds", "a longer text about adding fractions " * 9, "x", "angles in a kite", "two thirds", "x"] + [
    f"the sum of {n} and {n + 1}" * (n % 4 + 1) for n in range(20)
]

ROWS = [[n % 5] * 8 + [n] * (n % 11) for n in range(60)]  # 5 groups of rows that start alike


def base(name: str = "tiny-mistral", precision: str = "fp32"):
    return checkpoint.resolve(None, loader.load(name), "cpu", precision)


def have_ended(processes: list, seconds: float = 20) -> bool:
    """Return whether all processes end within the time."""
    deadline = time.monotonic() + seconds
    while any(process.is_alive() for process in processes) and time.monotonic() < deadline:
        time.sleep(0.05)
    return not any(process.is_alive() for process in processes)


def two_stores(folder: Path) -> tuple[RunStore, RunStore]:
    """Return stores of the same checkpoint on one device and on two."""
    one, two = base(), base().with_options(devices=TWO)
    return run_store.open_store(one, folder / "one"), run_store.open_store(two, folder / "two")


@pytest.mark.parametrize(
    ("texts", "examples"),
    [
        (TEXTS, None),
        (TEXTS, [[f"an example {n}" * (n % 3), "another example"] for n in range(2)] * (len(TEXTS) // 2)),
        (["x", "x"], None),
    ],
    ids=["texts", "with examples", "one distinct text"],
)
def test_two_processes_give_the_vectors_of_one(texts, examples, tmp_path):
    """Vectors are in the order of the texts, repeats included, and stored under the same key."""
    one, two = two_stores(tmp_path)
    expected, folder = one.vectors(texts, "query", "texts", examples)
    vectors, other_folder = two.vectors(texts, "query", "texts", examples)
    np.testing.assert_allclose(vectors, expected, atol=2e-6)
    assert vectors.dtype == np.float32 and folder.name == other_folder.name


class WorkerInThisProcess:
    """Stands in for an `EncodingWorker`, of which starting the process takes seconds."""

    threads = 1

    def __init__(self, embedder) -> None:
        self.embedder = embedder

    def send(self, ids, image_features, names, kind) -> None:
        self.ids = ids

    def receive(self):
        return encode_ids(self.embedder, self.ids, "fp32"), 0


def test_one_line_tells_how_long_all_processes_take(monkeypatch, capsys):
    """It counts the tokens of both, and their common rate: twice that of the process that prints it."""
    embedder, prompts = model("bert")
    texts = [f"{text} {number}" for text in TEXTS for number in range(8)]
    monkeypatch.setattr(batching, "TOKEN_BUDGET", 64)
    backend = functools.partial(workers.encode_on_workers, [WorkerInThisProcess(embedder)])
    alone = encode(embedder, texts, prompts, "passage", "fp32")
    slow_clock.use(monkeypatch)
    shared = encode(
        embedder, texts, prompts, "passage", "fp32", options=EncodingOptions("encode corpus"), backend=backend
    )
    np.testing.assert_allclose(shared, alone, atol=2e-6)
    (line,) = slow_clock.lines(capsys)
    tokens = sum(map(len, tokenize(embedder.tokenizer, texts, prompts, "passage")))
    assert line.startswith("encode corpus, ") and slow_clock.amount(line) == pytest.approx(tokens, rel=0.1)


def test_workers_end_with_their_encoder(tmp_path):
    """Each further device has one process; torch's threads are given back after encoding."""
    threads = torch.get_num_threads()
    _, two = two_stores(tmp_path)
    two.vectors(TEXTS, "query", "texts")
    assert len(two.encoder.workers) == 1 and torch.get_num_threads() == threads
    processes = [worker.process for worker in two.encoder.workers]
    del two
    assert have_ended(processes)


@pytest.mark.parametrize("count", [1, 2, 3, 7])
def test_parts_partition_the_rows(count):
    """No row is lost or doubled, and there are as many parts as requested."""
    parts = workers.split_by_length(ROWS, count)
    assert sorted(row for part in parts for row in part) == list(range(len(ROWS)))
    assert len(parts) == count


@pytest.mark.parametrize("count", [1, 2, 3, 7])
def test_parts_have_about_as_many_tokens(count):
    """A part is off by less than one row at either end."""
    sizes = [sum(len(ROWS[row]) for row in part) for part in workers.split_by_length(ROWS, count)]
    assert max(sizes) - min(sizes) <= 2 * max(map(len, ROWS))


@pytest.mark.parametrize("count", [1, 2, 3, 7])
def test_rows_with_a_common_prefix_stay_together(count):
    """Each cut between two parts divides at most one group of rows that start alike."""
    parts = workers.split_by_length(ROWS, count)
    assert sum(len({ROWS[row][0] for row in part}) for part in parts) <= 5 + count - 1


def test_fewer_texts_than_devices_leave_no_part_empty():
    """There are at most as many parts as texts."""
    assert workers.split_by_length([[3], [1, 2, 3, 4, 5, 6]], 5) == [[1], [0]]


@pytest.mark.parametrize(
    ("names", "parts"),
    [("cpu,cuda:0", ["cpu,cuda:0", "one kind", "cpu,cpu"]), ("cpu,", ["cpu,", "one kind"]), ("tpu,tpu", ["'tpu'"])],
)
def test_devices_that_do_not_go_together_are_refused(names, parts):
    """Devices of two kinds, an empty name and an unknown device are refused in one line."""
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
    """What runs on one device says so, and names the option for two processes."""
    with refused("cuda:0,cuda:1", "several", "NPROC=2"):
        single("cuda:0,cuda:1")


def unloadable(source: Checkpoint, folder: Path) -> EncodingWorker:
    """Start a worker whose model folder is empty."""
    folder.mkdir()
    return EncodingWorker(dataclasses.replace(source, folder=folder), 1)


def crashing(source: Checkpoint, folder: Path) -> EncodingWorker:
    """Start a worker that raises an error of another kind than ours."""
    return EncodingWorker(source.with_options(precision="none"), 1)


def killed(source: Checkpoint, folder: Path) -> EncodingWorker:
    """Start a worker and kill it, as the system does when memory runs out."""
    worker = EncodingWorker(source, 1)
    worker.process.kill()
    return worker


@pytest.mark.parametrize(
    ("start", "message"),
    [(unloadable, "cannot be loaded"), (crashing, "device cpu: KeyError: 'none'"), (killed, "exit code -9")],
)
def test_a_failing_worker_ends_encoding_in_one_line(start, message, tmp_path):
    """The message says what happened, the worker's process ends, and nothing is left on disk."""
    source = base()
    worker = start(source, tmp_path / "model")
    encoder = CheckpointEncoder(source, source.load(), [worker])
    with refused(message):
        RunStore(encoder, tmp_path / "runs").vectors(TEXTS, "query", "texts")
    assert have_ended([worker.process])
    assert [path.name for path in (tmp_path / "runs").iterdir()] == [".lock"]


PARENT = """
import signal
from rounds.config import loader
from rounds.encoding import workers
from rounds.models import checkpoint
from rounds.models.checkpoint import Checkpoint
if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job ignores Ctrl-C
    source = checkpoint.resolve(None, loader.load("tiny-mistral"), "cpu", "fp32")
    (worker,) = workers.start_workers(source.with_options(devices=("cpu", "cpu")))
    {send}
    print(worker.process.pid, flush=True)
    worker.receive()
"""

SEND = "worker.send([[1, 5, 2]] * 2_000_000)"  # without it, the worker is still loading


@pytest.mark.slow
@pytest.mark.parametrize(("interrupted", "send"), [(False, SEND), (True, SEND), (True, "")])
def test_no_worker_outlives_its_parent(interrupted, send, tmp_path):
    """A parent that is killed, or Ctrl-C on all, ends a worker that loads or encodes, and the worker prints nothing."""
    script, errors = tmp_path / "parent.py", tmp_path / "errors"
    script.write_text(PARENT.format(send=send), encoding="utf-8")
    with open(errors, "w") as file:
        parent = subprocess.Popen(
            [sys.executable, str(script)], stdout=subprocess.PIPE, stderr=file, text=True, start_new_session=True
        )
        worker = Path(f"/proc/{int(parent.stdout.readline())}")
        if interrupted:
            os.killpg(parent.pid, signal.SIGINT)
        else:
            parent.kill()
        parent.wait()
    deadline = time.monotonic() + 20
    while worker.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not worker.exists()
    assert errors.read_text().count("Traceback") == interrupted  # the parent's own


@pytest.mark.slow
def test_mining_on_two_devices_writes_the_same_file(tiny_collection, tmp_path):
    """`--devices cpu cpu` mines the file of `--devices cpu`, and prints the same lines."""
    mined, printed = [], []
    for devices in (["cpu"], ["cpu", "cpu"]):
        folder = tmp_path / "-".join(devices)
        files = ["--input_file", tiny_collection / "finetune_data.jsonl", "--output_file", folder / "mined.jsonl"]
        result = scripts.call(
            "hn_mine.py", "--recipe", "tiny-mistral", "--devices", *devices, *files, "--model_output", folder
        )
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
    """Devices are checked before anything is written."""
    monkeypatch.syspath_prepend(str(SCRIPTS))
    module = importlib.import_module(script)
    (parsed,) = HfArgumentParser(module.Flags).parse_args_into_dataclasses(
        flags.format(tiny_collection, tmp_path).split()
    )
    with refused("devices cpu,cuda", "one kind"):
        module.main(parsed)
    assert not list(tmp_path.iterdir())
