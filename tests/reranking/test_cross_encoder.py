"""Rerankers: an encoder's classifier and a decoder's yes or no learn, save, load and score; groups are drawn fairly."""

import dataclasses
import functools
import math
import operator
import os
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import slow_clock
from helpers.scripts import assert_one_line, call
from helpers.tiny_task import refused

from rounds.artifacts import store
from rounds.artifacts.second_stage_manifests import RerankerManifest
from rounds.config import loader
from rounds.config.recipe import Recipe
from rounds.encoding import pair_scores, run_store
from rounds.models import checkpoint, cross_encoder
from rounds.models.checkpoint import Checkpoint
from rounds.models.weights import locate_model
from rounds.reranking import cross_encoder_training, folds, stage
from rounds.reranking.candidates import FILE, read_candidates
from rounds.reranking.cross_encoder_training import ListwiseLoss, RerankingGroup, score_in_chunks
from rounds.reranking.stage import RerankingInputs

TEMPLATE = "Question: {query}\nMistake: {passage}\nIs it this one?"


@pytest.fixture(scope="module")
def decoder(tmp_path_factory):
    """A random Qwen2 with a head for words, `yes` and `no` among them."""
    from transformers import AutoTokenizer, Qwen2Config, Qwen2ForCausalLM

    tiny = loader.load("tiny-qwen2")
    folder = tmp_path_factory.mktemp("decoder") / "tiny"
    tokenizer = AutoTokenizer.from_pretrained(locate_model(tiny.model))
    tokenizer.add_tokens(["yes", "no"])
    config = Qwen2Config(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=1,
    )
    Qwen2ForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def reranking(kind: str, decoder) -> Recipe:
    """Return a tiny recipe of a `classifier` or a `decoder`."""
    recipe = loader.load("tiny-qwen2").replace(
        "reranking", max_length=64, depth=20, template="" if kind == "classifier" else TEMPLATE
    )
    recipe = recipe.replace("tuning", method="full" if kind == "classifier" else "lora")
    recipe = recipe.replace("model", name_or_path="random:bert" if kind == "classifier" else str(decoder))
    recipe = recipe.replace("training", epochs=12, batch_size=8, group_size=3, learning_rate=5e-3)
    return dataclasses.replace(recipe, name=kind)


GROUPS = [RerankingGroup(f"question {n}", {f"right {n}": 0.0}, {f"wrong {m}": 0.0 for m in range(5)}) for n in range(6)]
PAIRS = [(group.query, text) for group in GROUPS for text in [*group.positives, *group.negatives]]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["classifier", "decoder"])
def test_a_trained_reranker_tells_apart_what_it_was_taught_and_loads_as_it_was_saved(kind, decoder, tmp_path):
    """The loss falls, positives stand above most negatives, and a second load scores the same."""
    recipe = reranking(kind, decoder)
    training = cross_encoder_training.train(recipe, GROUPS * 4, tmp_path / "model", 42, "cpu")
    assert training.groups == 24 and training.train_loss < 0.9 * np.log(3)
    scores = pair_scores.score(str(tmp_path / "model"), PAIRS, "cpu", recipe)
    assert (scores.reshape(6, 6).argmax(axis=1) == 0).mean() > 0.8
    assert np.array_equal(scores, pair_scores.score(str(tmp_path / "model"), PAIRS, "cpu", recipe))
    if kind == "decoder":
        assert (tmp_path / "model" / "adapter_config.json").is_file()


