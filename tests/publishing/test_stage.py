"""Published folders: what is in them, how they load without this project, and what their cards say."""

import dataclasses
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from helpers.published_models import REPO, card, make_checkpoint, make_job, metadata
from helpers.result_rows import make_row
from helpers.tiny_task import refused
from helpers.tuned_models import tuned_recipe

from rounds.artifacts import store
from rounds.artifacts.manifests import Parent, RawManifest
from rounds.config import loader
from rounds.config.recipe import Projection, Recipe
from rounds.data import collection, splits
from rounds.data.loaders import eedi
from rounds.encoding import averaged_checkpoint
from rounds.encoding.encoder import encode
from rounds.evaluation import results
from rounds.evaluation.results import RowKind
from rounds.models import checkpoint
from rounds.publishing import card as model_card
from rounds.publishing import files, stage
from rounds.publishing.files import Form
from rounds.training.plan import DISTILLED

TEXTS = ["Nine swallows.", "A text of some more words than the other one has, so that lengths differ."]


def make_evaluations(folder: Path, weights: str) -> list[Path]:
    """Write evaluations of BM25, the base model and round 1."""
    rows = [
        [
            make_row("BM25", 1, kind=RowKind.BM25),
            make_row("zero-shot", 2, kind=RowKind.ZERO_SHOT, weights="b" * 64),
        ],
        [make_row("round 1, epoch 1 (last, best)", 3, 0.2, kind=RowKind.ROUND, round=1, epoch=1, weights=weights)],
    ]
    for number, group in enumerate(rows):
        (folder / f"eval{number}").mkdir()
        results.save(group, folder / f"eval{number}")
    return [folder / "eval0", folder / "eval1"]


def full_recipe() -> Recipe:
    recipe = tuned_recipe("full")
    return dataclasses.replace(recipe, prompts=dataclasses.replace(recipe.prompts, passage_prefix="passage: "))


@pytest.fixture(scope="module")
def full(tmp_path_factory) -> Path:
    """A checkpoint with all weights."""
    return make_checkpoint(full_recipe(), tmp_path_factory.mktemp("full") / "epoch_1")


@pytest.fixture(scope="module")
def published(full, tiny_collection, tmp_path_factory) -> Path:
    """Its published folder, with evaluations."""
    folder = tmp_path_factory.mktemp("published")
    evaluations = make_evaluations(folder, store.read_manifest(full).weights)
    stage.write_folder(make_job(full, tiny_collection, folder / "tiny", evaluations=evaluations))
    return folder / "tiny"


@pytest.fixture
def untried(monkeypatch) -> None:
    """Folders are written without being tried in a process of their own, which takes seconds."""
    monkeypatch.setattr(stage, "try_folder", lambda *_: 0.9999)


def run_card(folder: Path, scratch: Path) -> tuple[str, np.ndarray]:
    """Run a card's code on its folder in a fresh process; return what it prints, and vectors of `TEXTS`."""
    (code,) = re.findall(r"```python\n(.*?)```", card(folder), re.DOTALL)
    code = code.replace(f'"{REPO}"', json.dumps(str(folder)))
    output = scratch / "vectors.npy"
    code += f"import numpy as np\nnp.save({str(output)!r}, [f({TEXTS!r}) for f in (embed_queries, embed_passages)])\n"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=scratch)
    return result.stdout, np.load(output)


def own_vectors(folder: Path) -> list[np.ndarray]:
    source = checkpoint.resolve(str(folder), device="cpu")
    embedder, prompts = source.load(), source.recipe.prompts
    return [encode(embedder, TEXTS, prompts, kind, source.precision) for kind in ("query", "passage")]


def test_the_cards_code_gives_the_checkpoints_vectors(published, full, tmp_path):
    """In a process without this project's code, with the recipe's prefixes, suffixes, limits and pooling."""
    printed, vectors = run_card(published, tmp_path)
    np.testing.assert_allclose(vectors, own_vectors(full), atol=1e-5)
    assert "tensor" in printed


