"""Two machines: mining across them leaves the bytes of one machine, also when one of them dies on the way."""

import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from helpers import two_machines
from helpers.training import mine
from helpers.two_machines import Machine

from rounds.encoding import run_store
from rounds.retrieval.representation import VECTORS_FILE

pytestmark = pytest.mark.slow

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "hn_mine.py"

# Mines with small shards; the other machine dies when the first of them is there.
DRIVER = """
import runpy, subprocess, sys
from rounds.cluster.ray_cluster import RayCluster
from rounds.encoding import text_blocks

def map_and_kill(self, function, jobs, map=RayCluster.map, other=sys.argv[1]):
    for answer in map(self, function, jobs):
        yield answer
        pids = subprocess.run(["ip", "netns", "pids", other], capture_output=True, text=True).stdout.split()
        if pids:
            subprocess.run(["kill", "-9", *pids])

RayCluster.map, text_blocks.BLOCK_TEXTS = map_and_kill, 8
sys.argv = sys.argv[2:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@pytest.fixture
def machines() -> Iterator[tuple[Machine, Machine]]:
    """Two machines, each with a Ray node of one CPU."""
    pytest.importorskip("ray", reason="needs Ray (pip install -e '.[cluster]')")
    with two_machines.connected() as both, tempfile.TemporaryDirectory(prefix="r", ignore_cleanup_errors=True) as logs:
        first, second = both
        head = ["--head", "--port", 6379, "--include-dashboard=false"]
        for machine, place in ((first, head), (second, ["--address", f"{first.address}:6379"])):
            options = ["--node-ip-address", machine.address, "--num-cpus", 1, "--object-store-memory", 100 * 2**20]
            options += ["--temp-dir", f"{logs}/{machine.address[-1]}", "--block"]
            log = Path(logs) / f"{machine.address}.log"
            ray = Path(sys.executable).with_name("ray")
            machine.start([ray, "start", *place, *options], log)
            wait_for(log, "Ray runtime started")
        yield both


def wait_for(log: Path, line: str, seconds: float = 120) -> None:
    """Wait until a process has written a line to its log."""
    deadline = time.monotonic() + seconds
    while line not in log.read_text():
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.2)


def files(folder: Path) -> dict[str, bytes]:
    """Return vectors and runs, by their path."""
    names = (VECTORS_FILE, run_store.RUN_FILE)
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.name in names}


def test_a_machine_that_dies_has_its_shards_done_by_the_other(machines, tiny, tiny_collection, tmp_path):
    """The mined file, the vectors and the run are those of one machine; one line tells of the loss."""
    first, second = machines
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    mine(tiny, tiny_collection, tmp_path / "alone" / "mined.jsonl")
    torch.set_num_threads(threads)
    output = tmp_path / "together" / "mined.jsonl"
    flags = ["--recipe", tiny.name, "--input_file", tiny_collection / "finetune_data.jsonl", "--output_file", output]
    flags += ["--devices", "cpu", "--model_output", output.parent, "--cluster", f"{first.address}:6379"]
    command = first.inside([sys.executable, "-c", DRIVER, second.name, SCRIPT, *flags])
    environment = two_machines.environment(OMP_NUM_THREADS="1")
    result = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert result.returncode == 0, result.stderr
    assert output.read_bytes() == (tmp_path / "alone" / "mined.jsonl").read_bytes()
    assert files(output.parent) == files(tmp_path / "alone")
    assert result.stdout.count("was lost; its work is done again elsewhere") == 1 and not result.stderr
