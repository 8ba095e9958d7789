"""Keys: whatever shapes an artefact is in its key, by content; nothing else is."""

import json
import os
from pathlib import Path

import pytest

from rounds.artifacts import hashing, store
from rounds.artifacts.manifests import SampleManifest
from rounds.config.recipe import FILE_SOURCES
from rounds.pipeline import keys
from rounds.pipeline.keys import Command, command, made_from


def mining(**flags) -> dict:
    """The key of a mining command."""
    defaults = {"recipe": "r.yaml", "input_file": "rows.jsonl", "output_file": "mined.jsonl", "seed": 42}
    return made_from(command("hn_mine", **{**defaults, **flags}))


@pytest.fixture(autouse=True)
def rows(project):
    """A file to mine for."""
    (project / "rows.jsonl").write_text("{}\n", encoding="utf-8")


def test_a_command_line_is_read_back_as_it_was_written():
    """The script computes from its command line the key that make planned."""
    call = command("finetune", ["--group_size=4", "--dims", "8", "16"], recipe="r.yaml", seed=0, compare=["a", "b c"])
    assert Command("finetune", keys.parse(call.arguments())) == call
    assert "--seed" in call.arguments() and "--dims 8 16" in " ".join(call.arguments())


def test_a_key_survives_its_manifest():
    """A key compares equal after it was written to JSON and read back."""
    record = mining()
    assert json.loads(json.dumps(record)) == record


@pytest.mark.parametrize(
    "ignored", [{"devices": "cuda:0"}, {"model_output": "x"}, {"output_file": "other.jsonl"}, {"overwrite": True}]
)
def test_where_a_stage_runs_is_not_in_the_key(ignored):
    """Another device, ledger or name of the output leaves the artefact what it is."""
    assert mining(**ignored) == mining()


@pytest.mark.parametrize("manifest", ["[]", '{"version": 1}'])
def test_another_tool_s_manifest_does_not_hide_a_model_s_files(manifest, project):
    """A model folder with a manifest.json that no stage wrote counts by its files."""
    (project / "model").mkdir()
    (project / "model" / store.MANIFEST).write_text(manifest, encoding="utf-8")
    (project / "r.yaml").write_text("extends: tiny-mistral\nmodel: {name_or_path: ./model}\n", encoding="utf-8")
    (project / "model" / "model.safetensors").write_text("one", encoding="utf-8")
    before = mining()
    (project / "model" / "model.safetensors").write_text("two", encoding="utf-8")
    assert mining() != before


@pytest.mark.parametrize("changed", [{"seed": 7}, {"engine": "flagembedding"}, {"negative_number": 3}])
def test_flags_are_in_the_key(changed):
    """Another value of a flag that shapes the output is another key."""
    assert mining(**changed) != mining()


@pytest.mark.parametrize(
    "text",
    [
        "extends: tiny-mistral\n",
        "extends: tiny-mistral  # the base\n",
        "{extends: tiny-mistral, name: r}\n",
        "name: r\nextends: parent.yaml\n",
    ],
)
def test_the_resolved_recipe_counts(project, text):
    """Flow style, comments and parents in files give one key; a change of the parent is noticed through `extends`."""
    (project / "parent.yaml").write_text(Path(packaged("tiny-mistral")).read_text(), encoding="utf-8")
    (project / "r.yaml").write_text("extends: tiny-mistral\n", encoding="utf-8")
    before = mining()
    (project / "r.yaml").write_text(text, encoding="utf-8")
    assert mining() == before
    parent = (project / "parent.yaml").read_text(encoding="utf-8")
    (project / "parent.yaml").write_text(parent.replace("negative_number: 5", "negative_number: 6"), encoding="utf-8")
    assert (mining() != before) == ("parent.yaml" in text)


def packaged(name: str) -> str:
    from importlib import resources

    return str(resources.files("rounds") / "recipes" / f"{name}.yaml")


def test_only_what_a_script_reads_of_a_recipe_counts(project):
    """Other epochs change no mining; other negatives do."""
    before = mining()
    (project / "r.yaml").write_text("extends: tiny-mistral\ntraining: {epochs: 9}\n", encoding="utf-8")
    assert mining() == before
    (project / "r.yaml").write_text("extends: tiny-mistral\nmining: {negative_number: 9}\n", encoding="utf-8")
    assert store.differences(before, mining()) == ["recipe.mining.negative_number: 5 -> 9"]


def test_inputs_count_by_content_not_by_date_or_name(project):
    """A changed file with its old date is another key; a touched or moved one is not."""
    before, date = mining(), (project / "rows.jsonl").stat()
    os.utime(project / "rows.jsonl")
    (project / "moved.jsonl").write_text("{}\n", encoding="utf-8")
    assert mining() == before == mining(input_file="moved.jsonl")
    (project / "rows.jsonl").write_text("[]\n", encoding="utf-8")
    os.utime(project / "rows.jsonl", ns=(date.st_atime_ns, date.st_mtime_ns))
    assert mining() != before