def test_only_files_of_the_model_are_there(published, full):
    """Manifest, metrics, runs and optimizer state stay behind; the weights are the checkpoint's, byte for byte."""
    assert {path.relative_to(published).as_posix() for path in published.rglob("*") if path.is_file()} == {
        "1_Pooling/config.json",
        "2_Normalize/config.json",
        "README.md",
        "config.json",
        "config_sentence_transformers.json",
        "model.safetensors",
        "modules.json",
        "sentence_bert_config.json",
        "tokenizer.json",
        "tokenizer_config.json",
    }
    assert (published / "model.safetensors").read_bytes() == (full / "model.safetensors").read_bytes()


def test_no_text_or_id_of_the_data_is_there(published, tiny_collection):
    """No query, passage, question's id or digest stands in any file, as it is or escaped as JSON escapes it."""
    data = collection.read(tiny_collection)
    rows = collection.read_rows(tiny_collection / collection.FINETUNE, ("pos",))
    texts = {*data.passages.values(), *data.validation.values(), *data.test.values(), *(row["query"] for row in rows)}
    digests = {digest for side in data.questions.values() for digest in side.values()}
    contents = {path: path.read_bytes() for path in published.rglob("*") if path.is_file()}
    found = [
        (path.name, text)
        for path, content in contents.items()
        for text in (*texts, *(() if path.suffix == ".safetensors" else (*data.validation, *digests)))
        if text.encode() in content or json.dumps(text)[1:-1].encode() in content
    ]
    assert len(texts) > 100 and len(digests) > 30 and found == []


@pytest.mark.parametrize("part", ["name", "explanation"])
def test_a_part_of_a_passage_in_a_prompt_is_refused(part, tiny_collection, tmp_path, untried):
    """Names and explanations are texts of the data, also where passages are both together."""
    quoted = f"Some long {part} of a passage."
    recipe = full_recipe().replace("prompts", query_prefix=quoted)
    job = make_job(make_checkpoint(recipe, tmp_path / "epoch_1"), tiny_collection, tmp_path / "out")
    data = dataclasses.replace(job.data, **{f"{part}s": {"0": quoted}})
    with refused("would publish a text of the data"):
        stage.write_folder(dataclasses.replace(job, data=data))


def test_the_card_says_how_passages_are_joined(tiny_collection, tmp_path, untried):
    """A reader puts name and explanation together as the training did."""
    recipe = full_recipe().replace("prompts", passage="{name}: {explanation}")
    stage.write_folder(make_job(make_checkpoint(recipe, tmp_path / "epoch_1"), tiny_collection, tmp_path / "out"))
    assert "A passage consists of parts, joined as `'{name}: {explanation}'`." in card(tmp_path / "out")


def test_the_card_has_the_hubs_metadata(published):
    """The licence is left to the user; a random base model has no name on the hub."""
    values = metadata(published)
    assert values["library_name"] == "sentence-transformers" and values["pipeline_tag"] == "sentence-similarity"
    assert "retrieval" in values["tags"] and not values.keys() & {"license", "base_model", "datasets"}


def test_the_card_says_what_it_was_trained_on(published, tiny_collection):
    """Data by name, split, and numbers of queries."""
    data, text = collection.read(tiny_collection), card(published)
    rows = collection.read_rows(tiny_collection / collection.FINETUNE, ("pos",))
    assert "- Data: `tiny`\n- Split: `v1`, seed 0\n" in text
    assert f"- Training queries: {len(rows)}\n- Validation queries: {len(data.validation)}, of which" in text


def test_the_card_counts_queries_of_outside_questions_apart(tiny_collection, tmp_path, untried):
    """The competition's own queries are not mixed with those that joined by EXTRA."""
    folder = tmp_path / "validation_v1"
    shutil.copytree(tiny_collection, folder)
    rows = store.read_jsonl(folder / collection.FINETUNE)
    marked = [{**row, collection.OUTSIDE: "a"} if number < 3 else row for number, row in enumerate(rows)]
    store.write_jsonl(folder / collection.FINETUNE, marked)
    stage.write_folder(make_job(make_checkpoint(full_recipe(), tmp_path / "epoch_1"), folder, tmp_path / "out"))
    assert f"- Training queries: {len(rows) - 3}, and 3 of outside questions\n" in card(tmp_path / "out")


def test_the_card_has_the_table_and_ps(published):
    """Rows as the evaluation prints them, and the model against BM25 and zero-shot."""
    text = card(published)
    assert "| MAP@25 seen | MAP@25 unseen | p |" in text
    assert "| round 1, epoch 1 (last, best) |" in text
    (zero_shot,) = re.findall(r"Against zero-shot: MAP@25 \+(0\.\d{4}), p = 0\.0001", text)
    assert 0.1 < float(zero_shot) < 0.3 and "Against BM25: MAP@25 +0." in text


