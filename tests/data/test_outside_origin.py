"""Origins: sources written from the competition's questions, or chosen by its labels, are found, and no others."""

import itertools
from dataclasses import replace

import pytest
from helpers.tiny_task import make_task

from rounds.artifacts import store
from rounds.config import loader
from rounds.config.recipe import Outside
from rounds.data import collection, lineage, outside, outside_origin
from rounds.data.dataset import RetrievalDataset
from rounds.data.loaders.outside import LabelledFor, OutsideRow
from rounds.data.splits import Split

# Questions 0 to 39 label misconceptions 0 to 39; nothing labels 40 to 79. Question n is on construct n % 5.
DATASET: RetrievalDataset = make_task(
    {str(n): [str(n), "", ""] for n in range(40)}, {str(n): f"misconception {n}" for n in range(80)}
)
SPLIT = Split("v5", {str(n) for n in range(10, 40)}, {str(n) for n in range(10)})
PSEUDO = LabelledFor("tiny", "v5", "42", "0", "aa")
numbers = itertools.count()


def row(label: int, construct: str, source: str = "more", labelled_for: LabelledFor | None = None) -> OutsideRow:
    """A row whose question is like no other."""
    number = next(numbers)
    question = " ".join(chr(97 + (number * step + 7 * step) % 26) * 5 for step in range(1, 9)) + f" {number}"
    fields = {"construct": construct, "subject": "", "question": question, "correct": "1", "wrong": "2"}
    return OutsideRow("more.csv", number, source, fields, str(label), labelled_for)


def written(source: str = "more") -> list[OutsideRow]:
    """As a model writes that is shown a labelled question where there is one: the construct gives it away."""
    return [row(n, f"Construct {n % 5} " if n < 40 else f"invented {n}", source) for n in range(80)]


def invented(source: str = "more") -> list[OutsideRow]:
    """On all misconceptions alike."""
    return [row(n, f"construct {n % 5}" if n % 2 else f"invented {n}", source) for n in range(80)]


def test_a_source_written_from_labelled_questions_is_found():
    """Its rows on labelled misconceptions have these questions' constructs, whatever their capitals, and others not."""
    found = outside_origin.trace(DATASET, [*written("a"), *invented("b")])
    assert found.rewritten == ("a",) and found.chosen == {}
    assert [str(share) for share in found.construct_shares] == ["100%", "0%"]


@pytest.mark.parametrize("labels", [range(40), range(40, 80)], ids=["labelled", "unlabelled"])
def test_a_source_chosen_by_the_labels_is_found(labels):
    """It covers the passages that the competition labels, or those that it does not."""
    found = outside_origin.trace(DATASET, [*(row(n, "invented", "a") for n in labels), *invented("b")])
    assert list(found.chosen) == ["a"] and found.rewritten == ()
    assert sorted(str(share) for share in found.chosen["a"]) == ["0%", "100%"]


def test_a_source_on_labelled_misconceptions_alone_is_compared_with_the_others():
    """Without any other, its choice and its constructs are evidence enough."""
    alone = written("a")[:40] + written("a")[:40]
    for beside in ([], [row(n, f"invented {n}", "b") for n in range(80)]):
        found = outside_origin.trace(DATASET, [*alone, *beside])
        assert found.rewritten == ("a",) and list(found.chosen) == ["a"]


def test_sources_of_single_rows_are_checked_together():
    """A prompt's or batch's name in `Source` hides nothing."""
    found = outside_origin.trace(DATASET, [replace(each, source=f"s{each.row}") for each in written()])
    assert len(found.rewritten) == 80 and found.chosen == {}


def test_a_question_counts_once():
    """Five questions are too few to tell, however many of their answers are rows."""
    few = [replace(each, row=n) for each in (*written()[:5], *written()[40:45]) for n in range(4)]
    assert outside_origin.trace(DATASET, few).rewritten == ()


