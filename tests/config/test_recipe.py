import dataclasses
import json

import pytest
import yaml
from helpers.tiny_task import refused

from rounds.config import loader, schema
from rounds.config.recipe import QUERY_FIELDS, Recipe, Training

KEYS = {
    (*path, key): field
    for path, section in schema.walk_sections(Recipe)
    for key, field in schema.fields(section).items()
    if not schema.is_section(field)
}
CHOICES = {path: schema.choices(field) for path, field in KEYS.items() if schema.choices(field)}
LEAST = {
    path: int(schema.bounds(field).removeprefix("at least "))
    for path, field in KEYS.items()
    if schema.type_name(field) == "int" and schema.bounds(field)
}


def written(folder, text: str) -> str:
    path = folder / "mine.yaml"
    path.write_text(text, encoding="utf-8")
    return str(path)


def nested(path: tuple[str, ...], value: object) -> dict:
    """Return `{section: {key: value}}` for a path of two or more keys."""
    for key in reversed(path):
        value = {key: value}
    return value


@pytest.mark.parametrize("name", loader.names())
def test_packaged_recipes_load(name):
    """Every recipe that the package carries is valid and is called like its file."""
    assert loader.load(name).name == name


def test_an_unknown_name_is_refused():
    """A recipe that does not exist is named with those that do."""
    with refused("'minilmm'", "no such file", "minilm", "tiny"):
        loader.load("minilmm")


def test_a_missing_file_is_refused(tmp_path):
    """A YAML path that does not exist is named."""
    with refused(tmp_path / "none.yaml", "no such file"):
        loader.load(str(tmp_path / "none.yaml"))


def test_a_file_sets_what_it_names_and_no_more(tmp_path):
    """Keys that a file leaves out have the defaults; its name is the file's."""
    loaded = loader.load(written(tmp_path, "training:\n  epochs: 7\n"))
    assert loaded == dataclasses.replace(Recipe("mine"), training=Training(epochs=7))


@pytest.mark.parametrize(
    ("text", "wrong", "right"),
    [
        ("trainin: {}", "trainin", "training"),
        ("Model: {}", "Model", "model"),
        ("training: {epoch: 2}", "training.epoch", "training.epochs"),
        ("training: {lr: 1}", "training.lr", "training."),
        ("training: {learning-rate: 1.0}", "training.learning-rate", "training.learning_rate"),
        ("tuning: {lora: {rank: 8, r: 8}}", "tuning.lora.rank", "tuning.lora."),
        ("tuning: {lora: {dropuot: 0.1}}", "tuning.lora.dropuot", "tuning.lora.dropout"),
        ("mining: {12: 3}", "mining.12", "mining."),
        ("mining: {negatives_number: 3}", "mining.negatives_number", "mining.negative_number"),
    ],
)
def test_unknown_keys_name_the_nearest_right_key(tmp_path, text, wrong, right):
    """An unknown key, at the top or nested, is refused with file, key and the nearest key of its section."""
    path = written(tmp_path, text)
    with refused(path, f"unknown key {wrong};", f"did you mean {right}"):
        loader.load(path)


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("training: {epochs: two}", "training.epochs"),
        ("training: {epochs: 2.0}", "training.epochs"),
        ("training: {epochs: true}", "training.epochs"),
        ("training: {epochs: null}", "training.epochs"),
        ("training: {learning_rate: fast}", "training.learning_rate"),
        ("training: {learning_rate: true}", "training.learning_rate"),
        ("training: {learning_rate: [1.0]}", "training.learning_rate"),
        ("training: {gradient_checkpointing: 1}", "training.gradient_checkpointing"),
        ("training: {gradient_checkpointing: 'yes'}", "training.gradient_checkpointing"),
        ("mining: {relative_margin: much}", "mining.relative_margin"),
        ("model: {revision: 3}", "model.revision"),
        ("model: {bos: 1}", "model.bos"),
        ("prompts: {task: 5}", "prompts.task"),
        ("tuning: {lora: {targets: q_proj}}", "tuning.lora.targets"),
        ("tuning: {lora: {targets: [1, 2]}}", "tuning.lora.targets"),
        ("tuning: {lora: 8}", "tuning.lora"),
        ("model: tiny", "model"),
        ("model:", "model"),
        ("name: 5", "name"),
    ],
)
def test_values_of_the_wrong_type_are_refused(tmp_path, text, key):
    """A value of another type than its key's is refused with file and key; nothing is converted in silence."""
    path = written(tmp_path, text)
    with refused(path, f"{key} must be"):
        loader.load(path)


