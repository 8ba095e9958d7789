"""Few-shot examples: which training queries precede a query, and how they are cut."""

import dataclasses
import random

import pytest
from helpers.tiny_task import refused

from rounds.config import loader
from rounds.data import collection
from rounds.data.few_shot import ExampleBank, QueryMetadata
from rounds.encoding.encoder import encode
from rounds.encoding.tokenization import report_once, tokenize
from rounds.evaluation.stage import evaluate_checkpoint
from rounds.models import backbone, checkpoint
from rounds.training.collator import Collator
from rounds.training.dataset import read_training_groups

TINY = loader.load("tiny-mistral")


def with_examples(policy: str = "nearest", number: int = 2, limit: int = 0, **prompts):
    prompts = dataclasses.replace(TINY.prompts, examples=policy, examples_number=number, **prompts)
    return dataclasses.replace(TINY, prompts=prompts).replace("training", examples_limit=limit)


def bank(policy: str = "nearest", seed: int = 42) -> ExampleBank:
    rows = [
        (QueryMetadata(f"query {n}", f"{n // 2}", f"construct {n % 5}", f"subject {n % 3}"), f"answer {n}")
        for n in range(40)
    ]
    return ExampleBank(rows, dataclasses.replace(TINY.prompts, examples=policy, examples_number=2, examples_seed=seed))


def numbers(found: list[str]) -> list[int]:
    return [int(text.rpartition("answer ")[2]) for text in found]


def test_an_example_is_prompt_query_suffix_and_answer():
    """An example reads as the query itself does, and then goes on with its positive."""
    (text,) = bank().choose(QueryMetadata("q", "99", "construct 1", "subject 1"), 1)
    n = numbers([text])[0]
    assert text == f"<instruct>{TINY.prompts.task}\n<query>query {n}\n<response>answer {n}"


def test_the_nearest_share_construct_then_subject_then_nothing():
    """Rows of the construct come first, then rows of the subject, then any."""
    found = numbers(bank().choose(QueryMetadata("q", "99", "construct 1", "subject 2"), 40))
    kinds = [0 if n % 5 == 1 else 1 if n % 3 == 2 else 2 for n in found]
    assert kinds == sorted(kinds)
    assert {0, 1, 2} == set(kinds)


def test_an_unknown_topic_takes_seeded_examples():
    """A query whose construct and subject nobody knows has examples all the same, other ones for another seed."""
    asked = QueryMetadata("q")
    assert bank().choose(asked, 5) == bank().choose(asked, 5) != bank(seed=7).choose(asked, 5)


