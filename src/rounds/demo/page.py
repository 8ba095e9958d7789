"""Page: the form and its answer in Gradio, served on this machine only, without anything from elsewhere.

`gradio` is an extra, so it is imported inside the functions.
"""

import importlib
import os
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from rounds.demo.questions import example_label
from rounds.demo.search import DemoSearch
from rounds.demo.tables import render_answer, render_message
from rounds.errors import UserError, install_command
from rounds.report.server import HOST, port_refusal

if TYPE_CHECKING:
    from fastapi import FastAPI

STYLE = Path(__file__).with_name("demo.css")

FONTS = ("system-ui", "sans-serif")  # of the machine; Gradio's own themes fetch theirs

MONOSPACE = ("ui-monospace", "monospace")

LINES = {"question": 3}  # of a part's text box; others have one

HOSTS = [HOST, "localhost"]  # a page elsewhere whose name is made to mean this machine is refused

END_SECONDS = 1  # that open pages get to finish when the server ends


@dataclass(frozen=True)
class Heading:
    """What stands above the form.

    Attributes:
        title: the page's title.
        text: what is ranked, by what.
    """

    title: str
    text: str


def import_gradio() -> ModuleType:
    """Return gradio, told to send nothing to its makers.

    Raises:
        UserError: the extra is not installed, or does not fit the other libraries.
    """
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # read when it is imported
    try:
        return importlib.import_module("gradio")
    except ImportError as error:
        raise UserError(f"gradio cannot be imported ({error}); install it with {install_command('demo')}") from None


def listen(port: int) -> socket.socket:
    """Return a socket that listens on the loopback interface; port 0 picks a free one.

    Raises:
        UserError: the port is in use or not a port number.
    """
    try:
        return socket.create_server((HOST, port))
    except (OSError, OverflowError) as error:
        raise port_refusal(port, error) from None


def answer_html(demo: DemoSearch, values: Mapping[str, str]) -> str:
    """Return the answer to typed parts as HTML; what is wrong with them is a message in its place."""
    try:
        return render_answer(demo.search(values))
    except UserError as error:
        return render_message(str(error))


def make_app(demo: DemoSearch, heading: Heading, examples: Sequence[Mapping[str, str]]) -> "FastAPI":
    """Return the page as an application for a server.

    Args:
        demo: answers the queries.
        heading: what stands above the form.
        examples: typed parts of queries to click on.
    """
    gradio = import_gradio()
    from fastapi import FastAPI
    from fastapi.middleware.trustedhost import TrustedHostMiddleware

    def answer(*texts: str | None) -> str:
        values = {name: text or "" for name, text in zip(demo.form.fields, texts, strict=True)}
        return answer_html(demo, values)

    with gradio.Blocks(title=heading.title, analytics_enabled=False) as blocks:
        gradio.Markdown(f"# {heading.title}\n\n{heading.text}", elem_classes="heading")
        boxes = _add_boxes(gradio, demo.form.titles)
        button = gradio.Button("Search", variant="primary")
        answered = gradio.HTML(render=False, elem_id="answer", apply_default_css=False)
        if examples:
            gradio.Examples(
                [[values[name] for name in demo.form.fields] for values in examples],
                boxes,
                answered,
                answer,
                cache_examples=False,
                run_on_click=True,
                label="Validation queries",
                example_labels=[example_label(values) for values in examples],
                api_visibility="private",
            )
        answered.render()
        triggers = [button.click, *(box.submit for box in boxes)]
        gradio.on(triggers, answer, boxes, answered, api_visibility="private", show_progress="minimal")
    app = FastAPI(openapi_url=None)
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=HOSTS)
    return gradio.mount_gradio_app(
        app,
        blocks,
        path="/",
        server_name=HOST,
        footer_links=[],
        run_history=False,
        show_error=False,
        ssr_mode=False,
        mcp_server=False,
        pwa=False,
        theme=gradio.themes.Base(font=FONTS, font_mono=MONOSPACE),
        css=STYLE.read_text(encoding="utf-8"),
    )


def _add_boxes(gradio: ModuleType, titles: Mapping[str, str]) -> list:
    """Add a text box for each part, in their order; short ones share rows of two."""
    boxes = {
        name: gradio.Textbox(
            label=title, lines=LINES.get(name, 1), max_lines=8, render=False, elem_id=name, text_align=None
        )
        for name, title in titles.items()
    }
    row: list = []
    for box in boxes.values():
        row.append(box)
        if len(row) == 2 or box.elem_id in LINES or box is list(boxes.values())[-1]:
            with gradio.Row():
                for each in row:
                    each.render()
            row = []
    return list(boxes.values())


def serve(app: "FastAPI", listening: socket.socket) -> None:
    """Serve an application until Ctrl+C or SIGTERM, which reaches the caller as its own once all is closed."""
    import uvicorn

    config = uvicorn.Config(app, log_level="critical", timeout_graceful_shutdown=END_SECONDS, ws="none")
    with listening:
        uvicorn.Server(config).run([listening])