@pytest.mark.parametrize("text", ["1e-4", "'1e-4'", "0.0001", "1.0e-4"])
def test_floats_may_be_written_as_yaml_reads_them_as_strings(tmp_path, text):
    """YAML takes `1e-4` for a string; a float key takes it for a number."""
    assert loader.load(written(tmp_path, f"training: {{learning_rate: {text}}}")).training.learning_rate == 1e-4


def test_a_whole_number_is_a_float_where_one_is_wanted(tmp_path):
    """`max_grad_norm: 1` is 1.0."""
    norm = loader.load(written(tmp_path, "training: {max_grad_norm: 1}")).training.max_grad_norm
    assert (norm, type(norm)) == (1.0, float)


def test_optional_values_may_be_null(tmp_path):
    """A key whose default is nothing takes null."""
    loaded = loader.load(written(tmp_path, "mining: {relative_margin: null}\nmodel: {bos: null, sha256: null}"))
    assert (loaded.mining.relative_margin, loaded.model.bos, loaded.model.sha256) == (None, None, None)


def test_choices_and_bounds_are_found():
    """The schema names the closed choices and least values that the two tests below go through."""
    assert {("model", "precision"), ("tuning", "virtual", "init"), ("reranking", "start_from")} <= CHOICES.keys()
    assert {("training", "epochs"), ("training", "group_size"), ("tuning", "projection", "dim")} <= LEAST.keys()


@pytest.mark.parametrize("path", CHOICES, ids=".".join)
def test_values_outside_the_choices_are_refused(tmp_path, path):
    """A value that is none of its key's choices is refused with file, key, and the choices."""
    file = written(tmp_path, yaml.safe_dump(nested(path, "nonsense")))
    with refused(file, f"{'.'.join(path)} is 'nonsense'", ", ".join(CHOICES[path])):
        loader.load(file)


@pytest.mark.parametrize("path", LEAST, ids=".".join)
def test_values_below_the_least_are_refused(tmp_path, path):
    """The least value of a number is accepted and one less is refused with file and key."""
    least = LEAST[path]
    value = loader.load(written(tmp_path, yaml.safe_dump(nested(path, least))))
    for key in path:
        value = getattr(value, key)
    assert value == least
    file = written(tmp_path, yaml.safe_dump(nested(path, least - 1)))
    with refused(file, f"{'.'.join(path)} is {least - 1}", f"at least {least}"):
        loader.load(file)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("mining: {negatives: {dense: 0}}", "mining.negatives.dense is 0, must be above 0"),
        ("mining: {negatives: {dense: .inf}}", "mining.negatives.dense is inf, must be above 0"),
        ("mining: {negatives: {nearest: 1}}", "mining.negatives has 'nearest', not one of dense"),
        ("mining: {negatives: {'vectors:': 1}}", "mining.negatives has 'vectors:', not one of dense"),
        ("mining: {negatives: {dense: much}}", "mining.negatives must be of type dict[str, float]"),
        ("mining: {negatives: {}}", "mining.negatives is empty"),
        ("mining: {bm25: {b: 2}}", "mining.bm25.b is 2, must be from 0 to 1"),
        ("training: {warmup_ratio: 10}", "training.warmup_ratio is 10, must be from 0 to 1"),
        ("pretraining: {temperature: 0}", "pretraining.temperature is 0, must be above 0"),
        ("pretraining: {learning_rate: -1}", "pretraining.learning_rate is -1, must be above 0"),
        ("model: {vision: {weight: -1}}", "model.vision.weight is -1, must be from 0 to 1"),
        ("tuning: {unfreeze: [layer_norms, all]}", "tuning.unfreeze has 'all', not one of layer_norms"),
        ("training: {matryoshka_dims: [8, 0]}", "training.matryoshka_dims is 0, must be at least 1"),
        ("prompts: {passage: '{title} {explanation}'}", "prompts.passage '{title} {explanation}' mixes two kinds"),
        ("reranking: {template: '{query}'}", "reranking.template must hold {query} and {passage}"),
    ],
)
def test_values_inside_lists_and_mappings_are_checked(tmp_path, text, says):
    """Items of lists, ratios and bounded floats are refused with file and key."""
    file = written(tmp_path, text)
    with refused(f"{file}: {says}"):
        loader.load(file)