def test_the_card_tells_the_lineage(published, full):
    """The base model, the round and the digests of their weights, and that no validation question was seen."""
    text = card(published)
    assert f"1. random:mistral: `{'b' * 64}`" in text
    assert f"2. round 1, epoch 1: `{store.read_manifest(full).weights}`" in text
    assert "Status: clean." in text and "unknown" not in text.split("## Lineage")[1].split("##")[0]


def test_no_path_of_this_machine_is_there(published, full, cache):
    """Configs of transformers and peft hold the folders that they were loaded from."""
    contents = "".join(path.read_text(encoding="utf-8") for path in published.rglob("*.json")) + card(published)
    assert str(cache) not in contents and str(full.parent) not in contents


def test_an_adapter_of_a_hub_model_stays_an_adapter(tiny_collection, tmp_path):
    """Its base model gets the hub's name in place of this machine's path; code on the card loads it by that."""
    folder = make_checkpoint(loader.load("minilm-lora"), tmp_path / "lora_epoch_1")
    line = stage.write_folder(make_job(folder, tiny_collection, tmp_path / "out", license="mit"))
    out, base = tmp_path / "out", "sentence-transformers/all-MiniLM-L6-v2"
    assert f"{out}: adapter, " in line and not (out / "model.safetensors").exists()
    assert (out / "adapter_model.safetensors").read_bytes() == (folder / "adapter_model.safetensors").read_bytes()
    assert json.loads((out / "adapter_config.json").read_text())["base_model_name_or_path"] == base
    values = metadata(out)
    assert values["base_model"] == base and values["base_model_relation"] == "adapter" and values["license"] == "mit"
    assert "site-packages" not in "".join(path.read_text() for path in out.rglob("*.json"))
    assert "peft" in values["tags"] and "needs sentence-transformers and peft" in card(out)


@pytest.mark.parametrize("projection", [0, pytest.param(24, marks=pytest.mark.slow)])
def test_an_adapter_of_another_model_is_merged(projection, tiny_collection, tmp_path):
    """What is not on the hub, and weights that peft does not load, go into the model; the card says so."""
    recipe = tuned_recipe("lora", projection=Projection(dim=projection))
    folder = make_checkpoint(recipe, tmp_path / "lora_epoch_1")
    stage.write_folder(make_job(folder, tiny_collection, tmp_path / "out"))
    out = tmp_path / "out"
    assert (out / "model.safetensors").is_file() and not list(out.glob("adapter_*"))
    assert not (out / "tuned.safetensors").exists() and "merged into the base model's weights" in card(out)


def test_merged_is_a_choice(tmp_path):
    """MERGED=1 merges what could stay an adapter."""
    folder = make_checkpoint(loader.load("minilm-lora"), tmp_path / "lora_epoch_1")
    source = checkpoint.resolve(str(folder), device="cpu")
    assert [files.choose_form(source, merge) for merge in (False, True)] == [Form.ADAPTER, Form.MERGED]


@pytest.mark.parametrize("method", ["prompt", "p_tuning", "prefix", "bottleneck"])
def test_methods_that_sentence_transformers_does_not_load_are_refused(method, tmp_path):
    """Before anything is written, and with those that it loads."""
    folder = make_checkpoint(tuned_recipe(method), tmp_path / "epoch_1")
    with refused(folder, f"tuning.method {method}", "full, lora"):
        files.choose_form(checkpoint.resolve(str(folder), device="cpu"), merge=False)


def test_two_encoders_are_refused(tmp_path):
    """They are no single model."""
    folder = make_checkpoint(tuned_recipe("lora", separate=True), tmp_path / "epoch_1")
    with refused(folder, "two encoders"):
        files.choose_form(checkpoint.resolve(str(folder), device="cpu"), merge=False)