@pytest.mark.slow
def test_a_decoder_s_score_is_the_log_odds_of_yes(decoder):
    """Against the bare model: the template's text, and the difference of two logits behind it."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    recipe = reranking("decoder", decoder)
    (score,) = pair_scores.score(str(decoder), PAIRS[:1], "cpu", recipe)
    tokenizer, model = AutoTokenizer.from_pretrained(decoder), AutoModelForCausalLM.from_pretrained(decoder)
    text = TEMPLATE.replace("{query}", PAIRS[0][0]).replace("{passage}", PAIRS[0][1])
    ids = tokenizer(text, add_special_tokens=False, return_tensors="pt")["input_ids"]
    with torch.no_grad():
        logits = model(ids).logits[0, -1]
    yes, no = tokenizer.convert_tokens_to_ids(["yes", "no"])
    assert score == pytest.approx(float(logits[yes] - logits[no]), abs=1e-5)


def test_groups_are_drawn_anew_for_each_epoch():
    """Every group once an epoch, its positive first, other negatives the second time, the same for one seed."""
    rows = list(cross_encoder_training.sample_groups(GROUPS, 2, 3, 42))
    assert (
        rows
        == list(cross_encoder_training.sample_groups(GROUPS, 2, 3, 42))
        != list(cross_encoder_training.sample_groups(GROUPS, 2, 3, 43))
    )
    for epoch in (rows[:6], rows[6:]):
        assert sorted(query for query, _ in epoch) == sorted(group.query for group in GROUPS)
    by_query = {group.query: group for group in GROUPS}
    for query, passages in ((query, list(passages)) for query, passages in rows):
        assert passages[0] in by_query[query].positives and len(set(passages)) == 3
        assert set(passages[1:]) <= set(by_query[query].negatives)
    key = operator.itemgetter(0)
    assert [list(texts) for _, texts in sorted(rows[:6], key=key)] != [
        list(texts) for _, texts in sorted(rows[6:], key=key)
    ]


def test_what_cannot_be_trained_is_said_in_one_line(tmp_path, decoder):
    """No negatives, another tuning, and a template without its places."""
    recipe = reranking("classifier", decoder)
    with refused("nothing to learn from"):
        cross_encoder_training.train(recipe, [RerankingGroup("q", {"p": 0.0}, {})], tmp_path, 42, "cpu")
    prompting = dataclasses.replace(recipe, tuning=dataclasses.replace(recipe.tuning, method="prompt"))
    with refused("full, lora or qlora"):
        cross_encoder_training.train(prompting, GROUPS, tmp_path, 42, "cpu")
    with refused("leave mining.unlabelled_share out"):
        cross_encoder_training.check_recipe(recipe.replace("mining", candidates="corpus", unlabelled_share=0.5))
    with refused("a reranker trains without training.label_weight"):
        cross_encoder_training.check_recipe(recipe.replace("training", loss="distillation", label_weight=0.5))
    with refused("a reranker trains without training.average"):
        cross_encoder_training.train(recipe.replace("training", average="ema"), GROUPS, tmp_path, 42, "cpu")
    elsewhere = dataclasses.replace(recipe.tuning, method="lora")
    with refused("tuning.lora", "q_proj"):
        cross_encoder_training.train(dataclasses.replace(recipe, tuning=elsewhere), GROUPS, tmp_path, 42, "cpu")
    with refused("reranking.residual", "listwise"):
        loader.from_dict({"name": "x", "reranking": {"residual": 1, "loss": "pointwise"}}, "x.yaml")
    with refused("reranking.residual", "at least 0"):
        loader.from_dict({"name": "x", "reranking": {"residual": -1}}, "x.yaml")
    with refused("reranking.template", "{passage}"):
        loader.from_dict({"name": "x", "reranking": {"template": "{query}?"}}, "x.yaml")
    with refused("reranker ./nowhere", "no such folder"):
        pair_scores.score("./nowhere", PAIRS, "cpu", recipe)


@pytest.fixture(scope="module")
def tables(raw, tiny, tmp_path_factory):
    """Candidates of two splits with disjoint validation questions, by the random base model."""
    from rounds.data import collection
    from rounds.data.loaders import eedi
    from rounds.data.splits import Split

    folder, task = tmp_path_factory.mktemp("tables"), eedi.load(raw)
    groups = sorted({query.group for query in task.queries}, key=int)
    found = []
    for number in range(2):
        held = set(groups[number::4])
        collection.write(task, Split("v5", set(groups) - held, held), tiny.prompts, folder / f"data{number}", {})
        data = collection.read(folder / f"data{number}")
        output = folder / f"fold{number}" / "candidates"
        stage.make_candidates([checkpoint.resolve(None, tiny, "cpu")], data, output, folder, False)
        found.append(output)
    return found


def test_candidates_are_made_once_and_refuse_another_checkpoint(tables, tiny, tmp_path):
    """Up to date on the second call; another checkpoint needs another folder."""
    from rounds.data import collection

    manifest = store.read_manifest(tables[0])
    data = collection.read(tables[0] / manifest.collection)
    source = checkpoint.resolve(None, tiny, "cpu")
    assert manifest.members == [f"tiny-mistral round 0{part}" for part in (" topic", " problem", "")]
    assert "up to date" in stage.make_candidates([source], data, tables[0], tmp_path, False)
    with refused("a second model named", "no other seed of the first"):
        stage.make_candidates([source, source], data, tmp_path / "x", tmp_path, False)
    other = tiny.replace("prompts", query_prefix="other ")
    with refused(tables[0], "another configuration"):
        stage.make_candidates([checkpoint.resolve(None, other, "cpu")], data, tables[0], tmp_path, False)


def test_unlabelled_wrong_answers_are_siblings(raw, tables, tiny, tmp_path):
    """With the raw data each query has all the siblings that its question has, as in the test set."""
    from rounds.data import collection
    from rounds.data.loaders import eedi

    source, task = checkpoint.resolve(None, tiny, "cpu"), eedi.load(raw)
    data = collection.read(tables[0] / store.read_manifest(tables[0]).collection)
    arguments = ([source], data, tmp_path / "candidates", tables[0].parents[1], False, None, task)
    assert "--raw_dir" not in stage.make_candidates(*arguments)
    without, table = read_candidates(tables[0] / FILE), read_candidates(tmp_path / "candidates" / FILE)
    group_of = {query.id: query.group for query in task.queries}
    answers = Counter(query.group for query in task.queries)
    numbers = [answers[group_of[table.queries[row]]] - 1 for row in table.query_rows]
    assert table.features["siblings: number"].tolist() == numbers
    assert without.features["siblings: number"].sum() < sum(numbers)
    assert "up to date" in stage.make_candidates(*arguments)
    with refused("candidates", "another configuration"):
        stage.make_candidates(*arguments[:-2])
    assert "with a label alone" in stage.make_candidates(*arguments[:2], tmp_path / "other", *arguments[3:-2])


def add_outside(candidates: Path, folder: Path):
    """Copy the candidates' collection into a folder, with an outside question behind its rows, and read it."""
    from rounds.data import collection

    shutil.copytree(candidates / store.read_manifest(candidates).collection, folder)
    rows = store.read_jsonl(folder / collection.FINETUNE)
    last = {**rows[0], "pos_id": rows[1]["pos_id"], "question_id": "outside:more:aa", "outside": "more"}
    store.write_jsonl(folder / collection.FINETUNE, [*rows, last])
    return collection.read(folder), rows


