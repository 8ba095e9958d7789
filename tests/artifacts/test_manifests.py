"""Manifests: each kind comes back as it was written, byte for byte; what is broken or foreign is named."""

import json

import pytest
from helpers.manifests import PARENT, checkpoint_manifest, finetune_manifest, mined_manifest
from helpers.tiny_task import refused

from rounds.artifacts import manifest_parsing, store
from rounds.artifacts.manifests import (
    BundleManifest,
    CollectionManifest,
    EvaluationManifest,
    FingerprintManifest,
    HeldOut,
    Manifest,
    Origin,
    PrivateLeaderboardManifest,
    Probe,
    PseudoLabelManifest,
    RandomModelManifest,
    RawManifest,
    ReportManifest,
    SampleManifest,
    SubmissionManifest,
    TextsDigest,
    VectorsManifest,
    VisionManifest,
)
from rounds.artifacts.prompt_manifests import (
    BrittlenessManifest,
    CheckpointScore,
    CheckpointScoresManifest,
    GeneratorCheckpointManifest,
    GeneratorManifest,
    GeneratorStep,
    PredictionsManifest,
    PromptBaselinesManifest,
    PromptChange,
    PromptSplitManifest,
)
from rounds.artifacts.second_stage_manifests import (
    CandidatesManifest,
    CrossValidationManifest,
    RerankerManifest,
    StudentTableManifest,
    TeacherManifest,
)

CONFIG = {"seed": 42, "nested": {"b": [1, 0.5, None], "a": "Größe"}}
ORIGIN = Origin(versions={"torch": "2.9"}, device="cpu")
DIGEST = TextsDigest(number=2, list="l", texts="t")
SCORES = [CheckpointScore(folder="step_2", step=2, train_loss=1.5, validation_loss=None, score=0.25)]
STEPS = [GeneratorStep(folder="step_2", step=2, train_loss=1.5, validation_loss=None)]
PROBES = {"p1": Probe(text="a", vector=[0.5, -0.25])}
MADE_FROM = {"script": "finetune", "seed": 42}

MANIFESTS = [
    SampleManifest(config=CONFIG),
    RawManifest(config=CONFIG),
    PrivateLeaderboardManifest(config=CONFIG, held_out=HeldOut(questions=3, rows=7, unseen_rows=2)),
    CollectionManifest(data="eedi", split="v1", config=CONFIG),
    PromptSplitManifest(data="prompts", split="v1", config=CONFIG),
    PromptBaselinesManifest(titles={"copy": "copy the original"}, config=CONFIG),
    PredictionsManifest(
        title="m", rows=3, lineage={}, config=CONFIG, cut_texts=1, empty=0, step=2, validation_loss=1.5
    ),
    BrittlenessManifest(
        title="m", rows=3, effects=[PromptChange(change="a space", changed=0.5, mean=0.25, least=0)], config=CONFIG
    ),
    CheckpointScoresManifest(title="m", rows=3, embedder="minilm", checkpoints=SCORES, config=CONFIG),
    GeneratorCheckpointManifest(
        recipe=CONFIG,
        precision="fp32",
        base_digest="b",
        weights_digest="w",
        data_digest="d",
        lineage={},
        seed=1,
        step=2,
    ),
    GeneratorManifest(
        config=CONFIG,
        checkpoints=STEPS,
        last="step_2",
        best="step_2",
        rows=3,
        cut_texts=0,
        cut_targets=1,
        trainable_parameters=9,
        device="cpu",
    ),
    mined_manifest(recall={"recall@25": 0.99, "queries": 200}),
    mined_manifest(kinds={"unlabelled": 3, "labelled": 2, "refilled": 1}),
    PseudoLabelManifest(config=CONFIG, lineage={"5": "aa"}, unlabelled=9, rows=2, threshold=0.25, precision=0.5),
    VisionManifest(config=CONFIG, pictures=9, loss=0.5, held_out=2, own_caption_first=0.75, own_second_look_first=1.0),
    finetune_manifest(lineage={"5": "aa"}, peak_mib=900.5, made_from=MADE_FROM),
    checkpoint_manifest(round=1, parent=PARENT, epoch=2, proof={"query": {"words": [[0.5, 1.0]]}}),
    checkpoint_manifest(config=CONFIG, merged="m", lineage=None, round=1, parent=PARENT, least_cosine=1),
    checkpoint_manifest(title="stock", config=CONFIG, epoch=1, mining_seconds=1.5),
    VectorsManifest(config=CONFIG, made=ORIGIN),
    FingerprintManifest(
        corpus=DIGEST,
        queries=DIGEST,
        texts=CONFIG,
        model=CONFIG,
        made={"queries": ORIGIN, "passages": ORIGIN},
        probes={"queries": PROBES, "passages": PROBES},
    ),
    EvaluationManifest(config=CONFIG),
    CandidatesManifest(config=CONFIG, data="eedi", split="v5", members=["m"], collection="../data", peak_mib=1.0),
    RerankerManifest(config=CONFIG, model="model", train_loss=0.5, groups=3, steps=6, peak_mib=1.0),
    TeacherManifest(config=CONFIG, lineage={"5": "aa"}, members=["m"], queries=2, metrics={"MAP@25": 0.5}),
    CrossValidationManifest(config=CONFIG, beside={"cv.md": "aa"}),
    StudentTableManifest(config=CONFIG, beside={"distil.md": "aa"}),
    ReportManifest(config=CONFIG),
    BundleManifest(config=CONFIG),
    SubmissionManifest(checkpoint="c", run="base/run", config=CONFIG),
    SubmissionManifest(fused=True, members=["m"], folds=[CONFIG], outside_votes=True, boosted_trees=False),
    RandomModelManifest(config=CONFIG),
]