def test_a_pooling_of_our_own_is_refused(tiny_collection, tmp_path):
    """Its module is this project's; no folder is left."""
    recipe = full_recipe()
    recipe = dataclasses.replace(
        recipe, model=dataclasses.replace(recipe.model, pooling="sum_last_n", pooling_layers=2)
    )
    folder = make_checkpoint(recipe, tmp_path / "epoch_1")
    with refused(folder, "model.pooling sum_last_n"):
        stage.write_folder(make_job(folder, tiny_collection, tmp_path / "out"))
    assert [path.name for path in tmp_path.iterdir()] == ["epoch_1"]


def test_other_vectors_are_refused_and_the_older_folder_stays(full, tiny_collection, tmp_path, monkeypatch):
    """A model that sentence-transformers would load wrongly is not published."""
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "older").touch()
    monkeypatch.setattr(stage, "encode", lambda model, texts, *_: np.ones((len(texts), 64), np.float32))
    with refused(full, "other vectors", "nothing was written"):
        stage.write_folder(make_job(full, tiny_collection, tmp_path / "out"))
    assert [path.name for path in tmp_path.rglob("*")] == ["out", "older"]


def test_prompts_that_quote_the_data_are_refused(tiny_collection, tmp_path, untried):
    """A passage in the recipe's prefix would be published with the card."""
    passage = next(text for text in collection.read(tiny_collection).passages.values() if len(text) > 30)
    recipe = full_recipe()
    recipe = dataclasses.replace(
        recipe, prompts=dataclasses.replace(recipe.prompts, query_prefix=f"As in: {passage}\n")
    )
    folder = make_checkpoint(recipe, tmp_path / "epoch_1")
    with refused("a text of the data", passage[:20]):
        stage.write_folder(make_job(folder, tiny_collection, tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_an_unknown_lineage_is_said_first(tiny_collection, tmp_path, untried):
    """Above the code and the table, and again beside the lineage."""
    folder = make_checkpoint(full_recipe(), tmp_path / "epoch_1", lineage=None)
    stage.write_folder(make_job(folder, tiny_collection, tmp_path / "out"))
    text = card(tmp_path / "out")
    assert "**Lineage unknown.**" in text.split("## How to use it")[0] and "Status: lineage unknown." in text


def test_outside_questions_are_counted_by_source(tiny_collection, tmp_path, untried):
    """Their licences are their sources'; digests of questions stay out of the card."""
    questions = {"1": "aa", "outside:b:cc": "cc", "outside:model A:dd": "dd", "outside:model A:ee": "ee"}
    folder = make_checkpoint(full_recipe(), tmp_path / "epoch_1", lineage=questions)
    stage.write_folder(make_job(folder, tiny_collection, tmp_path / "out"))
    line = "- Outside questions, by source: b 1, model A 2; their labels make no passage seen"
    assert line in card(tmp_path / "out").splitlines() and "outside:" not in card(tmp_path / "out")


def test_a_polluted_checkpoint_is_marked(tiny_collection, tmp_path, untried):
    """With the number of validation questions that it was trained on, and without their ids."""
    seen = dict(list(collection.read(tiny_collection).questions["validation"].items())[:3])
    folder = make_checkpoint(full_recipe(), tmp_path / "epoch_1", lineage=seen)
    stage.write_folder(make_job(folder, tiny_collection, tmp_path / "out"))
    text = card(tmp_path / "out")
    assert "**POLLUTED.**" in text.split("## How to use it")[0] and "trained on 3 of the" in text
    assert not [digest for digest in seen.values() if digest in text]


def test_a_split_without_validation_queries_has_a_card_without_a_table(raw, tiny, tmp_path, untried):
    """SPLIT=submission trains on everything: the card says so."""
    task = eedi.load(raw)
    collection.write(task, splits.make_split(task, "submission"), tiny.prompts, tmp_path / "data", {"seed": 42})
    folder = make_checkpoint(full_recipe(), tmp_path / "epoch_1")
    stage.write_folder(make_job(folder, tmp_path / "data", tmp_path / "out"))
    text = card(tmp_path / "out")
    assert "leaves no queries to evaluate on" in text and "| --- |" not in text
    assert "Validation queries: none: all labelled queries were trained on" in text
    assert "Trained on all 1 labelled questions; none was held out." in text


def test_the_competition_is_named(full, tiny_collection, tmp_path):
    """Downloaded data say which competition they are of."""
    with store.writing(tmp_path / "raw", RawManifest(config={"competition": "some-contest"})):
        pass
    job = dataclasses.replace(make_job(full, tiny_collection, tmp_path / "out"), raw=tmp_path / "raw")
    assert stage.describe_data(job).description == "Kaggle competition some-contest"


def test_ancestors_are_traced_round_by_round(tmp_path):
    """The base model first; an ancestor that was trained again since ends the chain with the digest that was used."""
    recipe = full_recipe()
    first = make_checkpoint(recipe, tmp_path / "round1" / "train" / "epoch_2", epoch=2)
    weights = store.read_manifest(first).weights
    parent = Parent(name="../round1/train/epoch_2", weights=weights, base=False, kind="full")
    second = make_checkpoint(recipe, tmp_path / "round2" / "train" / "epoch_1", round=2, parent=parent)
    source = checkpoint.resolve(str(second), device="cpu")
    names = [ancestor.name for ancestor in stage.trace_ancestors(source)]
    assert names == ["random:mistral", "round 1, epoch 2", "round 2, epoch 1"]
    shutil.rmtree(first)
    chain = stage.trace_ancestors(source)
    assert [ancestor.name for ancestor in chain] == ["an earlier checkpoint", "round 2, epoch 1"]
    assert chain[0].weights == weights


def test_few_shot_examples_are_said_to_be_missing(full, tiny_collection, tmp_path, untried):
    """The table's scores are with examples, which are training data; the card says how to put others."""
    recipe = full_recipe()
    prompts = dataclasses.replace(recipe.prompts, examples="nearest", examples_number=2)
    folder = make_checkpoint(dataclasses.replace(recipe, prompts=prompts), tmp_path / "epoch_1")
    stage.write_folder(make_job(folder, tiny_collection, tmp_path / "out"))
    assert "up to 2 solved examples" in card(tmp_path / "out")


def test_prefixes_are_sentence_transformers_prompts_where_they_are_all(published, tiny_collection, tmp_path, untried):
    """With a suffix there are none, since encode_query would leave it out."""

    def prompts_in(folder: Path) -> dict:
        return json.loads((folder / "config_sentence_transformers.json").read_text())["prompts"]

    assert prompts_in(published) == {"query": "", "document": ""}
    recipe = full_recipe()
    prompts = dataclasses.replace(recipe.prompts, query_suffix="", query_prefix="query: ")
    folder = make_checkpoint(dataclasses.replace(recipe, prompts=prompts), tmp_path / "epoch_1")
    stage.write_folder(make_job(folder, tiny_collection, tmp_path / "out"))
    assert prompts_in(tmp_path / "out") == {"query": "query: ", "document": "passage: "}


def test_a_distilled_checkpoint_is_told_from_its_round(tiny_collection, tmp_path):
    """Card and chain say that it learned from an ensemble, and leave the rounds' hard negatives out."""
    folder = make_checkpoint(tuned_recipe("lora"), tmp_path / "student", title=DISTILLED)
    job = make_job(folder, tiny_collection, tmp_path / "published")
    assert stage.trace_ancestors(job.source)[-1].name == "distilled, epoch 1"
    text = model_card.render(stage.gather_facts(job, Form.MERGED))
    assert "It then learned how an ensemble" in text and "- Weights: distilled" in text
    assert "- Hard negatives:" not in text


def test_an_average_names_its_parents(tiny_collection, tmp_path):
    """The card says whose mean the weights are, and the chain ends with the parents and their weights."""
    recipe = tuned_recipe("lora")
    folders = [make_checkpoint(recipe, tmp_path / str(number), round=number) for number in (1, 2)]
    sources = [checkpoint.resolve(str(folder), device="cpu") for folder in folders]
    averaged_checkpoint.average(sources, tmp_path / "average")
    job = make_job(tmp_path / "average", tiny_collection, tmp_path / "published")
    ancestors = stage.trace_ancestors(job.source)
    assert [ancestor.name for ancestor in ancestors] == [
        "averaged: round 1, epoch 1",
        "averaged: round 2, epoch 1",
        "mean of round 1, round 2",
    ]
    assert [ancestor.weights for ancestor in ancestors[:2]] == [source.weights_digest for source in sources]
    text = model_card.render(stage.gather_facts(job, Form.MERGED))
    assert "in rounds of hard-negative mining and training. Its weights are the mean of round 1, round 2." in text
    assert "None" not in text