def data_key(*files: str) -> dict:
    return made_from(command("gen_data_for_hn_mine", raw_dir="raw", extra_files=files or None, recipe="r.yaml"))


def test_outside_questions_count_by_content_and_name(project):
    """A file's name is its rows' source, its folder is nothing; without such files the key says nothing of them."""
    for name in ("a.csv", "b.csv", "folder/a.csv"):
        (project / name).parent.mkdir(exist_ok=True)
        (project / name).write_text("x", encoding="utf-8")
    keys = [data_key(), data_key("a.csv"), data_key("b.csv"), data_key("a.csv", "b.csv"), data_key("b.csv", "a.csv")]
    assert len({json.dumps(key) for key in keys}) == 5
    assert data_key("folder/a.csv") == data_key("a.csv") and "extra_files" not in data_key()
    (project / "a.csv").write_text("y", encoding="utf-8")
    assert data_key("a.csv") != keys[1] and data_key() == keys[0]


def test_outside_questions_are_joined_anew_where_the_rules_are_others(project, monkeypatch):
    """The same keys may leave out other rows than in an earlier version; data without such rows stay as they are."""
    (project / "a.csv").write_text("x", encoding="utf-8")
    plain, before = data_key(), data_key("a.csv")
    monkeypatch.setattr(keys, "OUTSIDE_RULES", keys.OUTSIDE_RULES + 1)
    assert data_key("a.csv") != before and data_key() == plain


@pytest.mark.parametrize("flag", ["explanations", "extra_files"])
def test_a_file_that_lies_beside_an_artefact_counts_by_its_own_content(flag, project):
    """Somebody's file in the sample's folder is no part of the sample: another content is another key."""
    with store.writing(project / "data/sample", SampleManifest(config={}, made_from={"seed": 1})) as folder:
        (folder / "train.csv").write_text("x", encoding="utf-8")
    keys = []
    for content in ("one", "two"):
        (project / "data/sample/mine.csv").write_text(content, encoding="utf-8")
        keys.append(made_from(command("gen_data_for_hn_mine", **{flag: ["data/sample/mine.csv"]})))
    assert keys[0] != keys[1]


def test_the_outside_section_counts_where_it_differs(project):
    """A default written out changes no key; another limit does."""
    before = data_key()
    (project / "r.yaml").write_text("extends: tiny-mistral\noutside: {max_cosine: 0.5}\n", encoding="utf-8")
    assert data_key() == before and "outside" not in before["recipe"]
    (project / "r.yaml").write_text("extends: tiny-mistral\noutside: {max_cosine: 0.6}\n", encoding="utf-8")
    assert data_key()["recipe"]["outside"] == {"max_cosine": 0.6}


def test_an_artefact_counts_by_its_key(project):
    """What was made from other things is another input; files inside an artefact stand for the whole of it."""
    for seed in (1, 2):
        with store.writing(project / f"data{seed}", SampleManifest(config={}, made_from={"seed": seed})) as folder:
            (folder / "rows.jsonl").write_text("{}\n", encoding="utf-8")
    assert mining(input_file="data1/rows.jsonl") != mining(input_file="data2/rows.jsonl")
    assert mining(input_file="data1/rows.jsonl")["input_file"] == hashing.made_from_digest({"seed": 1})


def raw_key(task: str, raw: str = "raw") -> object:
    return made_from(command("gen_data_for_hn_mine", raw_dir=raw, task=task, recipe="r.yaml"))["raw_dir"]


@pytest.mark.parametrize("task", ["", "beir", "weak_labels", "kbvqa"])
def test_symbolic_links_are_followed(task, project):
    """A file that changes behind a link to it, to its folder or to the whole data is noticed, for every task."""
    store = project / "store"
    (store / "images").mkdir(parents=True)
    for name in ("train.csv", "corpus.jsonl", "images/a.jpg"):
        (store / name).write_text("1", encoding="utf-8")
    (project / "linked").symlink_to(store)
    (project / "cache" / "snapshot").mkdir(parents=True)
    (project / "cache" / "snapshot" / "train.csv").symlink_to(store / "train.csv")
    (project / "cache" / "snapshot" / "images").symlink_to(store / "images")
    before = raw_key(task, "linked"), raw_key(task, "cache/snapshot")
    (store / "train.csv").write_text("2", encoding="utf-8")
    changed = raw_key(task, "linked"), raw_key(task, "cache/snapshot")
    assert changed[0] != before[0] and changed[1] != before[1]
    if task:
        (store / "images" / "a.jpg").write_text("2", encoding="utf-8")
        assert raw_key(task, "linked") != changed[0] and raw_key(task, "cache/snapshot") != changed[1]