def test_training_queries_that_mining_encoded_are_not_encoded_again(tables, tiny, tmp_path):
    """Own and outside ones are one set of vectors, that of mining."""
    source = checkpoint.resolve(None, tiny, "cpu")
    data, rows = add_outside(tables[0], tmp_path / "data")
    texts = [row["query"] for row in (*rows, rows[0])]
    encoded = run_store.open_store(source, tmp_path).vectors(texts, "query", "train")
    stage.make_candidates([source], data, tmp_path / "candidates", tmp_path, False)
    whole = [folder for folder in encoded[1].parent.glob("train-*") if folder.name.count("-") == 1]
    assert whole == [encoded[1]]


def test_outside_questions_vote_apart(tables, tiny, tmp_path):
    """They add features of their own, and leave those of the competition's labels as they are."""
    source = checkpoint.resolve(None, tiny, "cpu")
    data, rows = add_outside(tables[0], tmp_path / "data")
    stage.make_candidates([source], data, tmp_path / "candidates", tables[0].parents[1], False)
    without, table = read_candidates(tables[0] / FILE), read_candidates(tmp_path / "candidates" / FILE)
    names = {name.partition(": ")[0] for name in table.features.keys() - without.features.keys()}
    members = store.read_manifest(tables[0]).members
    assert names == {f"outside {member}" for member in members}
    places = {pair: place for place, pair in enumerate(zip(table.query_rows, table.passage_ids, strict=True))}
    kept = [places[pair] for pair in zip(without.query_rows, without.passage_ids, strict=True)]
    for name, values in without.features.items():
        np.testing.assert_array_equal(values, table.features[name][kept], err_msg=name)
    voted = table.passage_ids == rows[1]["pos_id"][0]
    np.testing.assert_array_equal(table.features[f"outside {members[-1]}: score"] > -1, voted)
    assert set(table.query_rows[voted]) == set(range(len(table.queries)))


