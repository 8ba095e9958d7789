"""Settings of a whole process."""

import os
import subprocess
import sys

import pytest

from rounds import process


def spin_counts(program: str, **environment: str) -> set[str]:
    """Return what the OpenMP libraries that a program loads say of their waiting loop."""
    inherited = {name: value for name, value in os.environ.items() if name not in process.WAITING_VARIABLES}
    result = subprocess.run(
        [sys.executable, "-c", program],
        env={**inherited, "OMP_DISPLAY_ENV": "VERBOSE", **environment},
        capture_output=True,
        text=True,
        check=True,
    )
    lines = [line for line in result.stderr.splitlines() if "GOMP_SPINCOUNT" in line]
    return {line.partition("=")[2].strip(" '") for line in lines}


@pytest.mark.skipif(sys.platform != "linux", reason="GNU's OpenMP")
def test_threads_of_torch_and_faiss_sleep_soon():
    """Whatever of rounds is imported first, its threads spin for a bounded time only."""
    assert spin_counts("import rounds.models.precision, faiss") == {process.SPINS}


@pytest.mark.skipif(sys.platform != "linux", reason="GNU's OpenMP")
def test_a_user_s_own_setting_of_the_waiting_loop_stays():
    """What the environment says of OpenMP's waiting is left alone."""
    assert spin_counts("import rounds, faiss", GOMP_SPINCOUNT="77") == {"77"}


def test_processes_that_are_started_inherit_the_waiting_loop(monkeypatch):
    """The setting stands in the environment, which stages, workers and data loaders inherit."""
    for name in process.WAITING_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    process.bound_spinning()
    assert os.environ["GOMP_SPINCOUNT"] == process.SPINS


def test_libraries_that_are_loaded_already_are_quiet_too():
    """In a notebook transformers is imported before our own code runs: loading weights then draws no bar either."""
    code = (
        "import transformers\n"
        "from rounds import process\n"
        "process.quiet_libraries()\n"
        "print(transformers.utils.logging.is_progress_bar_enabled(), transformers.logging.get_verbosity())"
    )
    quiet = {"HF_HUB_DISABLE_PROGRESS_BARS", "TRANSFORMERS_VERBOSITY"}
    environment = {name: value for name, value in os.environ.items() if name not in quiet}
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, timeout=120)
    assert result.stdout.split() == ["False", "40"], result.stderr