@pytest.mark.parametrize("value", ["2024-13-45", "0x_", "!!int abc", "!!timestamp abc", "[" * 3000, "9" * 5000])
def test_values_that_yaml_cannot_read_are_refused(tmp_path, value):
    """What looks like a date or a number and is none, and nesting without end, name the file."""
    file = written(tmp_path, f"name: {value}\n")
    with refused(file):
        loader.load(file)


def test_an_empty_parent_is_refused(tmp_path):
    """`extends:` without a name would inherit nothing, and the recipe would be another one than it looks."""
    with refused("mine.yaml", "extends names no recipe"):
        loader.load(written(tmp_path, "extends:\ntraining: {epochs: 2}\n"))


def test_a_recipe_without_a_name_is_refused():
    """A manifest whose recipe has no name is named, not a crash."""
    with refused("manifest.json: name is missing"):
        loader.from_dict({}, "manifest.json")


@pytest.mark.parametrize(
    ("text", "key", "line"),
    [
        ("training: {epochs: 2}\nmodel: {}\ntraining: {epochs: 3}\n", "training", 3),
        ("training:\n  epochs: 2\n  batch_size: 4\n  epochs: 3\n", "epochs", 4),
        ("mining:\n  negatives: {dense: 1, bm25: 1, dense: 2}\n", "dense", 2),
        ("extends: minilm\nextends: tiny-mistral\n", "extends", 2),
    ],
)
def test_a_key_that_stands_twice_is_refused(tmp_path, text, key, line):
    """At every level, the line names the file, the key and the second line; the last value does not win silently."""
    with refused(f"{tmp_path / 'mine.yaml'} line {line}", f"key '{key}'", "keep one"):
        loader.load(written(tmp_path, text))


@pytest.mark.parametrize("number", ["010", "1:30", "-007", "1:30.5"])
def test_a_number_that_yaml_reads_in_another_base_is_refused(tmp_path, number):
    """`epochs: 010` would be 8, and `1:30` would be 90; a quoted text or a decimal number is meant."""
    with refused("mine.yaml line 3", f"{number} in another base"):
        loader.load(written(tmp_path, f"extends: minilm\ntraining:\n  epochs: {number}\n"))


def test_numbers_are_read_as_they_look(tmp_path):
    """Plain, hexadecimal and quoted numbers stay what they are."""
    text = "extends: minilm\ntraining: {epochs: 0x10, learning_rate: 0.010}\nprompts: {task: '010'}\n"
    recipe = loader.load(written(tmp_path, text))
    assert (recipe.training.epochs, recipe.training.learning_rate, recipe.prompts.task) == (16, 0.01, "010")


def test_a_lone_surrogate_in_a_recipe_is_refused(tmp_path):
    """No tokenizer and no file takes half of a character."""
    with refused("mine.yaml line 2", "half of a surrogate pair"):
        loader.load(written(tmp_path, 'extends: minilm\nprompts: {task: "\\ud83d"}\n'))


def test_a_merge_key_may_be_overridden(tmp_path):
    """YAML's `<<` puts a mapping's keys below its own, so the same key in both is no repetition."""
    text = "training: &base {epochs: 2, batch_size: 4}\npretraining: {<<: *base, epochs: 3}\n"
    assert loader.load(written(tmp_path, text)).pretraining.epochs == 3


def test_a_missing_parent_is_named_with_its_child(tmp_path):
    """The line about `extends` names the child's file and the parent that is not there."""
    with refused(tmp_path / "mine.yaml", "extends minilmm", "no such file", "minilm"):
        loader.load(written(tmp_path, "extends: minilmm\n"))


