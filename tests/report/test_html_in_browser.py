"""In a browser, a page of 4,000 queries opened from disk shows a part of them, works, and fetches nothing."""

import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from helpers import chromium, tiny_experiment

from rounds.artifacts import store
from rounds.artifacts.manifests import EvaluationManifest
from rounds.data.few_shot import QueryMetadata
from rounds.report import charts
from rounds.report.facts import Facts, gather_facts
from rounds.report.html import render_page
from rounds.report.ranked_runs import RankedRun, ranks_of_positives
from rounds.report.server import HOST, ReportSite, make_server
from rounds.retrieval.run import Run
from rounds.training.progress import SavedProgress, write_progress

QUERIES, LISTED = 4000, 50  # queries of the page, and those that it shows at first
KIB_PER_QUERY, PAGE_MIB = 1, 5  # bounds of the page's data and of the whole page

# Count the elements that the page makes and the texts that it folds to lower case.
COUNT_WORK = """() => {
  window.work = { created: 0, lowered: 0 };
  const [create, lower] = [document.createElement.bind(document), String.prototype.toLowerCase];
  document.createElement = (...given) => { window.work.created += 1; return create(...given); };
  String.prototype.toLowerCase = function () { window.work.lowered += 1; return lower.call(this); };
}"""
pytestmark = [pytest.mark.slow, pytest.mark.skipif(not chromium.CHROMIUM, reason="no chromium")]


@pytest.fixture(scope="module")
def browser():
    """Headless Chromium."""
    yield from chromium.launched()


@pytest.fixture(scope="module")
def experiment(tiny_collection, tmp_path_factory):
    """An experiment with rounds 0 to 2."""
    return tiny_experiment.make(tmp_path_factory.mktemp("browser"), tiny_collection)


def with_many_queries(facts: Facts) -> Facts:
    """Replace the queries by 4,000 made-up ones with a formula each; round 2 ranks every gold passage first."""
    data, generator = facts.data, np.random.default_rng(0)
    ids, passages = [f"{number}_B" for number in range(QUERIES)], np.array(list(data.passages))
    texts = {
        query: rf"Work out \( \frac{{{number}}}{{7}} \times {number % 90}^{{2}} \), number{number} & <b>bold</b>"
        for number, query in enumerate(ids)
    }
    texts["3_B"] += r" \( 1 + \frac{ \)"
    metadata = {
        query: QueryMetadata(texts[query], "0", "", f"subject {number % 50}") for number, query in enumerate(ids)
    }
    gold = generator.choice(passages, QUERIES)
    larger = replace(
        data,
        validation=texts,
        metadata=metadata,
        unseen=set(ids[::10]),
        qrels={q: [p] for q, p in zip(ids, gold, strict=True)},
    )
    ranked = []
    for original in facts.ranked:
        order = generator.permuted(np.tile(passages, (QUERIES, 1)), axis=1)[:, :25]
        if original.label == "round 2":
            order[:, 0] = gold
        run = Run(ids, order, np.tile(np.linspace(1, 0, order.shape[1], dtype=np.float32), (QUERIES, 1)))
        ranked.append(RankedRun(original.label, run, ranks_of_positives(run, larger.qrels)))
    return replace(facts, data=larger, ranked=ranked)


@pytest.fixture(scope="module")
def file(experiment, tmp_path_factory) -> Path:
    """The page of 4,000 queries on disk."""
    facts = with_many_queries(gather_facts(experiment.folder, experiment.data_dir, experiment.model_output))
    target = tmp_path_factory.mktemp("report") / "report.html"
    target.write_text(render_page(facts, charts.draw_plots(facts)), encoding="utf-8")
    return target


@pytest.fixture
def opened(browser, file):
    """The page at 1280 pixels; after the test, its console must be empty and nothing fetched but the page."""
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    tab, console, requests = context.new_page(), [], []
    tab.on("console", lambda message: console.append(message.text))
    tab.on("pageerror", lambda error: console.append(str(error)))
    tab.on("request", lambda request: requests.append(request.url))
    tab.goto(file.as_uri())
    yield tab
    context.close()
    assert console == [] and requests == [file.as_uri()]