def test_every_kind_is_tested():
    """The list above holds each class of manifest."""
    assert {type(manifest) for manifest in MANIFESTS} == set(manifest_parsing.KINDS.values())


@pytest.mark.parametrize("manifest", MANIFESTS, ids=lambda manifest: str(manifest.kind))
def test_a_manifest_comes_back_as_it_was_written(manifest, tmp_path):
    """Read and written again, the file has the same bytes, and the manifest its own class."""
    with store.writing(tmp_path / "out", manifest):
        pass
    written = (tmp_path / "out" / store.MANIFEST).read_bytes()
    loaded = store.read_manifest(tmp_path / "out")
    store.write_manifest(tmp_path / "again.json", loaded)
    assert type(loaded) is type(manifest) and (tmp_path / "again.json").read_bytes() == written
    assert list(json.loads(written)) == list(dict.fromkeys([*manifest.to_json(), "seconds"]))


def test_absent_keys_stay_absent():
    """What was not given is None for readers and is not written."""
    manifest = checkpoint_manifest()
    assert manifest.merged is None and "merged" not in manifest.to_json()


def test_an_artefact_of_no_pipeline_stage_records_no_origin():
    """A `made_from` of None adds no key."""
    assert list(SampleManifest(config={}, made_from=None).to_json()) == ["kind", "config"]


def test_keys_keep_the_order_in_which_they_were_written(tmp_path):
    """A file whose keys stand in another order than the class's comes back in its own."""
    content = {"kind": "collection", "split": "v1", "config": {}, "seconds": 1, "data": "eedi"}
    assert list(manifest_parsing.parse(content, "m").to_json().items()) == list(content.items())


def test_changed_values_keep_their_place():
    """A changed value stands where the old one stood, a new one at the end."""
    changed = SampleManifest(config={}, seconds=1.0).with_values(config={"seed": 1}, made_from=MADE_FROM)
    expected = {"kind": "sample", "config": {"seed": 1}, "seconds": 1.0, "made_from": MADE_FROM}
    assert list(changed.to_json().items()) == list(expected.items())


def test_keys_with_blanks_are_written_with_blanks():
    """Figures whose keys are no Python names keep them in the file."""
    written = RerankerManifest(config={}, model="model", train_loss=0.5, groups=3, steps=6).to_json()
    assert written["train loss"] == 0.5 and "train_loss" not in written


def stored(folder, content: object) -> Manifest | None:
    """Write a JSON value as a folder's manifest and read it."""
    store.write_json(folder / store.MANIFEST, content)
    return store.read_manifest(folder)


@pytest.mark.parametrize("manifest", MANIFESTS, ids=lambda manifest: str(manifest.kind))
def test_an_unknown_key_is_refused(manifest, tmp_path):
    """A key that the kind does not have is named with its file."""
    with refused(tmp_path / store.MANIFEST, "'stray'" if manifest.kind else "'kind' is missing"):
        stored(tmp_path, {**manifest.to_json(), "stray": 1})


@pytest.mark.parametrize("manifest", MANIFESTS, ids=lambda manifest: str(manifest.kind))
def test_a_missing_key_is_refused(manifest, tmp_path):
    """Each key without which the kind cannot be used is named with its file, where it is missing."""
    for name, field in type(manifest).model_fields.items():
        if field.is_required():
            key = field.alias or name
            content = {other: value for other, value in manifest.to_json().items() if other != key}
            with refused(tmp_path / store.MANIFEST, f"key {key!r} is missing"):
                stored(tmp_path, content)


@pytest.mark.parametrize(
    ("content", "parts"),
    [
        ([], ["not a manifest"]),
        ({"name": "a web app", "icons": []}, ["'kind' is missing"]),
        ({"kind": "website", "config": {}}, ["kind 'website'", "collection"]),
        ({"kind": ["sample"], "config": {}}, ["kind ['sample']"]),
        ({"kind": "sample", "confg": {}}, ["'config' is missing"]),
        ({"kind": "sample", "config": {}, "secnds": 1}, ["'secnds' is unknown", "'seconds'"]),
        ({"kind": "sample", "config": []}, ["'config' is []"]),
        ({"kind": "sample", "config": {}, "seconds": "1"}, ["'seconds'", '"1"']),
        ({**finetune_manifest().to_json(), "parent": {"name": "x"}}, ["'parent.weights' is missing"]),
    ],
    ids=lambda value: str(value)[:40],
)
def test_a_broken_or_foreign_manifest_is_one_line(content, parts, tmp_path):
    """File and key are named, and the line says what to do."""
    with refused(tmp_path / store.MANIFEST, *parts):
        stored(tmp_path, content)


def test_a_folder_without_a_manifest_has_none(tmp_path):
    """Absence is no error."""
    assert store.read_manifest(tmp_path) is None and store.read_file_manifest(tmp_path / "rows.jsonl") is None


@pytest.mark.parametrize(
    ("content", "is_foreign"),
    [([], True), ({"version": 1, "files": []}, True), ({"kind": "website"}, False), ({"config": {}}, False)],
)
def test_another_tool_s_manifest_is_told_apart(content, is_foreign, tmp_path):
    """A manifest without any of our keys is another tool's; one with an unknown kind or a missing key is ours."""
    assert not store.has_foreign_manifest(tmp_path)
    store.write_json(tmp_path / store.MANIFEST, content)
    assert store.has_foreign_manifest(tmp_path) == is_foreign


def test_a_manifest_cannot_be_changed_in_place():
    """What a manifest says is what its file says; a change makes another one."""
    with pytest.raises(ValueError, match="frozen"):
        SampleManifest(config={}).seconds = 1.0