def test_silent_outside_questions_do_not_vote(tables, tiny, tmp_path):
    """Beside another one they change nothing; alone they leave no features."""
    from rounds.data import collection

    source = checkpoint.resolve(None, tiny, "cpu")
    data, rows = add_outside(tables[0], tmp_path / "data")
    made = {}
    silent = {**rows[2], "question_id": "outside:b:aa", "outside": "b", "silent": True}
    voter = store.read_jsonl(data.folder / collection.FINETUNE)[-1]
    for name, outside_rows in {"voter": [voter], "both": [voter, silent], "silent": [silent]}.items():
        store.write_jsonl(data.folder / collection.FINETUNE, [*rows, *outside_rows])
        stage.make_candidates([source], data, tmp_path / name, tmp_path, False)
        made[name] = read_candidates(tmp_path / name / FILE)
    assert list(made["both"].passage_ids) == list(made["voter"].passage_ids)
    for name, values in made["voter"].features.items():
        np.testing.assert_allclose(made["both"].features[name], values, atol=1e-5, err_msg=name)
    assert not any(name.startswith("outside") for name in made["silent"].features)


def test_a_reranker_never_scores_questions_that_it_learned_from(tables, decoder, tmp_path):
    """A fold as its own teacher is refused, and nothing is left behind."""
    recipe = reranking("classifier", decoder)
    with refused(tables[0], "questions that are to be scored"):
        stage.rerank(RerankingInputs(recipe, [tables[0]], tables[0]), tmp_path / "rerank", 42, "cpu", False)
    assert not list(tmp_path.iterdir())


class Lengths(torch.nn.Module):
    """A model whose score of a pair is a weight times the length of its passage."""

    device = torch.device("cpu")

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.tensor(0.5))

    def preprocess(self, pairs):
        return {"lengths": torch.tensor([float(len(text)) for _, text in pairs])}

    def forward(self, features):
        return {"scores": self.weight * features["lengths"][:, None]}


@pytest.mark.parametrize("chunk", [1, 2, 100])
def test_the_listwise_loss_equals_the_slow_sum(chunk):
    """Groups of unequal length, the first stage's word added, whatever is computed at once."""
    model = Lengths()
    inputs = [["q", "r"], [["aa", "b", "cccc"], ["d", "ee"]]]
    labels = [torch.tensor([0.5, 0.0, -1.0]), torch.tensor([2.0, 0.0])]
    expected = 0.0
    for texts, prior in zip(inputs[1], labels, strict=True):
        scores = [0.5 * len(text) + extra for text, extra in zip(texts, prior.tolist(), strict=True)]
        expected += (math.log(sum(math.exp(score) for score in scores)) - scores[0]) / 2
    loss = ListwiseLoss(model, functools.partial(score_in_chunks, model, chunk))(inputs, labels)
    assert loss.item() == pytest.approx(expected, abs=1e-5)
    loss.backward()
    assert model.weight.grad != 0


def test_an_encoder_starts_with_the_first_stage_s_ranking(decoder, tmp_path):
    """Its head is zero, its inputs are pairs, and its pooling is the recipe's."""
    recipe = reranking("classifier", decoder).replace("model", pooling="cls")
    assert pair_scores.score(locate_model(recipe.model), PAIRS[:3], "cpu", recipe).tolist() == [0.0, 0.0, 0.0]
    model = cross_encoder.load(locate_model(recipe.model), recipe, "cpu")
    assert model[1].pooling_mode == "cls"
    tokens = model.preprocess([("one", "two"), ("one " * 200, "two")])
    assert tokens["input_ids"].shape[1] == recipe.reranking.max_length
    with refused("pooling"):
        layers = recipe.replace("model", pooling="sum_last_n")
        cross_encoder_training.train(layers, GROUPS, tmp_path, 42, "cpu")