def test_the_way_to_set_a_key_is_a_file_that_extends_the_recipe():
    """A recipe of the package is extended; a file of one's own takes the key itself, since one level is the limit."""
    assert "`extends: minilm`" in loader.way_to_set("warmup_ratio", "training", "minilm")
    assert "`training: {warmup_ratio: ...}`" in loader.way_to_set("warmup_ratio", "training", "minilm")
    assert loader.way_to_set("seed", "training", "a/my.yaml").endswith("set it in a/my.yaml")
    assert loader.section_of("epochs", "pretraining") == "pretraining" and loader.section_of("epochs") == "training"


def test_a_recipe_extends_another_one_level_deep(tmp_path):
    """A file inherits what it does not set; a chain of three is refused with both files."""
    (tmp_path / "first.yaml").write_text("training: {epochs: 7, batch_size: 3}\nmining: {negatives: {bm25: 1}}\n")
    second = tmp_path / "second.yaml"
    second.write_text(
        f"extends: {tmp_path / 'first.yaml'}\ntraining: {{epochs: 9}}\nmining: {{negatives: {{dense: 1}}}}\n"
    )
    recipe = loader.load(str(second))
    assert (recipe.name, recipe.training.epochs, recipe.training.batch_size) == ("second", 9, 3)
    assert recipe.mining.negatives == {"dense": 1.0}
    third = written(tmp_path, f"extends: {second}\n")
    with refused(second, "first.yaml", third, "one level"):
        loader.load(third)


@pytest.mark.parametrize("key", ["learning_rate", "temperature"])
@pytest.mark.parametrize("value", ["0", "-0.1", ".nan"])
def test_rates_must_be_above_zero(tmp_path, key, value):
    """A learning rate or temperature that is not above 0 is refused."""
    path = written(tmp_path, f"training: {{{key}: {value}}}")
    with refused(path, f"training.{key}", "above 0"):
        loader.load(path)


@pytest.mark.parametrize(
    "text", ["", "200", "2:200", "200-2", "5-5", "-2-200", "2-", "a-b", "2-200-300", "1.5-3", "²-³"]
)
def test_bad_ranges_are_refused(tmp_path, text):
    """A range that is not `FIRST-LAST` with FIRST below LAST is refused."""
    path = written(tmp_path, f"mining: {{range_for_sampling: '{text}'}}")
    with refused(path, "range_for_sampling", repr(text)):
        loader.load(path)


@pytest.mark.parametrize("text", ["", "\n", "# only a comment\n", "- a\n- b\n", "just text", "5"])
def test_a_file_without_a_mapping_is_refused(tmp_path, text):
    """An empty file, a list or a text is no recipe."""
    path = written(tmp_path, text)
    with refused(path, "empty or not a mapping"):
        loader.load(path)


@pytest.mark.parametrize(
    "content",
    [b"model: {a", b"a: b: c", b"model:\n\tname: x\n", b"a: \x00", b"name: caf\xe9\n"],
    ids=["open brace", "two colons", "tab", "null byte", "latin-1"],
)
def test_broken_yaml_is_refused(tmp_path, content):
    """A file that is no UTF-8 YAML is named, in one line."""
    path = tmp_path / "mine.yaml"
    path.write_bytes(content)
    with refused(path, "not valid"):
        loader.load(str(path))


@pytest.mark.parametrize(
    "template",
    ["{answer}", "{}", "{0}", "{question", "question}", "{question:d}", "{question!x}", "{wrong.text}", "{wrong[a]}"]
    + ["", "question", "{{question}}"],  # one text for all
)
def test_bad_query_templates_are_refused(tmp_path, template):
    """A query template that a question cannot fill is refused with file, key and the fields that exist."""
    path = written(tmp_path, yaml.safe_dump({"prompts": {"query": template}}))
    with refused(path, "prompts.query", ", ".join(QUERY_FIELDS)):
        loader.load(path)


@pytest.mark.parametrize("name", loader.names())
def test_dict_round_trip(name):
    """A recipe that a manifest stored as JSON is the recipe again."""
    loaded = loader.load(name)
    assert loader.from_dict(json.loads(json.dumps(loaded.to_dict())), "manifest") == loaded


