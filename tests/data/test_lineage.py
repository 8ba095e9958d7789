import pytest
from helpers.tiny_task import make_task, refused

from rounds.data import lineage
from rounds.data.dataset import Query, RetrievalDataset
from rounds.errors import Refused

VALIDATION = {"1": "aa", "2": "bb", "3": "cc"}


@pytest.mark.parametrize(
    ("trained", "expected"),
    [
        ({}, []),
        ({"1": "aa", "9": "zz"}, ["1"]),
        ({"1": "xx", "2": "yy"}, []),
        ({"8": "aa", "9": "bb"}, []),
        ({"3": "cc", "1": "aa"}, ["1", "3"]),
        ({"3": "aa", "2": "bb"}, ["2"]),
    ],
)
def test_overlap_needs_id_and_text(trained, expected):
    """A question is the same where both id and digest agree: ids of two datasets may coincide, texts may be reused."""
    assert lineage.overlap(trained, VALIDATION) == expected


def test_checkpoints_of_pairs_whose_groups_had_numbers_are_still_known():
    """Groups of pairs are named by their texts today; those of earlier checkpoints by their place in the table."""
    by_text = {"0123456789abcdef": "aa", "fedcba9876543210": "zz"}
    assert lineage.overlap({"q0": "bb+aa", "q7": "cc"}, by_text) == ["0123456789abcdef"]
    assert lineage.overlap({"q0": "aa"}, {"q1": "aa"}) == [] == lineage.overlap({"7": "aa"}, by_text)


@pytest.mark.parametrize("allow_leak", [False, True])
def test_no_overlap_is_clean(allow_leak):
    """Nothing in common is `clean`, whatever is allowed."""
    assert lineage.guard("round 1", {"9": "aa"}, VALIDATION, allow_leak) == lineage.CLEAN
    assert lineage.guard("base", {}, VALIDATION, allow_leak) == lineage.CLEAN


def test_a_leak_is_refused():
    """The refusal names the checkpoint, how many of how many questions leaked, and the flag."""
    with refused("round 1", "2 of the 3 validation questions", "--allow_leak"):
        lineage.guard("round 1", {"1": "aa", "2": "bb", "9": "zz"}, VALIDATION, allow_leak=False)


def test_an_allowed_leak_is_marked():
    """With `allow_leak` the numbers are marked."""
    assert lineage.guard("round 1", {"1": "aa"}, VALIDATION, allow_leak=True) == "POLLUTED"


@pytest.mark.parametrize("allow_leak", [False, True])
def test_an_unknown_lineage_is_called_unknown(allow_leak):
    """A checkpoint that says nothing of its training is neither clean nor polluted."""
    assert lineage.guard("a folder", None, VALIDATION, allow_leak) == "lineage unknown"


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        ([], {}),
        ([{"1": "aa"}], {"1": "aa"}),
        ([{"1": "aa"}, {}, {"2": "bb", "1": "aa"}], {"1": "aa", "2": "bb"}),
        ([{"1": "aa"}, None], None),
        ([None, {}], None),
    ],
)
def test_union(parts, expected):
    """A union holds every part's questions and is unknown where one part is."""
    assert lineage.union(*parts) == expected


@pytest.mark.parametrize("later", ["xx", "aa"])
def test_a_union_forgets_no_question(later):
    """Where two parts have one id with two texts, both were trained on: neither may pass as unseen later."""
    both = lineage.union({"1": "aa"}, {"1": later})
    assert lineage.overlap(both, {"1": "aa"}) == ["1"]
    assert lineage.overlap(both, {"1": later}) == ["1"]


def test_digests_ignore_white_space_only():
    """A text whose line breaks a tool changed is the same question; another text is another."""
    assert lineage.digest("What is\n 1 + 1? ") == lineage.digest("What is 1 + 1?\r\n")
    assert lineage.digest("What is 1 + 1?") != lineage.digest("What is 1 + 2?")


def test_question_digests_are_in_numerical_order():
    """Each given group has the digest of its text; smaller ids come first."""
    task = make_task({group: ["1", "1", "1"] for group in ("10", "9", "100", "2")})
    digests = lineage.question_digests(task, {"100", "9", "10"})
    assert list(digests) == ["9", "10", "100"]
    assert digests["9"] == lineage.digest("question 9?")


def test_a_group_of_several_questions_is_known_by_each():
    """A group that gains, loses or reorders questions still overlaps with what was trained on some of them."""
    texts = {"before": ["one?", "two?"], "after": ["new?", "two?"], "other": ["none of them?"]}
    known = {}
    for name, questions in texts.items():
        queries = [Query(f"q{number}", "g", {"question": text}) for number, text in enumerate(questions)]
        known[name] = lineage.question_digests(RetrievalDataset("t", queries, {}, {}), {"g"})
    assert lineage.overlap(known["before"], known["after"]) == ["g"]
    assert lineage.overlap(known["before"], known["other"]) == []


def test_the_refusal_names_the_flag_only_where_there_is_one():
    """Scripts without --allow_leak say what is wrong, and not how to pass a flag that they lack."""
    for allow_leak, is_named in ((False, True), (None, False)):
        with pytest.raises(Refused, match="1 of the 1 validation rows") as caught:
            lineage.guard("m", {"1": "a"}, {"1": "a"}, allow_leak, "rows")
        assert ("--allow_leak" in str(caught.value)) is is_named