def matching(tab) -> int:
    """Return the number of queries that the filters leave."""
    return int(tab.locator("#count").inner_text().split()[0])


def nodes_apart_from_charts(tab) -> int:
    """Return the number of elements in the page, without those of the charts."""
    return tab.evaluate("document.querySelectorAll('*').length - document.querySelectorAll('.chart *').length")


def scroll_through(tab) -> None:
    """Scroll to the end, so that every chart is drawn."""
    for place in range(tab.locator(".chart[data-plot]").count()):
        tab.locator(".chart[data-plot]").nth(place).scroll_into_view_if_needed()
    tab.wait_for_function("!document.querySelector('.chart[data-plot]:not([data-drawn])')")


def test_loading_does_not_grow_with_the_queries(opened, file):
    """The page shows 50 of 4,000 queries, in fewer elements than there are queries; all others stay data."""
    assert matching(opened) == QUERIES and opened.locator("#results > li").count() == LISTED
    assert nodes_apart_from_charts(opened) < QUERIES
    assert file.stat().st_size < PAGE_MIB * 2**20
    assert opened.evaluate("document.getElementById('queries').text.length") < KIB_PER_QUERY * 2**10 * QUERIES


def test_no_script_holds_up_the_first_paint(opened):
    """All but a few lines, which choose the theme, are modules, which run behind the document, or data."""
    blocking = "[...document.scripts].filter((s) => !['module', 'application/json'].includes(s.type))"
    assert opened.evaluate(f"{blocking}.reduce((sum, s) => sum + s.text.length, 0)") < 2000
    assert opened.evaluate("document.querySelectorAll('script[src], link[rel=stylesheet]').length") == 0


def test_scrolling_draws_every_chart(opened):
    """All of them, without a console error."""
    scroll_through(opened)
    assert opened.locator(".chart svg").count() == opened.locator(".chart[data-plot]").count() > 5


def test_latex_is_drawn(opened):
    """Formulas are rendered as MathML, never as source, and markup in a text stays text."""
    first = opened.locator("#results > li").first
    assert first.locator("math mfrac").first.bounding_box()["width"] > 3
    text = first.locator(".text").inner_text()
    assert r"\frac" not in text and "<b>bold</b>" in text


def test_texts_of_the_data_take_their_own_direction(opened):
    """Queries and passages are `dir="auto"`, so that Hebrew and Arabic read from the right, and nothing else is."""
    directions = """[...document.querySelectorAll(SELECTOR)].map((node) => node.dir)"""
    for selector in (".query .text", ".query .goldline bdi", ".query .top li bdi", ".query .head bdi", "[name=search]"):
        found = opened.evaluate(directions.replace("SELECTOR", f"'{selector}'"))
        assert found and set(found) == {"auto"}, selector
    assert set(opened.evaluate(directions.replace("SELECTOR", "'.query .score, .query .badge'"))) == {""}


def test_a_formula_that_cannot_be_drawn_reads_from_the_left(opened):
    """Its source would be turned round in a text that reads from the right."""
    source = opened.locator(".query code")
    assert source.count() == 1 and source.inner_text().strip().startswith(r"1 + \frac{")
    assert source.get_attribute("dir") == "ltr"