def test_a_circle_of_links_ends(project):
    """A folder that links to itself is read once."""
    (project / "raw" / "again").symlink_to(project / "raw")
    assert len(keys.files_below(project / "raw")) == 4


def test_the_competitions_files_alone_count(project):
    """A file that nobody reads changes nothing for Eedi."""
    before = raw_key("")
    (project / "raw" / "notes.txt").write_text("x", encoding="utf-8")
    files = {"train.csv", "test.csv", "misconception_mapping.csv", "sample_submission.csv"}
    assert raw_key("") == before and set(before) == files


def test_many_files_are_shortened(project):
    """A manifest does not list thousands of pictures; one of them is noticed all the same."""
    (project / "pictures").mkdir()
    for number in range(40):
        (project / "pictures" / f"{number}.jpg").write_text(str(number), encoding="utf-8")
    before = raw_key("kbvqa", "pictures")
    assert before["files"] == 40
    (project / "pictures" / "7.jpg").write_text("other", encoding="utf-8")
    assert raw_key("kbvqa", "pictures")["digest"] != before["digest"]


def test_epochs_of_a_round_are_other_inputs(project):
    """Each epoch is a checkpoint of its own in the round's artefact; what reads another one is made anew."""
    with store.writing(project / "train", SampleManifest(config={}, made_from={"seed": 1})) as folder:
        for epoch in ("epoch_1", "epoch_2"):
            (folder / epoch).mkdir()
            store.write_json(folder / epoch / store.MANIFEST, {"kind": "checkpoint"})

    def key(*places: str) -> object:
        return made_from(command("average", model_paths=[f"train{place}" for place in places]))["model_paths"]

    assert len({json.dumps(key(*places)) for places in (["/epoch_1"], ["/epoch_2"], [""], ["/epoch_1", ""])}) == 4
    assert key("") == hashing.made_from_digest({"seed": 1})


def test_processes_are_in_the_key_of_training():
    """Two processes round differently from one; a sharded recipe takes all cards whatever NPROC says."""
    one, two = (made_from(command("finetune", (), processes, recipe="r.yaml")) for processes in (1, 2))
    assert store.differences(one, two) == ["processes: null -> 2"]


def test_files_that_a_recipe_names_count(project):
    """A checkpoint to start from, and vectors of another encoder, count by what they hold."""
    text = "extends: tiny-mistral\ntuning: {init_from: ./start}\n"
    (project / "r.yaml").write_text(text, encoding="utf-8")
    absent = mining()
    for seed in (1, 2):
        with store.writing(project / "start", SampleManifest(config={}, made_from={"seed": seed})):
            pass
        assert mining()["recipe"]["files"] == {"./start": hashing.made_from_digest({"seed": seed})}
    assert "files" not in absent["recipe"]


def test_the_stand_in_of_the_hub_model_counts(monkeypatch):
    """ROUNDS_MODEL puts another model in the place of the hub's, and only of that."""
    plain = made_from(command("hn_mine", recipe="bge-en-icl")), mining()
    monkeypatch.setenv("ROUNDS_MODEL", "/models/small")
    assert made_from(command("hn_mine", recipe="bge-en-icl")) != plain[0] and mining() == plain[1]


@pytest.mark.parametrize("name", ["./small", "small"])
@pytest.mark.parametrize("by", ["ROUNDS_MODEL", "the recipe"])
def test_a_model_s_folder_counts_by_its_content(name, by, project, monkeypatch):
    """Weights of the same size, another tokenizer, and a folder of another name, in the recipe's or the hub's place."""
    (project / "r.yaml").write_text(f"extends: bge-en-icl\nmodel: {{name_or_path: {name}}}\n", encoding="utf-8")
    recipe = "r.yaml" if by == "the recipe" else "bge-en-icl"
    if by == "ROUNDS_MODEL":
        monkeypatch.setenv("ROUNDS_MODEL", name)
    (project / "small").mkdir()
    keys_of = []
    for file, text in (("model.safetensors", "one"), ("model.safetensors", "two"), ("tokenizer.json", "{}")):
        (project / "small" / file).write_text(text, encoding="utf-8")
        keys_of.append(mining(recipe=recipe))
    assert len({json.dumps(key) for key in keys_of}) == 3 and mining(recipe=recipe) == keys_of[-1]
    if by == "ROUNDS_MODEL":
        (project / "small").rename(project / "moved")
        monkeypatch.setenv("ROUNDS_MODEL", "./moved")
        assert mining(recipe=recipe) == keys_of[-1]