def test_replace_changes_what_is_given():
    """`replace` sets the keys that have a value and leaves those that have none, and the recipe itself, as they are."""
    old = loader.load("tiny-mistral")
    new = old.replace("training", epochs=9, batch_size=None)
    assert new == dataclasses.replace(old, training=dataclasses.replace(old.training, epochs=9))
    assert old == loader.load("tiny-mistral")


@pytest.mark.parametrize(
    ("section", "values", "says"),
    [
        ("training", {"group_size": 1}, "training.group_size is 1"),
        ("training", {"start_from": "here"}, "training.start_from is 'here'"),
        ("training", {"learning_rate": -1.0}, "training.learning_rate"),
        ("mining", {"range_for_sampling": "9"}, "range_for_sampling '9'"),
        ("model", {"precision": "int4"}, "model.precision is 'int4'"),
    ],
)
def test_replace_checks(section, values, says):
    """A flag's value passes the same checks as a file's."""
    with refused("flags", says):
        loader.load("tiny-mistral").replace(section, **values)


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"prompts": {"examples": "nearest"}}, "prompts.examples is nearest and prompts.examples_number 0"),
        ({"prompts": {"examples_number": 2}}, "prompts.examples is none and prompts.examples_number 2"),
        ({"training": {"examples_limit": 2}}, "training.examples_limit needs prompts.examples"),
        ({"training": {"hardness_mode": "hard_negatives"}}, "training.hardness_mode is hard_negatives"),
        ({"training": {"hardness_strength": 5}}, "training.hardness_mode is null and training.hardness_strength 5"),
        ({"training": {"loss": "margin_mse", "false_negative_margin": 0}}, "training.false_negative_margin is for"),
        ({"training": {"ema_decay": 0.9}}, "training.ema_decay is for training.average ema, not none"),
        ({"training": {"average": "ema", "average_epochs": 3}}, "training.average_epochs is for training.average last"),
        ({"training": {"average": "last", "epochs": 1}}, "training.average_epochs is 2 and training.epochs 1"),
        (
            {"mining": {"candidates": "labelled", "unlabelled_share": 0.5}},
            "mining.unlabelled_share is 0.5 and mining.candidates labelled",
        ),
        ({"mining": {"reranker": "x", "unlabelled_share": 0.5}}, "mining.unlabelled_share cannot hold"),
        ({"model": {"double_quant": True}}, "model.double_quant needs model.precision: nf4 or fp4"),
        ({"model": {"precision": "nf4"}}, "model.precision nf4 needs an adapter"),
    ],
)
def test_keys_that_contradict_each_other_are_refused(values, says):
    """A key that another one makes idle is never accepted in silence."""
    with refused("x.yaml", says):
        loader.from_dict({"name": "x", **values}, "x.yaml")


@pytest.mark.parametrize(
    ("name", "model_class", "recipe_name"),
    [
        ("BAAI/bge-en-icl", "", "bge-en-icl"),
        ("intfloat/multilingual-e5-large", "", "multilingual-e5-large"),
        ("some/model", "decoder-only-icl", "bge-en-icl"),
        ("some/model", "encoder-only-base", "bge-small-en-v1.5"),
    ],
)
def test_a_model_named_as_flagembedding_names_it_has_a_recipe(name, model_class, recipe_name):
    """A known model takes its recipe, another one that of its class."""
    assert loader.recipe_for_model(name, model_class) == loader.load(recipe_name)


def test_a_model_without_recipe_or_class_has_none():
    """Nothing is guessed for an unknown model."""
    assert loader.recipe_for_model("some/model") is None


def test_the_stand_in_takes_the_reference_recipe(monkeypatch):
    """The folder in ROUNDS_MODEL is the reference's model, not a foreign one."""
    monkeypatch.setenv("ROUNDS_MODEL", "some/folder")
    assert loader.recipe_for_model("some/folder") == loader.load("bge-en-icl")


def test_an_unknown_class_or_another_pooling_is_refused():
    """What the command line says of a model must fit its recipe."""
    with refused("embedder_model_class 'icl'", "decoder-only-icl"):
        loader.recipe_for_model("some/model", "icl")
    with refused("pooling_method cls", "bge-en-icl says last_token"):
        loader.recipe_for_model("BAAI/bge-en-icl", "", "cls")


