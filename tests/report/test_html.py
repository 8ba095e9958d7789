"""The page is one self-contained file that fetches nothing and lets no text of the data become markup."""

import json
import re
from dataclasses import replace

import numpy as np
import pytest
from helpers import tiny_experiment
from PIL import Image

from rounds.data import collection
from rounds.data.images import attach_image
from rounds.report import charts
from rounds.report.charts import Plot
from rounds.report.facts import gather_facts
from rounds.report.html import render_page
from rounds.report.query_browser import MediaIndex, build_browser_data
from rounds.report.ranked_runs import RankedRun
from rounds.retrieval.run import Run

HOSTILE = """</script><img src=x onerror="alert(1)"> & 'x' <!-- \u2028 \\( \\text{</script><b onclick=x>} \\)"""


@pytest.fixture(scope="module")
def experiment(tiny_collection, tmp_path_factory):
    """An experiment with rounds 0 to 2."""
    return tiny_experiment.make(tmp_path_factory.mktemp("page"), tiny_collection)


@pytest.fixture(scope="module")
def facts(experiment):
    """The experiment's facts."""
    return gather_facts(experiment.folder, experiment.data_dir, experiment.model_output)


@pytest.fixture(scope="module")
def plots(facts) -> list[Plot]:
    """The charts of these facts."""
    return charts.draw_plots(facts)


def embedded(html: str, name: str) -> dict:
    """Return the JSON embedded in the page under an id."""
    return json.loads(re.search(rf'<script type="application/json" id="{name}">(.*?)</script>', html, re.DOTALL)[1])


def without_scripts(html: str) -> str:
    """Return the page without its script elements."""
    return re.sub(r"<script.*?</script>", "", html, flags=re.DOTALL)


def test_every_section_has_its_chart(facts, plots):
    """Every section with data has charts, each with a unique name and a text for readers who cannot see it."""
    sections = {plot.section for plot in plots}
    assert sections == {"curve", "recall", "ranks", "negatives", "dims", "cost"}
    assert len({plot.name for plot in plots}) == len(plots) and all(plot.title and plot.text for plot in plots)
    for plot in plots:
        assert plot.spec["width"] == "container" and plot.text in plot.spec["description"]


def test_pngs_are_written(plots, tmp_path):
    """Each chart becomes a PNG file without a browser."""
    files = charts.write_pngs(plots[:2], tmp_path)
    assert [file.read_bytes()[:4] for file in files] == [b"\x89PNG"] * 2


@pytest.mark.slow
def test_outside_questions_stand_in_the_lineage(facts):
    """Behind the number of training questions, by source; a round without them says nothing of it."""
    first, second = facts.lineages
    lineages = [replace(first, outside={"a": 2, "<b>": 1}), second]
    html = without_scripts(render_page(replace(facts, lineages=lineages), []))
    assert "; of them outside ones: a 2, &lt;b&gt; 1</li>" in html and html.count("outside ones") == 1


def test_nothing_is_fetched(facts, plots):
    """Markup, styles and charts hold no address, and the page's security policy forbids connections."""
    html = render_page(facts, plots)
    markup = without_scripts(html)
    assert not re.search(r"(src|href)\s*=\s*(?![\"']?#)|url\(|@import|https?:", markup)
    assert "connect-src 'none'" in markup and "live.json" not in html
    assert all(plot["data"].get("url") is None for plot in embedded(html, "specs").values() if "data" in plot)


@pytest.mark.parametrize("part", ["epochs", "recall", "truncation", "negatives", "ranked", "rows", "costs"])
def test_a_missing_part_is_explained(part, facts):
    """A section without data says what to run."""
    value = getattr(facts, part)
    bare = replace(facts, **{part: type(value)() if isinstance(value, list | dict) else value.iloc[:0]})
    html = without_scripts(render_page(bare, charts.draw_plots(bare)))
    assert html.count('class="empty"') > without_scripts(render_page(facts, charts.draw_plots(facts))).count(
        'class="empty"'
    )


