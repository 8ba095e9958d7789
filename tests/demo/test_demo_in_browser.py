"""In a browser, the process that `make demo` starts ranks a typed question, and nothing leaves this machine."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers import chromium
from helpers.scripts import SCRIPTS
from helpers.tuned_models import build_tuned_model, save_checkpoint

from rounds.data import collection
from rounds.data.loaders import eedi
from rounds.encoding import run_store
from rounds.models import checkpoint

INTERRUPTED = 130
pytestmark = [pytest.mark.slow, pytest.mark.skipif(not chromium.CHROMIUM, reason="no chromium")]


class Demo:
    """A running demo.

    Attributes:
        lines: what it printed until it served.
        address: of its page.
    """

    def __init__(self, *flags: object) -> None:
        command = [sys.executable, str(SCRIPTS / "demo.py"), "--port", "0", *map(str, flags)]
        # A proxy that nobody listens on: whatever asks for anything but 127.0.0.1 fails.
        environment = {**os.environ, "HTTPS_PROXY": "http://127.0.0.1:9", "HTTP_PROXY": "http://127.0.0.1:9"}
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
        )
        self.lines: list[str] = []
        for line in self.process.stdout:
            self.lines.append(line.rstrip("\n"))
            if "Ctrl+C" in line:
                break
        assert self.lines and "Ctrl+C" in self.lines[-1], self.process.stderr.read()
        self.address = self.lines[-1].split()[0]

    def interrupt(self) -> tuple[int, str]:
        """Press Ctrl+C, and return the exit status and what was printed to stderr."""
        self.process.send_signal(signal.SIGINT)
        _, errors = self.process.communicate(timeout=60)
        return self.process.returncode, errors


@pytest.fixture(scope="module")
def browser():
    """Headless Chromium."""
    pytest.importorskip("gradio")
    yield from chromium.launched()


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Folder of the checkpoint and of the vectors."""
    return tmp_path_factory.mktemp("demo")


@pytest.fixture(scope="module")
def trained(tiny, folder) -> Path:
    """A checkpoint that ranks otherwise than its base model."""
    return save_checkpoint(build_tuned_model(tiny), tiny, folder / "epoch_1")


@pytest.fixture(scope="module")
def demo(browser, trained, folder, tiny_collection, raw) -> Iterator[Demo]:
    """The demo of that checkpoint on the generated sample."""
    flags = ["--model_path", trained, "--data_dir", tiny_collection, "--raw_dir", raw, "--device", "cpu"]
    running = Demo(*flags, "--model_output", folder)
    yield running
    if running.process.poll() is None:
        running.process.kill()


@pytest.fixture
def tab(browser, demo) -> Iterator:
    """The page; afterwards its console must be empty and every request one to the demo."""
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    opened, console, requests = context.new_page(), [], []
    opened.on("console", lambda message: console.append(message.text))
    opened.on("pageerror", lambda error: console.append(str(error)))
    opened.on("request", lambda request: requests.append(request.url))
    opened.goto(demo.address)
    opened.wait_for_selector("button:has-text('Search')")
    yield opened
    context.close()
    assert console == [] and len(requests) > 10
    assert [url for url in requests if not url.startswith((demo.address, "data:", "blob:"))] == []


def fill(tab, fields: dict[str, str]) -> None:
    """Type the parts of a query into their boxes."""
    for name, text in fields.items():
        tab.fill(f"#{name} textarea", text)


def ranked(tab) -> dict[str, list[tuple[str, float]]]:
    """Return the passage ids and scores of each table, by its model's title."""
    tables = {}
    for section in tab.locator("#answer .ranking").all():
        rows = section.locator("tbody tr")
        ids = rows.evaluate_all("rows => rows.map((row) => row.dataset.passage)")
        scores = [float(text) for text in section.locator("tbody td:nth-child(2)").all_inner_texts()]
        tables[section.locator("h3").inner_text()] = list(zip(ids, scores, strict=True))
    return tables


def test_a_typed_question_is_ranked_as_in_the_run_files(tab, trained, folder, tiny, tiny_collection, raw):
    """Both tables begin with the passages of the models' own runs of that validation query."""
    data = collection.read(tiny_collection)
    query = next(iter(data.validation))
    fields = next(each.fields for each in eedi.load(raw).queries if each.id == query)
    fill(tab, fields)
    tab.click("button:has-text('Search')")
    tab.wait_for_selector("#answer table")
    tables = ranked(tab)
    assert list(tables) == ["round 1, epoch 1", "zero-shot"] and tab.locator("#answer .nearest").count() == 2
    for title, source in zip(tables, (checkpoint.resolve(str(trained)), checkpoint.resolve(None, tiny)), strict=True):
        run, _ = run_store.open_store(source, folder).run("validation", data.validation, data.passages)
        ids, scores = zip(*tables[title], strict=True)
        assert len(ids) == 25 and ids[0] == run.passages[0, 0]
        assert list(scores) == pytest.approx(run.scores[0, :25].tolist(), abs=1e-4)
    assert tables["zero-shot"] != tables["round 1, epoch 1"]


def test_a_click_on_an_example_fills_the_form_and_searches(tab):
    """Its formulas are drawn, and it has a label."""
    tab.locator("button.gallery-item").first.click()
    tab.wait_for_selector("#answer table")
    assert tab.input_value("#question textarea") and tab.input_value("#wrong textarea")
    assert tab.locator("#answer .query .labels").count() == 1
    assert r"\frac" not in tab.locator("#answer").inner_text()


def test_what_is_wrong_with_a_question_is_said_in_the_page(tab):
    """An empty question is asked for; of a long one it is told how much was read."""
    tab.click("button:has-text('Search')")
    tab.wait_for_selector("#answer .message")
    assert tab.locator("#answer").inner_text().strip() == "Type a question."
    fill(tab, {"question": "one half of " * 300, "wrong": "1 <b>bold</b> ${7*7}"})
    tab.click("button:has-text('Search')")
    tab.wait_for_selector("#answer table")
    assert "160 tokens" in tab.locator("#answer .note").first.inner_text()
    assert "1 <b>bold</b> ${7*7}" in tab.locator("#answer .query").inner_text()


@pytest.mark.parametrize("width", [1280, 390])
def test_the_answer_fits_the_screen(width, tab):
    """Wide, the tables stand side by side; narrow, one below the other, without horizontal scrolling."""
    tab.set_viewport_size({"width": width, "height": 900})
    tab.locator("button.gallery-item").first.click()
    tab.wait_for_selector("#answer table")
    assert tab.evaluate("document.documentElement.scrollWidth") <= width
    first, second = (table.bounding_box() for table in tab.locator("#answer table").all())
    assert (first["y"] == second["y"]) == (width == 1280)


def test_it_says_what_was_encoded_and_ends_by_ctrl_c(demo, trained, folder, tiny_collection):
    """The second start has nothing to encode; Ctrl+C ends both as it ends the dashboard, without a traceback."""
    encoded = r": encoded [\d,]+ passages and [\d,]+ training queries$"
    assert [bool(re.search(encoded, line)) for line in demo.lines if "encoded" in line] == [True] * 2
    flags = ["--model_path", trained, "--data_dir", tiny_collection, "--device", "cpu", "--model_output", folder]
    again = Demo(*flags)
    assert [line.rpartition(": ")[2] for line in again.lines[:-1]] == ["nothing had to be encoded"] * 2
    assert [running.interrupt() for running in (again, demo)] == [(INTERRUPTED, "")] * 2