@pytest.mark.parametrize(
    ("section", "values", "key"),
    [
        ("training", {"matryoshka_dims": [8]}, "training.matryoshka_dims"),
        ("tuning", {"projection": {"dim": 8}}, "tuning.projection.dim"),
        ("tuning", {"separate": True}, "tuning.separate"),
    ],
)
def test_keys_that_need_dense_vectors_are_refused_with_tokens(section, values, key):
    """The line names both keys, of which one must go."""
    with refused(key, "needs one dense vector", "model.pooling tokens", "leave one of them out"):
        loader.load("minilm-tokens").replace(section, **values)


def test_recipes_without_token_vectors_do_not_mention_them():
    """What manifests hold of such recipes, and what folders are named after, is as before."""
    assert "token_dim" not in loader.load("minilm").to_dict()["model"]
    assert loader.load("minilm-tokens").to_dict()["model"]["token_dim"] == 128


def test_keys_that_came_later_are_left_out_at_their_defaults():
    """What manifests hold of a recipe that does not use them, and what folders are named after, is as before."""
    assert not {"false_negative_margin", "hardness_mode", "hardness_strength"} & {
        *loader.load("minilm").to_dict()["training"]
    }
    weighted = loader.load("minilm").replace("training", hardness_mode="all_negatives", hardness_strength=9.0)
    assert weighted.to_dict()["training"]["hardness_strength"] == 9.0


def test_defaults_for_outside_questions_are_not_written():
    """What older manifests and names were made from stays the same; another value is written and read back."""
    loaded = loader.load("tiny-mistral")
    assert "outside" not in loaded.to_dict()
    changed = loaded.replace("outside", max_cosine=0.7)
    assert changed.to_dict()["outside"] == {"max_cosine": 0.7}
    assert loader.from_dict(changed.to_dict(), "manifest") == changed


@pytest.mark.parametrize(
    ("values", "parts"),
    [
        ({"first": 1, "ratio": 0.5}, ["outside.ratio", "outside.first", "leave one of them out"]),
        ({"first": 2}, ["outside.first is 2 and training.epochs 2"]),
        ({"ratio": 0.0}, ["outside.ratio is 0.0, must be above 0"]),
        ({"weight": 0.0}, ["outside.weight is 0.0, must be above 0"]),
    ],
    ids=["apart_and_mixed", "no_epoch_left", "no_ratio", "no_weight"],
)
def test_contradicting_keys_of_outside_questions_are_refused(values, parts):
    """The line names the keys."""
    with refused(*parts):
        loader.load("minilm").replace("outside", **values)


def test_a_student_trains_by_the_keys_of_distillation():
    """They stand in the place of training's; without a weight of the labels, keys of InfoNCE do not apply."""
    recipe = loader.load("minilm").replace("training", false_negative_margin=0.1, epochs=3)
    student = recipe.for_student(epochs=5).training
    assert (student.loss, student.group_size, student.epochs) == ("distillation", 16, 5)
    assert student.false_negative_margin is None and student.learning_rate == recipe.training.learning_rate
    labelled = recipe.replace("distillation", label_weight=0.5, epochs=1, learning_rate=1e-5, start_from="base")
    student = labelled.for_student(epochs=5).training
    assert (student.label_weight, student.epochs, student.learning_rate) == (0.5, 1, 1e-5)
    assert (student.false_negative_margin, student.start_from) == (0.1, "base")


def test_the_weight_of_the_labels_needs_a_teacher():
    """Beside InfoNCE, which learns from labels alone, it is refused."""
    with refused("training.label_weight adds info_nce to another training.loss"):
        loader.load("minilm").replace("training", label_weight=0.5)


def test_keys_of_second_stages_leave_older_recipes_as_they_are():
    """At their defaults, neither manifests nor names of folders hold them."""
    loaded = loader.load("minilm")
    assert "distillation" not in loaded.to_dict() and "label_weight" not in loaded.to_dict()["training"]
    changed = loaded.replace("distillation", candidates=8)
    assert changed.to_dict()["distillation"] == {"candidates": 8}
    assert "ensemble" not in changed.to_dict()
    assert loaded.replace("ensemble", unseen_prior=True).to_dict()["ensemble"] == {"unseen_prior": True}
    assert loader.from_dict(changed.to_dict(), "manifest") == changed