def test_chance_and_pseudo_labels_are_no_evidence():
    """A few rows may be on labelled passages by chance; a model that labels answers knows no held-out label."""
    few = [row(n, f"construct {n}") for n in range(3)]
    pseudo = [row(n, f"construct {n % 5}", "pseudo", PSEUDO) for n in range(40)]
    found = outside_origin.trace(DATASET, [*few, *pseudo])
    assert found.rewritten == () and found.chosen == {}
    assert outside_origin.trace(DATASET, [row(1, "") for _ in range(3)]).rewritten == ()


@pytest.mark.parametrize(("constructs", "sources"), [("auto", {"a"}), ("keep", set()), ("drop", {"a", "b"})])
def test_rows_about_held_out_constructs_are_left_out(constructs, sources):
    """Whatever their label, so that no gap tells it; by default those of sources that were written from questions."""
    rows = [*written("a"), *invented("b")]
    split = Split("v5", SPLIT.train | {"0", "1", "2"}, {"3", "4"})
    settings = Outside(max_cosine=1, duplicate_cosine=1, constructs=constructs)
    joined = outside.join(DATASET, split, rows, settings)
    dropped = [entry for entry in joined.dropped if entry.reason == "same_construct"]
    assert {entry.row.source for entry in dropped} == sources
    assert all(entry.row.fields["construct"].strip()[-1] in "34" and entry.cosine is None for entry in dropped)
    assert {entry.row.label for entry in dropped if entry.row.source == "a"} == (
        {str(n) for n in range(40) if n % 5 in (3, 4)} if "a" in sources else set()
    )
    assert all(entry.nearest.startswith("validation question ") for entry in dropped)


def test_pseudo_labels_are_kept():
    """Training questions share constructs with held-out ones, and are no other questions in disguise."""
    held_out = lineage.questions_digest(lineage.question_digests(DATASET, SPLIT.validation))
    labelled_for = replace(PSEUDO, held_out=held_out)
    rows = [row(n, "construct 3", "pseudo", labelled_for) for n in range(3)]
    joined = outside.join(DATASET, SPLIT, rows, Outside(max_cosine=1, duplicate_cosine=1, constructs="drop"))
    assert joined.dropped == []


def test_the_collection_says_who_has_no_vote(tmp_path):
    """Rows of a source that was chosen by the labels are silent; the collection names sources of either kind."""
    rows = [*written("a"), *(row(n, "invented", "c") for n in range(40, 80))]
    split = Split("v5", SPLIT.train | {str(n) for n in range(5, 10)}, {"0"})
    joined = outside.join(DATASET, split, rows, Outside(max_cosine=1, duplicate_cosine=1))
    collection.write(DATASET, split, loader.load("tiny-mistral").prompts, tmp_path / "c", {}, outside=joined)
    trained = collection.outside_rows(store.read_jsonl(tmp_path / "c" / collection.FINETUNE))
    assert {each["outside"] for each in trained if "silent" in each} == {"c"}
    assert {each["outside"] for each in trained if "silent" not in each} == {"a"}
    described = collection.read(tmp_path / "c").outside
    assert (described["rewritten"], described["chosen"]) == (["a"], ["c"])


def test_warnings_name_sources_and_counts():
    """One line for each kind of origin, and none without; what is said of held-out questions holds for the split."""
    settings = Outside(max_cosine=1, duplicate_cosine=1)
    chosen = [row(n, "invented", "c") for n in range(40, 80)]
    joined = outside.join(DATASET, SPLIT, [*written("a"), *chosen], settings)
    written_line, chosen_line = joined.warnings(settings, has_validation=True)
    assert written_line.startswith("warning: a: look written") and "100% of their questions" in written_line
    assert "left out (40 of them); scores" in written_line
    assert chosen_line.startswith("warning: c: 0% of the labelled") and "no vote" in chosen_line
    assert joined.warnings(settings, has_validation=False)[0].endswith("left out (40 of them)")
    assert "are kept" in joined.warnings(replace(settings, constructs="keep"), has_validation=True)[0]
    assert outside.join(DATASET, SPLIT, invented(), settings).warnings(settings, has_validation=True) == []