def test_scoring_and_training_tell_how_long_they_take(tmp_path, monkeypatch, capsys):
    """The tokens of evenly spaced pairs stand for all; scores and weights are the same with a line and without one."""
    recipe = reranking("classifier", None).replace("training", epochs=2)
    cross_encoder_training.train(recipe, GROUPS, tmp_path / "model", 42, "cpu")
    pairs = [(query, f"{text} {number}") for query, text in PAIRS for number in range(10)]
    expected = pair_scores.score(str(tmp_path / "model"), pairs, "cpu", recipe)
    slow_clock.use(monkeypatch)
    cross_encoder_training.train(recipe, GROUPS, tmp_path / "again", 42, "cpu")
    scores = pair_scores.score(str(tmp_path / "again"), pairs, "cpu", recipe)
    assert np.array_equal(scores, expected)
    training, scoring = slow_clock.lines(capsys)
    assert training == "train the reranker on 6 queries: about 20 min (2 steps, 6.0 steps/h)"
    model = cross_encoder.load(str(tmp_path / "model"), recipe, "cpu")
    tokens = sum(int(model.preprocess([pair])["attention_mask"].sum()) for pair in pairs)
    assert scoring.startswith("score 360 pairs: about 1.9 h (")
    assert slow_clock.amount(scoring) == pytest.approx(tokens, rel=0.02)


@pytest.mark.parametrize("method", ["full", "lora"])
def test_a_finished_classifier_keeps_its_head(method, tmp_path):
    """As transformers saves one: its scores are the library's, and training with a rate of zero leaves them."""
    from sentence_transformers import CrossEncoder
    from transformers import AutoConfig, AutoModelForSequenceClassification, AutoTokenizer

    recipe = reranking("classifier", None)
    base, folder = locate_model(recipe.model), tmp_path / "finished"
    torch.manual_seed(0)
    config = AutoConfig.from_pretrained(base, num_labels=1)
    AutoModelForSequenceClassification.from_config(config).save_pretrained(folder)
    AutoTokenizer.from_pretrained(base).save_pretrained(folder)
    expected = CrossEncoder(str(folder), device="cpu", activation_fn=torch.nn.Identity()).predict(PAIRS)
    assert np.allclose(pair_scores.score(str(folder), PAIRS, "cpu", recipe), expected, atol=1e-5)
    assert len(set(expected.tolist())) > 1
    lora = dataclasses.replace(recipe.tuning.lora, targets=["query", "value"])
    recipe = dataclasses.replace(recipe, tuning=dataclasses.replace(recipe.tuning, method=method, lora=lora))
    recipe = recipe.replace("training", learning_rate=1e-9, epochs=1)
    cross_encoder_training.train(recipe, GROUPS, tmp_path / "model", 42, "cpu", folder)
    assert np.allclose(pair_scores.score(str(tmp_path / "model"), PAIRS, "cpu", recipe), expected, atol=1e-5)


@pytest.mark.parametrize("candidates", ["labelled", "corpus"])
def test_negatives_are_labelled_passages_unless_the_recipe_takes_the_corpus(candidates, tables, tiny):
    """The best come first, and positives are relevant candidates."""
    fold, recipe = stage.read_candidate_folder(tables[0]), tiny.replace("mining", candidates=candidates)
    known = {passage for passages in fold.data.qrels.values() for passage in passages[:1]}
    known_texts = {fold.data.passages[passage] for passage in known}
    for group in stage.reranking_groups(fold, recipe, known):
        assert len(group.negatives) <= recipe.reranking.depth
        assert not group.positives.keys() & group.negatives.keys()
        assert list(group.negatives.values()) == sorted(group.negatives.values(), reverse=True)
        queries = [query for query, text in fold.data.validation.items() if text == group.query]
        relevant = {fold.data.passages[passage] for query in queries for passage in fold.data.qrels[query]}
        assert group.positives.keys() <= relevant
        if candidates == "labelled":
            assert group.negatives.keys() <= known_texts


