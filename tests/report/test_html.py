"""Page: one file with everything in it, that asks nothing of a network and lets no text become markup."""

import json
import re
from dataclasses import replace

import numpy as np
import pytest
from helpers import tiny_experiment
from PIL import Image

from rounds.data import collection
from rounds.data.images import attach_image
from rounds.report import charts, query_browser
from rounds.report.charts import Plot
from rounds.report.facts import Ranked, gather_facts
from rounds.report.html import render_page
from rounds.report.query_browser import Parts
from rounds.retrieval.run import Run

HOSTILE = """</script><img src=x onerror="alert(1)"> & 'x' <!-- \u2028 \\( \\text{</script><b onclick=x>} \\)"""


@pytest.fixture(scope="module")
def experiment(tiny_collection, tmp_path_factory):
    """Rounds 0 to 2."""
    return tiny_experiment.make(tmp_path_factory.mktemp("page"), tiny_collection)


@pytest.fixture(scope="module")
def facts(experiment):
    """What is known of them."""
    return gather_facts(experiment.folder, experiment.data_dir, experiment.model_output)


@pytest.fixture(scope="module")
def drawn(facts) -> list[Plot]:
    """Their charts."""
    return charts.draw(facts)


def embedded(html: str, name: str) -> dict:
    """JSON that stands in the page."""
    return json.loads(re.search(rf'<script type="application/json" id="{name}">(.*?)</script>', html, re.DOTALL)[1])


def without_scripts(html: str) -> str:
    """The page's markup."""
    return re.sub(r"<script.*?</script>", "", html, flags=re.DOTALL)


def test_every_section_has_its_chart(facts, drawn):
    """All charts are there, with a text for who cannot see them."""
    sections = {plot.section for plot in drawn}
    assert sections == {"curve", "recall", "ranks", "negatives", "dims", "cost"}
    assert len({plot.name for plot in drawn}) == len(drawn) and all(plot.title and plot.text for plot in drawn)
    for plot in drawn:
        assert plot.spec["width"] == "container" and plot.text in plot.spec["description"]


def test_pngs_are_written(drawn, tmp_path):
    """A picture of each chart, without a browser."""
    files = charts.write(drawn[:2], tmp_path)
    assert [file.read_bytes()[:4] for file in files] == [b"\x89PNG"] * 2


def test_nothing_is_fetched(facts, drawn):
    """No address in the markup or the styles; the page's own policy forbids connections."""
    html = render_page(facts, drawn)
    markup = without_scripts(html)
    assert not re.search(r"(src|href)\s*=\s*(?![\"']?#)|url\(|@import|https?:", markup)
    assert "connect-src 'none'" in markup and "live.json" not in html
    assert all(plot["data"].get("url") is None for plot in embedded(html, "specs").values() if "data" in plot)


@pytest.mark.parametrize("part", ["epochs", "recall", "dims", "negatives", "ranked", "rows", "costs"])
def test_a_page_without_a_part(part, facts):
    """What is missing is said, with what to do."""
    value = getattr(facts, part)
    bare = replace(facts, **{part: type(value)() if isinstance(value, list | dict) else value.iloc[:0]})
    html = without_scripts(render_page(bare, charts.draw(bare)))
    assert html.count('class="empty"') > without_scripts(render_page(facts, charts.draw(facts))).count('class="empty"')


def test_flags_are_in_plain_sight(facts):
    """Before the first number; without any, the page says so."""
    html = render_page(replace(facts, flags=["round 1: POLLUTED <b>"]), [])
    assert html.index("round 1: POLLUTED &lt;b&gt;") < html.index('class="tiles"')
    assert "No refusals" in render_page(facts, [])


def test_hostile_text_stays_text(facts, drawn):
    """A query that closes scripts and opens tags is data to its last character."""
    data = replace(
        facts.data,
        validation={query: HOSTILE for query in facts.data.validation},
        passages={passage: HOSTILE for passage in facts.data.passages},
    )
    html = render_page(replace(facts, data=data, title=HOSTILE), drawn)
    assert "onerror" not in without_scripts(html).replace("onerror=&#34;", "")
    found = embedded(html, "queries")
    assert (
        "".join(part for part in found["queries"][0]["text"] if isinstance(part, str))
        == HOSTILE[: HOSTILE.index("\\(")]
    )
    assert found["formulas"][0][0] == r"\text{</script><b onclick=x>}"
    assert html.count("<script") == html.count("</script>")


def test_the_browser_holds_each_query(facts):
    """Gold passages, ranks and the first five of each run; formulas and passages are stored once."""
    data, ranked = facts.data, facts.ranked
    found = query_browser.build(data, ranked)
    assert [query["id"] for query in found["queries"]] == list(data.validation)
    for row, query in enumerate(found["queries"]):
        assert [found["passage_ids"][place] for place in query["gold"]] == data.qrels[query["id"]]
        top = [found["passage_ids"][place] for place in query["top"][-1][::2]]
        assert top == ranked[-1].run.passages[row, :5].tolist()
        assert query["ranks"] == [each.ranks[row] for each in ranked]
        assert query["unseen"] == (query["id"] in data.unseen)
    sources = [source for source, _ in found["formulas"]]
    assert len(set(sources)) == len(sources) and len(set(found["passage_ids"])) == len(found["passage_ids"])
    assert all(mathml.startswith("<math") for _, mathml in found["formulas"] if mathml)


def test_runs_of_few_passages_are_browsed(tiny_collection):
    """A corpus smaller than five has shorter lists."""
    data = collection.read(tiny_collection)
    passages = np.array([list(data.passages)[:2]] * len(data.validation))
    run = Run(list(data.validation), passages, np.zeros(passages.shape, dtype=np.float32))
    found = query_browser.build(data, [Ranked("one", run, np.zeros(len(passages), dtype=int))])
    assert found["depth"] == 2 and len(found["queries"][0]["top"][0]) == 4


def test_pictures_stand_before_their_words_once(tmp_path):
    """Small, as data URIs; one that is gone leaves its words."""
    for name in ("here", "gone"):
        Image.new("RGB", (300, 200), "red" if name == "here" else "blue").save(tmp_path / f"{name}.png")
    parts, marked = (
        Parts(),
        [attach_image("Whose? \\(x\\)", str(tmp_path / f"{n}.png")) for n in ("here", "gone")],
    )
    (tmp_path / "gone.png").unlink()
    assert [parts.split(text) for text in (*marked, marked[0])] == [[[n], "Whose? ", 0] for n in (0, 1, 0)]
    shown, missing = parts.drawn()
    assert shown.startswith("data:image/jpeg;base64,") and len(shown) < 3000 and missing is None