def test_filters_work_and_touch_what_is_shown(opened):
    """Each leaves the expected queries and makes elements of the first 50 alone; texts were folded at the start."""
    scroll_through(opened)  # so that no chart is drawn meanwhile
    opened.evaluate(COUNT_WORK)
    steps = [
        (lambda: opened.fill("[name=search]", "NUMBER77"), 11),  # 77 and 770 to 779
        (lambda: opened.fill("[name=search]", r"\frac{123}"), 1),
        (lambda: opened.fill("[name=search]", ""), QUERIES),
        (lambda: opened.select_option("[name=subject]", label="subject 7"), QUERIES // 50),
        (lambda: opened.select_option("[name=subject]", ""), QUERIES),
        (lambda: opened.select_option("[name=unseen]", "1"), QUERIES // 10),
        (lambda: opened.select_option("[name=unseen]", ""), QUERIES),
        (lambda: opened.select_option("[name=moved]", "lost"), 0),
        (lambda: opened.select_option("[name=moved]", "first"), QUERIES),
    ]
    for act, expected in steps:
        opened.evaluate("Object.assign(window.work, { created: 0, lowered: 0 })")
        act()
        assert matching(opened) == expected
        assert opened.locator("#results > li").count() == min(expected, LISTED)
        work = opened.evaluate("window.work")
        assert work["created"] < QUERIES and work["lowered"] < LISTED
    opened.select_option("[name=order]", "gained")
    assert "rank beyond 25 → 1" in opened.locator("#results > li .moved").first.inner_text()
    assert opened.locator("#results > li").first.locator(".top .gold").count() == 1
    opened.click("#filters [type=reset]")
    opened.wait_for_function("document.querySelector('[name=order]').value === ''")


def test_more_are_shown_and_tables_sort_by_keyboard(opened):
    """Enter shows the next 50 queries and focuses the first of them; Enter on a heading sorts the table."""
    opened.focus("#more")
    opened.keyboard.press("Enter")
    assert opened.locator("#results > li").count() == 100
    assert opened.evaluate("document.activeElement === document.querySelectorAll('#results > li')[50]")
    column = opened.locator("table.sortable").first.locator("th", has_text="MAP@25").first
    column.locator("button").focus()
    cells = opened.locator("table.sortable").first.locator("tbody td:nth-child(2)")
    for order in ("ascending", "descending"):
        opened.keyboard.press("Enter")
        values = [float(text) for text in cells.all_inner_texts()]
        assert column.get_attribute("aria-sort") == order
        assert values == sorted(values, reverse=order == "descending") and len(values) > 2


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_the_page_fits_the_screen_in_either_theme(width, theme, browser, file):
    """A wide and a narrow screen need no horizontal scrolling, and the button switches the theme."""
    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=theme)
    tab = context.new_page()
    tab.goto(file.as_uri())
    scroll_through(tab)
    assert tab.evaluate("document.documentElement.scrollWidth") <= width
    assert tab.evaluate("document.documentElement.dataset.theme") == theme
    background = tab.evaluate("getComputedStyle(document.body).backgroundColor")
    tab.click("#theme")
    assert tab.evaluate("getComputedStyle(document.body).backgroundColor") != background
    context.close()


def test_charts_tables_and_controls_have_accessible_names(opened):
    """Screen readers find a label on each of them."""
    nameless = "[...document.querySelectorAll('[role=img], table, [role=region]')].filter((e) => !e.ariaLabel).length"
    assert opened.evaluate(nameless) == 0
    unlabelled = "[...document.querySelectorAll('input, select')].filter((e) => !e.labels.length).length"
    assert opened.evaluate(unlabelled) == 0


def test_the_live_panel_follows_the_training(browser, experiment):
    """Progress appears without a reload, and the page reloads when a watched file changes."""
    site = ReportSite(experiment.folder, experiment.data_dir, experiment.model_output)
    partial = experiment.folder / "round3" / "train.partial"
    partial.mkdir(parents=True)
    with make_server(site, 0) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        tab = browser.new_page()
        tab.goto(f"http://{HOST}:{server.server_port}/")
        progress = {"step": 30, "steps": 100, "first": 0, "seconds": 60.0, "losses": [[10, 2.0], [20, 1.5], [30, 1.25]]}
        write_progress(partial, SavedProgress(**progress))
        tab.wait_for_selector("#live:not([hidden])")
        assert "round 3 · step 30 of 100 · loss 1.2500" in tab.locator("#live-text").inner_text()
        assert tab.locator("#live-bar").get_attribute("value") == "0.3"
        with tab.expect_navigation():
            evaluation = EvaluationManifest(config={})
            store.write_manifest(experiment.folder / "round2" / "eval" / store.MANIFEST, evaluation)
        tab.close()
        server.shutdown()
