"""Runner: calls that can be pasted, kills that leave nothing, and two makes that do not harm each other."""

import os
import shlex
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from rounds.errors import UserError
from rounds.pipeline import freshness, locks, stages, targets
from rounds.pipeline.keys import Command
from rounds.pipeline.launch import command_line
from rounds.pipeline.runner import Failed, Runner
from rounds.pipeline.session import Session

ARGUMENTS = ["RAW=raw", "MODEL=r.yaml"]


def make(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "rounds.pipeline", *arguments, *ARGUMENTS]


def run(*arguments: str) -> subprocess.CompletedProcess:
    return subprocess.run(make(*arguments), capture_output=True, text=True, stdin=subprocess.DEVNULL)


def wait_for(path: Path) -> None:
    deadline = time.monotonic() + 30
    while not path.exists():
        assert time.monotonic() < deadline, f"{path} did not appear"
        time.sleep(0.01)


def test_a_rehearsal_prints_calls_that_can_be_pasted(stub_scripts, session, capsys):
    """Each line of DRY=1 is a comment or a call; pasted one by one, they leave what make finds fresh."""
    given = session("DRY=1", "ROUND=1")
    targets.run("round1", Session(given.settings, Runner(is_dry=True)))
    lines = capsys.readouterr().out.splitlines()
    calls = [line for line in lines if not line.startswith("#")]
    assert len(calls) == 5 and "# == round 1: mine" in lines
    end = stages.round_end(given.experiment, 1)
    assert not end.output.exists()
    for call in calls:
        subprocess.run(call, shell=True, check=True)
    assert all(state.is_fresh for _, state in freshness.states([end]))


def test_a_rehearsal_of_a_finished_round_calls_nothing(session, capsys):
    """DRY=1 on what is up to date says so, as a comment."""
    targets.run("round1", session())
    targets.run("round1", session(is_dry=True))
    assert capsys.readouterr().out.splitlines()[-1].startswith("# ")


def test_a_rehearsal_shows_only_what_a_change_makes_stale(session, project, capsys):
    """A stage behind a stale one is to run as well, although its own flags are the same."""
    targets.run("round1", session())
    (project / "r.yaml").write_text("extends: tiny-mistral\ntraining: {epochs: 5}\n", encoding="utf-8")
    given = session(is_dry=True)
    targets.run("round1", given)
    assert given.runner.scripts == ["finetune", "eval_llm_embedder"]


def test_calls_are_quoted(session):
    """A path with a blank is one word of the printed call."""
    (call,) = [session("RAW=my data").on().settings]
    assert shlex.split(shlex.join(command_line(stages.keys.command("x", raw_dir=call.raw))))[-1] == "my data"


def test_several_processes_are_launched_by_torchrun(experiment):
    """NPROC=2 stands in the call, which can be pasted as it is."""
    line = command_line(stages.training(experiment("NPROC=2"), 1).command)
    assert line[1:5] == ["-m", "torch.distributed.run", "--nproc_per_node", "2"] and line[5] == "scripts/finetune.py"


def test_a_script_that_fails_ends_make(stub_scripts, session):
    """Its status is make's, and nothing behind it runs."""
    (stub_scripts / "hn_mine.py").write_text("import sys; sys.exit(3)\n", encoding="utf-8")
    given = session()
    with pytest.raises(Failed) as failed:
        targets.run("round1", Session(given.settings, Runner()))
    assert failed.value.status == 3 and not given.experiment.train(1).exists()