def test_warnings_come_before_the_first_number(facts):
    """Warnings stand above the scores; without any, the page says so."""
    html = render_page(replace(facts, warnings=["round 1: POLLUTED <b>"]), [])
    assert html.index("round 1: POLLUTED &lt;b&gt;") < html.index('class="tiles"')
    assert "No refusals" in render_page(facts, [])


def test_hostile_text_stays_text(facts, plots):
    """A text that closes scripts and opens tags reaches the page as data, unchanged."""
    data = replace(
        facts.data,
        validation={query: HOSTILE for query in facts.data.validation},
        passages={passage: HOSTILE for passage in facts.data.passages},
    )
    html = render_page(replace(facts, data=data, title=HOSTILE), plots)
    assert "onerror" not in without_scripts(html).replace("onerror=&#34;", "")
    stored = embedded(html, "queries")
    words = "".join(part for part in stored["queries"][0]["text"] if isinstance(part, str))
    assert words == HOSTILE[: HOSTILE.index("\\(")]
    assert stored["formulas"][0][0] == r"\text{</script><b onclick=x>}"
    assert html.count("<script") == html.count("</script>")


def test_the_browser_holds_each_query(facts):
    """Gold passages, ranks and top five are those of the runs; each formula and passage is stored once."""
    data, ranked = facts.data, facts.ranked
    stored = build_browser_data(data, ranked)
    assert [query["id"] for query in stored["queries"]] == list(data.validation)
    for row, query in enumerate(stored["queries"]):
        assert [stored["passage_ids"][place] for place in query["gold"]] == data.qrels[query["id"]]
        top = [stored["passage_ids"][place] for place in query["top"][-1][::2]]
        assert top == ranked[-1].run.passages[row, :5].tolist()
        assert query["ranks"] == [run.ranks[row] for run in ranked]
        assert query["unseen"] == (query["id"] in data.unseen)
    sources = [source for source, _ in stored["formulas"]]
    assert len(set(sources)) == len(sources) and len(set(stored["passage_ids"])) == len(stored["passage_ids"])
    assert all(mathml.startswith("<math") for _, mathml in stored["formulas"] if mathml)


def test_passages_are_shown_without_explanations(facts):
    """A page of names can be read; the models read the explanations too."""
    data = replace(facts.data, names={passage: f"name {passage}" for passage in facts.data.passages})
    stored = build_browser_data(data, facts.ranked)
    assert stored["passages"] == [[f"name {passage}"] for passage in stored["passage_ids"]]


def test_a_corpus_below_five_passages_has_shorter_lists(tiny_collection):
    """A run of two passages shows two."""
    data = collection.read(tiny_collection)
    passages = np.array([list(data.passages)[:2]] * len(data.validation))
    run = Run(list(data.validation), passages, np.zeros(passages.shape, dtype=np.float32))
    stored = build_browser_data(data, [RankedRun("one", run, np.zeros(len(passages), dtype=int))])
    assert stored["depth"] == 2 and len(stored["queries"][0]["top"][0]) == 4


def test_images_are_stored_once_as_thumbnails(tmp_path):
    """A text's image comes first, as a small data URI; a deleted image leaves the text."""
    for name in ("here", "gone"):
        Image.new("RGB", (300, 200), "red" if name == "here" else "blue").save(tmp_path / f"{name}.png")
    media = MediaIndex()
    texts = [attach_image("Whose? \\(x\\)", str(tmp_path / f"{name}.png")) for name in ("here", "gone")]
    (tmp_path / "gone.png").unlink()
    assert [media.encode(text) for text in (*texts, texts[0])] == [[[n], "Whose? ", 0] for n in (0, 1, 0)]
    thumbnail, missing = media.convert_images()
    assert thumbnail.startswith("data:image/jpeg;base64,") and len(thumbnail) < 3000 and missing is None