def test_a_reranker_starts_from_the_checkpoint_that_ranked_its_table(tables, decoder, tmp_path):
    """Another, none, or the base model is refused in one line, and nothing is left behind."""
    recipe = reranking("classifier", decoder).replace("reranking", start_from="refined")

    def rerank(refined: Checkpoint | None) -> None:
        inputs = RerankingInputs(recipe, [tables[1]], tables[0], refined)
        stage.rerank(inputs, tmp_path / "rerank", 42, "cpu", False)

    with refused("--refined"):
        rerank(None)
    with refused("fully tuned or merged"):
        rerank(checkpoint.resolve(None, loader.load("tiny-mistral"), "cpu"))
    other = dataclasses.replace(checkpoint.resolve(None, loader.load("tiny-qwen2"), "cpu"), folder=tmp_path)
    with refused("not the checkpoint that", tables[0]):
        rerank(other)
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_a_reranker_without_epochs_scores_as_it_is(tables, decoder, tmp_path):
    """The scores are the base model's, and no weights are written; an encoder has no head to score with yet."""
    recipe = reranking("decoder", decoder).replace("training", epochs=0)
    line = stage.rerank(RerankingInputs(recipe, [tables[1]], tables[0]), tmp_path / "rerank", 42, "cpu", False)
    assert "not trained" in line and not (tmp_path / "rerank" / stage.MODEL).exists()
    scored = stage.read_candidate_folder(tables[0])
    near = scored.within_rank(recipe.reranking.depth)
    texts = scored.data.validation
    pairs = [
        (texts[scored.table.queries[row]], scored.data.passages[passage])
        for row, passage in zip(scored.table.query_rows[near], scored.table.passage_ids[near], strict=True)
    ]
    scores = np.load(tmp_path / "rerank" / folds.SCORES)
    assert np.allclose(scores[near], pair_scores.score(str(decoder), pairs, "cpu", recipe), atol=1e-6)
    classifier = reranking("classifier", decoder).replace("training", epochs=0)
    with refused("training.epochs is 0", "head that scores is new"):
        stage.rerank(RerankingInputs(classifier, [tables[1]], tables[0]), tmp_path / "other", 42, "cpu", False)
    assert not (tmp_path / "other").exists()


@pytest.mark.slow
def test_what_the_first_stage_says_is_part_of_a_residual_reranker_s_score(tables, decoder, tmp_path):
    """With next to no training the score is `residual` times the similarity."""
    recipe = reranking("classifier", decoder).replace("reranking", residual=20.0)
    recipe = recipe.replace("training", epochs=1, learning_rate=1e-9)
    stage.rerank(RerankingInputs(recipe, [tables[1]], tables[0]), tmp_path / "rerank", 42, "cpu", False)
    scores, table = np.load(tmp_path / "rerank" / folds.SCORES), read_candidates(tables[0] / FILE)
    near = ~np.isnan(scores)
    assert np.allclose(scores[near], 20 * table.features["tiny-mistral round 0: score"][near], atol=1e-3)


@pytest.mark.slow
def test_a_reranker_s_scores_become_features(tables, decoder, tmp_path):
    """The best `depth` of each query are scored, the others are not; the table carries the scores to the fusion."""
    recipe = reranking("classifier", decoder)
    output = tables[0].with_name("rerank")
    line = stage.rerank(RerankingInputs(recipe, [tables[1]], tables[0]), output, 42, "cpu", False)
    assert "1 folds" in line and "up to date" in stage.rerank(
        RerankingInputs(recipe, [tables[1]], tables[0]), output, 42, "cpu", False
    )
    table, cost = folds.read_reranked(tables[0], output)
    assert cost.minutes > 0
    scored = ~np.isnan(table.features["reranker: score"])
    assert np.bincount(table.query_rows[scored]).tolist() == [recipe.reranking.depth] * len(table.queries)
    best = table.features["reranker: below best"][scored]
    assert best.max() == 0 and (table.features["reranker: rank"][scored][best == 0] < 0.7).all()
    bare = read_candidates(tables[0] / FILE)
    assert "reranker: score" not in bare.features


