"""Page: refusals are one line, and what is wrong with a query is a message in the page."""

import socket
import sys

import pytest
from helpers.scripts import SCRIPTS, assert_one_line, call
from helpers.tiny_task import refused

from rounds.data import collection
from rounds.demo import questions
from rounds.demo.page import answer_html, import_gradio, listen
from rounds.demo.search import DemoSearch
from rounds.report.server import HOST


def test_a_missing_extra_is_named(monkeypatch):
    """The line says how to install it."""
    monkeypatch.setitem(sys.modules, "gradio", None)
    with refused("gradio cannot be imported", "-m pip install -e '.[demo]'"):
        import_gradio()


def test_a_port_in_use_is_refused():
    """So is a number that is no port; the line names the variable."""
    with listen(0) as taken:
        for port in (taken.getsockname()[1], 99_999):
            with refused(f"port {port}", "PORT="):
                listen(port)


def test_only_this_machine_is_served():
    """The socket is on the loopback interface."""
    with listen(0) as listening:
        assert listening.getsockname()[0] == HOST == "127.0.0.1" and listening.family == socket.AF_INET


def test_an_empty_question_is_a_message(tiny, tiny_collection):
    """Nothing is searched, and nothing raised."""
    data = collection.read(tiny_collection)
    demo = DemoSearch(questions.make_form(tiny.prompts, data, []), data, [])
    assert "Type a question." in answer_html(demo, {}) and 'role="alert"' in answer_html(demo, {})
    assert "Type a wrong answer." in answer_html(demo, {"question": "1 + 1?"})


@pytest.mark.slow
@pytest.mark.parametrize(
    ("flags", "parts"),
    [
        (["--data_dir", "nowhere"], ["nowhere", "no collection"]),
        (["--data_dir", "DATA", "--recipe", "tiny-mistral", "--port", "99999"], ["port 99999", "PORT="]),
        (["--data_dir", "DATA", "--model_path", "./none"], ["./none", "no such folder"]),
        (["--data_dir", "DATA", "--recipe", "kbvqa"], ["make demo", "model.vision"]),
    ],
)
def test_bad_input_is_one_line(flags, parts, tiny_collection, tmp_path):
    """Before anything is encoded."""
    pytest.importorskip("gradio")
    filled = [str(tiny_collection) if flag == "DATA" else flag for flag in flags]
    assert_one_line(call("demo.py", *filled, "--model_output", tmp_path, cwd=tmp_path), *parts)
    assert not list(tmp_path.iterdir()) and (SCRIPTS / "demo.py").is_file()
