"""Runner: brings stages up to date, in order and under a lock, or prints the calls that would."""

import shlex
import signal
import subprocess
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console

from rounds.errors import UserError
from rounds.evaluation.table import TABLE_FILE, Table, load_screens
from rounds.pipeline import freshness, locks
from rounds.pipeline.freshness import summary
from rounds.pipeline.keys import Command
from rounds.pipeline.launch import command_line, remote_lines, script_environment
from rounds.pipeline.stages import Stage

POLLING = 0.2  # seconds


class Failed(Exception):
    """A stage's script ended with an error, which it has printed itself."""

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status if status > 0 else 128 - status  # a shell's way of saying that a signal ended it


class Runner:
    """Runs script calls, or with `is_dry` prints them.

    Attributes:
        ran: names of the stages that ran, or would have.
    """

    def __init__(self, is_dry: bool = False) -> None:
        self.is_dry = is_dry
        self.ran: list[str] = []
        self._planned: dict[str, str] = {}

    def ensure(self, targets: Sequence[Stage]) -> bool:
        """Bring stages and all that they need up to date; returns whether anything had to run.

        Stages that write elsewhere (data, a vision model, other folds) come first, each under the lock of its own
        folder; then the targets' folder is locked for all of its stages. So no make waits while it holds a lock, and
        each stage is judged once its lock is held, since another make may have run it meanwhile.
        """
        if freshness.are_fresh(targets):
            return False
        before, home = len(self.ran), targets[-1].home
        ordered = freshness.in_order(targets)
        if self.is_dry:
            for stage in ordered:
                self._bring_up_to_date(stage)
            return len(self.ran) > before
        for stage in (stage for stage in ordered if stage.home != home):
            if not freshness.state(stage).is_fresh:
                with locks.experiment(stage.home):
                    self._bring_up_to_date(stage)
        with locks.experiment(home):
            for stage in (stage for stage in ordered if stage.home == home):
                self._bring_up_to_date(stage)
        return len(self.ran) > before

    def _bring_up_to_date(self, stage: Stage) -> None:
        if self.is_dry and stage.output.as_posix() in self._planned:
            return  # printed before, as another target's input
        state = freshness.state(stage, self._planned)
        if self.is_dry:
            self._planned[stage.output.as_posix()] = state.digest
        if state.is_fresh:
            return
        self.ran.append(stage.name)
        if stage.note:
            self.say(stage.note)
        if state.reasons:
            self.say(f"{stage.output}: made from something else ({summary(state.reasons)})")
        self.call(stage.command, stage.is_quiet)
        if not self.is_dry and not (state := freshness.state(stage)).is_fresh:
            raise UserError(
                f"{stage.name}: {stage.output} is {state.kind} although its script ended well "
                f"({summary(state.reasons) or 'nothing is there'}); if an input changed meanwhile, run make again"
            )

    def call(self, command: Command, is_quiet: bool = False) -> None:
        """Run a script, or print its call.

        Raises:
            Failed: the script ended with an error.
        """
        line, remote = command_line(command), remote_lines(command)
        if self.is_dry:
            for words in remote:
                print(f"{shlex.join(words)} &", flush=True)
            print(shlex.join(line) + (" > /dev/null" if is_quiet else ""), flush=True)
            return
        environment = {**script_environment(), "PYTHONUNBUFFERED": "1"}
        output = subprocess.DEVNULL if is_quiet else None
        with _elsewhere(remote) as others:
            with subprocess.Popen(line, env=environment, stdout=output) as process, _terminating(process):
                _watch(process, others, command)
                status = _wait(process)
        if status:
            raise Failed(status)

    def say(self, line: str) -> None:
        """Print a line to the user; as a comment where calls are printed."""
        print(f"# {line}" if self.is_dry else line, flush=True)

    def show_table(self, stage: Stage) -> None:
        """Print the table that an evaluation left."""
        if not self.is_dry:
            Console().print(Table.load(stage.output / TABLE_FILE).screen())

    def show_screens(self, path: Path) -> None:
        """Print a table that is kept as JSON, and the lines below it."""
        if not self.is_dry:
            tables, notes = load_screens(path)
            for table in tables:
                Console().print(table.screen())
            for note in notes:
                self.say(note)


@contextmanager
def _elsewhere(lines: Sequence[Sequence[str]]) -> Iterator[list[subprocess.Popen]]:
    """Start a script on other machines, whose output is that of the first; end what still runs behind the block."""
    quiet = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "env": script_environment()}
    processes = [subprocess.Popen(line, **quiet) for line in lines]
    try:
        yield processes
    finally:
        for process in processes:
            process.terminate()
            process.wait()


@contextmanager
def _terminating(process: subprocess.Popen) -> Iterator[None]:
    """Pass SIGTERM on to a stage's script, so that it does not go on alone."""

    def terminate(number: int, frame: object) -> None:
        process.terminate()

    before = signal.signal(signal.SIGTERM, terminate)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _watch(process: subprocess.Popen, others: Sequence[subprocess.Popen], command: Command) -> None:
    """Wait until a script or one of its other machines ends; end the script where a machine failed, which it misses."""
    while others and process.poll() is None:
        for host, other in zip(command.hosts[1:], others, strict=True):
            if other.poll():
                process.terminate()
                process.wait()
                raise UserError(
                    f"HOSTS: {host} ended with status {other.returncode}; run make again, which goes on behind the "
                    f"last epoch (the call there: {shlex.join(other.args)})"
                )
        time.sleep(POLLING)


def _wait(process: subprocess.Popen) -> int:
    """The script's status; Ctrl+C reaches the script by itself, and it is given the time to end."""
    try:
        return process.wait()
    except KeyboardInterrupt:
        process.wait()
        raise


def up_to_date(outputs: Iterable[Path]) -> str:
    """The line about targets that need nothing."""
    return f"{', '.join(map(str, outputs))}: up to date"