def test_vision_towers_count_by_captions_and_their_pictures(project):
    """A caption or its picture retrains the tower; a question's picture does not, nor the recipe's prompts."""
    raw = project / "places"
    raw.mkdir()
    for name in ("a.jpg", "question.jpg"):
        (raw / name).write_text("1", encoding="utf-8")
    (raw / "captions.jsonl").write_text('{"image": "a.jpg", "text": "a"}\n', encoding="utf-8")

    def key() -> dict:
        return made_from(command("pretrain_vision", raw_dir="places", recipe="r.yaml", output_dir="v"))

    before = key()
    (raw / "question.jpg").write_text("2", encoding="utf-8")
    (project / "r.yaml").write_text("extends: tiny-mistral\nprompts: {latex: words}\n", encoding="utf-8")
    assert key() == before
    (raw / "a.jpg").write_text("2", encoding="utf-8")
    assert key() != before


def test_vision_towers_count_by_the_text_model_that_they_are_trained_for(project, monkeypatch):
    """Its folder counts where the recipe names it, and where it stands in for the hub's."""
    (project / "places").mkdir()
    (project / "model").mkdir()

    def key(recipe: str) -> dict:
        return made_from(command("pretrain_vision", raw_dir="places", recipe=recipe, output_dir="v"))

    (project / "r.yaml").write_text("extends: tiny-mistral\nmodel: {name_or_path: ./model}\n", encoding="utf-8")
    monkeypatch.setenv("ROUNDS_MODEL", "./model")
    for recipe in ("r.yaml", "bge-en-icl"):
        contents = []
        for text in ("one", "two"):
            (project / "model" / "model.safetensors").write_text(text, encoding="utf-8")
            contents.append(key(recipe))
        (project / "model" / "README.md").write_text(recipe, encoding="utf-8")  # which nobody loads
        assert contents[0] != contents[1] == key(recipe)


def test_collections_of_pairs_know_how_groups_are_named(project, monkeypatch):
    """Without a column of groups, another rule makes the data anew."""

    def key(**flags: str) -> dict:
        return made_from(command("gen_data_for_hn_mine", task="pairs", raw_dir="rows.jsonl", output_dir="d", **flags))

    before = key(), key(group_column="topic")
    monkeypatch.setattr(keys, "PAIRS_GROUPS", 3)
    assert key() != before[0] and key(group_column="topic") == before[1]


def test_collections_in_words_know_how_latex_becomes_words(project, monkeypatch):
    """Other words of the same LaTeX make such a collection anew, and leave those that keep LaTeX alone."""

    def keys_of() -> list[dict]:
        flags = {"task": "eedi", "raw_dir": "raw", "output_dir": "d"}
        return [made_from(command("gen_data_for_hn_mine", recipe=recipe, **flags)) for recipe in ("w.yaml", "minilm")]

    (project / "w.yaml").write_text("extends: minilm\nprompts: {latex: words}\n")
    before = keys_of()
    monkeypatch.setattr(keys, "LATEX_WORDS", 7)
    after = keys_of()
    assert after[0] != before[0] and after[1] == before[1]


def test_files_behind_a_hidden_folder_count_where_a_link_shows_them(tmp_path):
    """A hidden folder is not walked, so that what a link leads to in it is not taken for read."""
    (tmp_path / "pictures" / ".store").mkdir(parents=True)
    (tmp_path / "pictures" / ".store" / "1.jpg").touch()
    (tmp_path / "pictures" / "images").symlink_to(tmp_path / "pictures" / ".store")
    (tmp_path / "pictures" / ".hidden").touch()
    assert keys.files_below(tmp_path / "pictures") == [tmp_path / "pictures" / "images" / "1.jpg"]


def test_evaluations_on_the_data_s_own_labels_know_which_queries_are_unseen(monkeypatch):
    """Another rule makes these anew, and leaves those of other splits alone."""

    def keys_of() -> list[dict]:
        flags = {"recipe": "minilm", "output_dir": "d"}
        folders = ("data/x/validation_official", "data/x/validation_v5")
        return [made_from(command("eval_llm_embedder", data_dir=folder, **flags)) for folder in folders]

    before = keys_of()
    monkeypatch.setattr(keys, "UNSEEN_RULE", 7)
    after = keys_of()
    assert after[0] != before[0] and after[1] == before[1]


@pytest.mark.parametrize("source", FILE_SOURCES)
def test_a_file_of_negatives_counts_by_content_wherever_it_lies(source, project):
    """`vectors:FILE` without a folder in its name is in the key as well, and so is any other source that reads one."""
    with store.writing(project / "data1", SampleManifest(config={}, made_from={"seed": 1})):
        pass
    for name in ("v.npz", "data1/v.npz"):  # the latter beside an artefact that it is no part of
        (project / "v.yaml").write_text(f'extends: tiny-mistral\nmining: {{negatives: {{"{source}:{name}": 1.0}}}}\n')
        contents = []
        for text in ("one", "two"):
            (project / name).write_text(text)
            contents.append(made_from(command("hn_mine", recipe="v.yaml", output_file="m.jsonl")))
        assert contents[0] != contents[1]