@pytest.mark.parametrize("policy", ["fixed", "nearest"])
@pytest.mark.parametrize("row", range(0, 40, 7))
def test_never_the_query_itself_nor_its_question(policy, row):
    """No example is of the query's own question, has its text, or shares a question with another example."""
    source = bank(policy)
    found = numbers(source.choose(source.queries[row], 40))
    assert row // 2 not in [n // 2 for n in found]
    assert len({n // 2 for n in found}) == len(found) == 19


def test_a_twin_text_is_no_example():
    """The same text under another question is the query itself."""
    source = bank("fixed")
    assert 8 not in numbers(source.choose(QueryMetadata("query  8", "99"), 40))


def test_fixed_examples_are_the_same_for_all():
    """The policy `fixed` depends on nothing but the seed."""
    source = bank("fixed")
    one = source.choose(QueryMetadata("a", "98", "construct 1", "subject 1"), 3)
    assert one == source.choose(QueryMetadata("b", "99", "construct 2", "subject 2"), 3)


def test_queries_of_a_construct_share_their_examples():
    """So that many queries share a prefix."""
    asked = [QueryMetadata(f"a{n}", str(100 + n), "construct 3", f"subject {n % 3}") for n in range(5)]
    found = [bank().choose(each, 2) for each in asked]
    assert all(each == found[0] for each in found)


def test_nearest_without_topics_is_refused():
    """Data that says no construct cannot have nearest examples; it does not become random in silence."""
    with refused("prompts.examples nearest", "no row says its construct"):
        ExampleBank([(QueryMetadata("q"), "a")], with_examples().prompts)


def test_examples_come_from_the_training_side(tiny_collection):
    """No validation question stands before a validation query."""
    data = collection.read(tiny_collection)
    rows = collection.read_rows(tiny_collection / collection.FINETUNE, ("pos",))
    source = collection.example_bank(rows, with_examples().prompts)
    assert {query.question for query in source.queries} == set(data.questions["train"])
    assert not set(data.questions["train"]) & {query.question for query in data.metadata.values()}


def tokens(texts: list[str], before, **prompts) -> list[list[int]]:
    recipe = with_examples(**prompts)
    return tokenize(backbone.load(TINY, "fp32", "cpu").tokenizer, texts, recipe.prompts, "query", before)


def test_examples_do_not_cut_the_query():
    """The query's own limit does not count the examples, so a short query stays whole behind long ones."""
    (plain,), (long,) = tokens(["one two"], [[]]), tokens(["one two"], [["word " * 100]])
    assert long[-len(plain) + 1 :] == plain[1:]


def test_a_long_query_is_cut_behind_examples_too():
    """The query loses its own end; examples before it and suffix behind it survive."""
    (plain,), (long,) = (tokens(["one two three " * 50], [lead], query_max_length=60) for lead in ([], ["word " * 20]))
    assert len(plain) == 60
    assert long[-59:] == plain[1:]


def test_examples_beyond_the_limit_are_left_out(capsys):
    """The best examples that fit stay, and the number of queries that have fewer is said."""
    report_once.cache_clear()
    rows = tokens(["q", "q"], [["a b c"] * 3, ["a b c"]], examples_max_length=12)
    few = tokens(["q", "q"], [["a b c"], ["a b c"]], examples_max_length=100)
    assert len(rows[0]) < len(tokens(["q"], [["a b c"] * 3], examples_max_length=100)[0])
    assert rows[1] == few[1]
    assert "1 of 2 query texts have fewer examples" in "".join(capsys.readouterr())


def test_training_draws_zero_to_the_limit_per_batch(tiny_mined):
    """Each batch has its own number of examples, the same for all of its queries and again in a repeated epoch."""
    recipe = with_examples(limit=3, examples_max_length=2000)
    data = read_training_groups(tiny_mined, 42, recipe)
    collate = Collator(data, backbone.load(recipe, "fp32", "cpu"), recipe, 42)
    rows = list(range(6))
    plain = [len(collate.query_ids[data.queries[row]]) for row in rows]

    def epoch(number: int) -> list[list[int]]:
        collate.start_epoch(number)
        return [[len(ids) for ids in collate.tokenize_queries(rows)] for _ in range(30)]

    batches = epoch(0)
    assert plain in batches, "some batch has no examples"
    assert len({tuple(batch) for batch in batches}) == 4, "0, 1, 2 or 3 examples"
    assert all(batch == plain or all(a > b for a, b in zip(batch, plain, strict=True)) for batch in batches)
    assert epoch(0) == batches != epoch(1)


def test_examples_change_a_run_and_its_place(tiny_collection, tmp_path):
    """With and without examples are two runs; a second time, each is read from disk."""
    data = collection.read(tiny_collection)
    sources = {
        name: checkpoint.resolve(None, recipe, "cpu") for name, recipe in (("none", TINY), ("nearest", with_examples()))
    }
    rows = {name: evaluate_checkpoint(source, data, tmp_path, False) for name, source in sources.items()}
    assert rows["none"].fingerprint != rows["nearest"].fingerprint
    assert rows["none"].per_query.tolist() != rows["nearest"].per_query.tolist()
    again = evaluate_checkpoint(sources["nearest"], data, tmp_path, False)
    assert again.metrics == rows["nearest"].metrics


def test_a_vector_does_not_depend_on_other_queries_examples():
    """Encoding with examples in one batch equals encoding each query alone."""
    recipe = with_examples()
    embedder = backbone.load(recipe, "fp32", "cpu")
    texts = ["one", "two words", "one", "three words here"]
    before = [[], ["an example"], ["another", "and one more"], ["an example"]]
    together = encode(embedder, texts, recipe.prompts, "query", "fp32", examples=before)
    for n in random.Random(0).sample(range(4), 4):
        (alone,) = encode(embedder, [texts[n]], recipe.prompts, "query", "fp32", examples=[before[n]])
        assert together[n] == pytest.approx(alone, abs=1e-5)
    assert abs(together[0] - together[2]).max() > 1e-3