def test_a_script_that_leaves_something_else_is_an_error(stub_scripts, session):
    """A script that ends well without the artefact is not believed."""
    (stub_scripts / "gen_data_for_hn_mine.py").write_text("", encoding="utf-8")
    with pytest.raises(UserError, match="data: .* is missing although its script ended well"):
        targets.run("data", Session(session().settings, Runner()))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_killed_stage_leaves_nothing_that_looks_finished(number, stub_scripts, project, experiment):
    """Killed while it trains, make goes on from the mined file and ends with a whole round."""
    (project / "hold").touch()
    process = subprocess.Popen(make("round1"), start_new_session=True, stdout=subprocess.DEVNULL)
    wait_for(project / "held")
    os.killpg(process.pid, number)
    assert process.wait() != 0
    assert not experiment().train(1).exists() and not experiment().evaluation(1).exists()
    (project / "hold").unlink()
    resumed = run("round1")
    assert resumed.returncode == 0, resumed.stderr
    assert "== round 1: mine" not in resumed.stdout and "== round 1: finetune" in resumed.stdout


def test_terminating_make_ends_its_script(stub_scripts, project, experiment):
    """SIGTERM to make alone reaches the script: no training goes on without it."""
    (project / "hold").touch()
    process = subprocess.Popen(make("round1"), stdout=subprocess.DEVNULL)
    wait_for(project / "held")
    process.terminate()
    assert process.wait(timeout=20) == 143
    (project / "hold").unlink()
    time.sleep(0.2)
    assert not experiment().train(1).exists()


def test_a_machine_that_is_lost_ends_the_script_here(stub_scripts, project):
    """The line names the machine, and what to do; nothing is left that looks finished."""
    (project / "hold").touch()
    lose = "sh -c 'while ! [ -e held ]; do sleep 0.05; done; exit 3' {host}"
    call = Command("finetune", (("output_dir", ("out",)),), 2, ("a", "b"), lose, is_sharded=True)
    with pytest.raises(UserError, match="HOSTS: b ended with status 3; run make again"):
        Runner().call(call)
    assert not (project / "out").exists()


def test_a_second_make_waits_and_says_so(stub_scripts, project):
    """Two makes of one round: the second waits, and then finds everything done."""
    (project / "hold").touch()
    first = subprocess.Popen(make("round1"), stdout=subprocess.PIPE, text=True)
    wait_for(project / "held")
    second = subprocess.Popen(make("round1"), stdout=subprocess.PIPE, text=True)
    assert "another make is at work there; waiting" in second.stdout.readline()
    (project / "hold").unlink()
    outputs = [process.communicate(timeout=30)[0] for process in (first, second)]
    assert first.returncode == second.returncode == 0
    assert "== round 1: evaluate" in outputs[0] and "==" not in outputs[1] and "up to date" in outputs[1]


def test_experiments_do_not_wait_for_each_other(stub_scripts, project):
    """While one trains, another of other epochs goes through."""
    (project / "hold").touch()
    first = subprocess.Popen(make("round1"), stdout=subprocess.DEVNULL)
    wait_for(project / "held")
    other = run("data", "EPOCHS=1", "SEED=7")
    assert other.returncode == 0 and "waiting" not in other.stdout
    (project / "hold").unlink()
    assert first.wait(timeout=30) == 0


def test_a_script_holds_its_output(project, capsys):
    """A script that outlives its make, or was pasted twice, is waited for."""
    entered = []

    def second() -> None:
        with locks.output(Path("out")):
            entered.append(time.monotonic())

    with locks.output(Path("out")):
        thread = threading.Thread(target=second)
        thread.start()
        time.sleep(0.1)
        assert not entered
    thread.join(timeout=10)
    assert entered and "another process is making it" in capsys.readouterr().out


def test_a_finished_round_is_quick(stub_scripts):
    """Saying that a round is up to date, with its table, takes less than a second of computing and loads no torch."""
    assert run("round2").returncode == 0
    before = os.times()
    again = run("round2")
    after = os.times()
    assert "up to date" in again.stdout and "MAP@25" in again.stdout
    assert after.children_user + after.children_system - before.children_user - before.children_system < 1


def test_the_pipeline_loads_no_heavy_library():
    """What `make status` imports is small."""
    heavy = ("torch", "transformers", "sentence_transformers", "pandas", "pytrec_eval", "scipy")
    code = f"import sys, rounds.pipeline.__main__; print([name for name in {heavy!r} if name in sys.modules])"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "[]"