def test_scores_of_other_candidates_are_refused(tables, tmp_path):
    """A reranker beside candidates that were made anew since is never mixed with them."""
    folder = tmp_path / "round1" / "candidates"
    shutil.copytree(tables[1], folder)
    folder.with_name("rerank").mkdir()
    other = RerankerManifest(config={"table": "another"}, model="model", train_loss=1.0, groups=1, steps=1)
    store.write_manifest(folder.with_name("rerank") / "manifest.json", other)
    with refused("rerank", "other candidates"):
        folds.read_reranked(folder, folder.with_name("rerank"))
    with refused("round1: no reranker there"):
        folds.read_reranked(folder, folder.parent)


def test_candidates_of_other_labels_are_refused(tables, tmp_path):
    """A collection that was made anew with other labels for the same queries is not the one that was ranked."""
    folder, manifest = tables[0], store.read_manifest(tables[0])
    shutil.copytree(folder / manifest.collection, tmp_path / "data")
    moved = manifest.with_values(collection=os.path.relpath(tmp_path / "data", folder))
    assert folds.read_collection(folder, moved).validation
    labels = tmp_path / "data" / "validation_qrels.tsv"
    header, first, *rest = labels.read_text().splitlines()
    query, passage, grade = first.split("\t")
    other = next(each for each in read_candidates(folder / FILE).passage_ids if each != passage)
    labels.write_text("\n".join([header, f"{query}\t{other}\t{grade}", *rest]) + "\n")
    with refused(folder, "other queries, labels or passages", tmp_path / "data"):
        folds.read_collection(folder, moved)


def test_candidates_behind_a_link_find_their_collection(tables, tmp_path):
    """Where model_output is a link to another disk, `..` is taken from the path as it was written."""
    (tmp_path / "disk" / "far" / "output").mkdir(parents=True)
    (tmp_path / "output").symlink_to(tmp_path / "disk" / "far" / "output")
    manifest = store.read_manifest(tables[0])
    shutil.copytree(tables[0] / manifest.collection, tmp_path / "data")
    moved = manifest.with_values(collection="../../data")
    assert folds.read_collection(tmp_path / "output" / "candidates", moved).folder == tmp_path / "data"


def test_a_fold_outside_a_round_s_folder_is_refused(tables):
    """Scores of the rounds are read beside the candidates; where no round is, the line says where to make them."""
    with refused(tables[0].parent, "round2/candidates", "--output_dir"):
        folds.read_fold(tables[0])


def test_a_checkpoint_of_unknown_lineage_is_refused(tables, tiny, tmp_path):
    """No second stage learns from the ranking of a checkpoint whose training questions are unknown."""
    from rounds.data import collection

    data = collection.read(tables[0] / store.read_manifest(tables[0]).collection)
    source = dataclasses.replace(checkpoint.resolve(None, tiny, "cpu"), lineage=None)
    with refused("lineage unknown"):
        stage.make_candidates([source], data, tmp_path / "x", tmp_path, False)


@pytest.mark.slow
def test_the_scripts_name_what_is_wrong(tmp_path):
    """A wrong folder or recipe is one line and exit code 2."""
    flags = ["--folds", "no", "--table", "no", "--output_dir", "out"]
    assert_one_line(call("rerank.py", "--recipe", "minilm-reranker", *flags, cwd=tmp_path), "no: no candidates")
    assert_one_line(call("rerank.py", "--recipe", "minilm-rerank", *flags, cwd=tmp_path), "minilm-rerank")
    assert_one_line(call("rerank.py", "--recipe", "minilm-reranker", *flags, "--seed=-1", cwd=tmp_path), "seed -1")
    assert_one_line(call("cv.py", "--folds", "no", "no2", cwd=tmp_path), "no: no candidates")
    assert_one_line(call("cv.py", "--folds", "no", "--output_file", "t.md", cwd=tmp_path), "t.md", "NAME.json")
    flags = ["--folds", "no", "--table", "no", "--raw_dir", "r", "--output_file", "o.csv"]
    assert_one_line(call("fuse.py", *flags, cwd=tmp_path), "no: no candidates")
    flags = ["--data_dir", "nowhere", "--model_paths", "m", "--output_dir", "out"]
    assert_one_line(call("candidates.py", *flags, cwd=tmp_path), "nowhere", "no collection")
    assert not list(tmp_path.iterdir())
