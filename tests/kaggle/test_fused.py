"""Fused submission: with the unseen prior its manifest holds the offset; without, nothing changes; refusals."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from helpers.random_folds import labelled_fold
from helpers.tiny_task import refused

from rounds.artifacts import store
from rounds.artifacts.manifests import CollectionManifest
from rounds.artifacts.second_stage_manifests import CandidatesManifest
from rounds.config.sections.ensemble import Ensemble
from rounds.data import collection
from rounds.data.few_shot import QueryMetadata
from rounds.errors import Refused
from rounds.evaluation import ledger
from rounds.kaggle.stage import submit_fused
from rounds.reranking import boosted_trees, fusion, unseen_prior, views
from rounds.reranking.candidates import FILE, read_candidates, write_candidates
from rounds.reranking.folds import Fold


@pytest.fixture
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Candidates of three folds and of the test queries, half of the passages labelled, and sample_submission.csv."""
    monkeypatch.setattr(fusion, "EPOCHS", 1)
    monkeypatch.setattr(fusion, "SEEDS", 1)
    monkeypatch.setattr(boosted_trees, "TREES", 5)
    whole = labelled_fold(3)
    write_collection(tmp_path / "test", train="aa")
    monkeypatch.setattr(collection, "read", lambda folder: _of_test_queries(whole, tmp_path / "test"))
    folders = []
    for number, each in enumerate([*map(labelled_fold, range(3)), whole]):
        folders.append(tmp_path / f"fold{number}" / "candidates")
        folders[-1].mkdir(parents=True)
        write_candidates(each.table, folders[-1] / FILE)
        manifest = CandidatesManifest(config={}, data="tiny", split="v5", members=["m"], collection="c")
        store.write_manifest(folders[-1] / store.MANIFEST, manifest)
    lines = ["QuestionId_Answer,MisconceptionId", *(f"{query},p0" for query in whole.table.queries)]
    (tmp_path / "sample.csv").write_text("\n".join(lines) + "\n")
    return folders


def write_collection(folder: Path, train: str) -> None:
    """Write the manifest of a collection of a train.csv with this digest."""
    manifest = CollectionManifest(config={"data": {"train.csv": train}}, data="tiny", split="v5")
    folder.mkdir()
    store.write_manifest(folder / store.MANIFEST, manifest)


def _of_test_queries(whole: Fold, folder: Path) -> collection.Collection:
    passages = dict.fromkeys(whole.table.passage_ids, "")
    return collection.Collection(folder, "tiny", "submission", passages, {}, {}, {}, {}, set(), {"validation": {}})


def test_the_manifest_holds_the_offset_that_was_used(folders, tmp_path):
    """It is the one that all folds tell; the line and the ranking have it, and without the flag nothing of it."""
    *learned, table = folders
    sample, plain, shifted = (tmp_path / name for name in ("sample.csv", "plain.csv", "shifted.csv"))
    assert "prior" not in submit_fused(learned, table, sample, plain)
    line = submit_fused(learned, table, sample, shifted, settings=Ensemble(unseen_prior=True))
    offset = store.read_file_manifest(shifted).unseen_offset
    _, ensemble = views.default_views(["m"])[-1]
    tables = [read_candidates(folder / FILE) for folder in learned]
    assert offset == unseen_prior.estimate_on_all(tables, ensemble) != 0 and f"{offset:+.4f}" in line
    assert "unseen_offset" not in store.file_manifest(plain).read_text()
    assert plain.read_text() != shifted.read_text()


def test_an_ensemble_without_outside_votes_reads_none(folders, tmp_path):
    """It ranks as if there were no outside questions, and its manifest says so."""
    *learned, ranked = folders
    submissions = {name: tmp_path / f"{name}.csv" for name in ("none there", "read", "left out")}
    submit_fused(learned, ranked, tmp_path / "sample.csv", submissions["none there"])
    for folder in folders:
        table = read_candidates(folder / FILE)
        noise = np.random.default_rng(1).standard_normal(len(table.query_rows)).astype(np.float32)
        write_candidates(table.with_features("outside m", {"noise": noise}), folder / FILE)
    submit_fused(learned, ranked, tmp_path / "sample.csv", submissions["read"])
    silent = Ensemble(outside_votes=False)
    submit_fused(learned, ranked, tmp_path / "sample.csv", submissions["left out"], settings=silent)
    texts = {name: path.read_text() for name, path in submissions.items()}
    assert texts["none there"] == texts["left out"] != texts["read"]
    has_votes = [store.read_file_manifest(path).outside_votes for path in submissions.values()]
    assert has_votes == [True, True, False]


def test_folds_with_other_siblings_are_refused(folders, tmp_path):
    """Nothing is written."""
    *learned, ranked = folders
    manifest = CandidatesManifest(config={"siblings": "x"}, data="tiny", split="v5", members=["m"], collection="c")
    store.write_manifest(learned[0] / store.MANIFEST, manifest)
    with refused(learned[1], "with a label alone", learned[0]):
        submit_fused(learned, ranked, tmp_path / "sample.csv", tmp_path / "best.csv")
    assert not (tmp_path / "best.csv").exists()


@pytest.mark.parametrize(
    ("train", "questions", "says"),
    [
        ("aa", {"7": "aa"}, "share 1 validation questions"),
        ("bb", {}, "labels 1 of the queries"),
        ("aa", {}, "checked"),
    ],
)
def test_folds_that_label_what_is_ranked_are_refused(train, questions, says, folders, tmp_path, monkeypatch):
    """Copies of one fold, and folds of another train.csv with a query of these, as behind a private leaderboard."""
    *learned, ranked = folders
    of_test = replace(
        collection.read(ranked), test={"1_A": "2 + 2? 5"}, metadata={"1_A": QueryMetadata("", "1", "", "")}
    )
    write_collection(tmp_path / "fold", train)
    of_fold = replace(of_test, folder=tmp_path / "fold", validation=of_test.test, questions={"validation": questions})
    monkeypatch.setattr(collection, "read", lambda folder: of_test if ranked.parent in folder.parents else of_fold)
    sample, output = tmp_path / "sample.csv", tmp_path / "best.csv"
    if says == "checked":
        assert says in submit_fused(learned, ranked, sample, output)
        return
    with pytest.raises(Refused, match=says):
        submit_fused(learned, ranked, sample, output)
    assert not output.exists()


def test_an_edited_submission_is_refused(folders, tmp_path):
    """Its manifest has the digest of what was written, which is written anew if asked for."""
    *learned, ranked = folders
    sample, output = tmp_path / "sample.csv", tmp_path / "best.csv"
    submit_fused(learned, ranked, sample, output)
    written = output.read_text()
    output.write_text(written.splitlines()[0] + "\n")
    with refused(output, "was changed after it was made", "--overwrite"):
        submit_fused(learned, ranked, sample, output)
    assert "checked" in submit_fused(learned, ranked, sample, output, overwrite=True)
    assert output.read_text() == written


def test_an_ensemble_with_boosted_trees_says_so(folders, tmp_path):
    """In its manifest; it ranks otherwise than without, and has another fingerprint in the ledger."""
    *learned, ranked = folders
    sample, outputs = tmp_path / "sample.csv", [tmp_path / "plain.csv", tmp_path / "trees.csv"]
    for output, has_trees in zip(outputs, (False, True), strict=True):
        submit_fused(learned, ranked, sample, output, tmp_path, Ensemble(boosted_trees=has_trees))
    assert [store.read_file_manifest(output).boosted_trees for output in outputs] == [False, True]
    assert outputs[0].read_text() != outputs[1].read_text()
    assert len({row["fingerprint"] for row in ledger.read(tmp_path / "ledger.csv")}) == 2


def test_a_finished_submission_is_kept_and_named_in_the_ledger(folders, tmp_path):
    """Its name is written again where the ledger lost it; by hand, one of another configuration is refused."""
    *learned, ranked = folders
    sample, output, made_from = tmp_path / "sample.csv", tmp_path / "o.csv", {"script": "fuse"}
    assert "checked" in submit_fused(learned, ranked, sample, output, tmp_path, made_from=made_from)
    rows, stamp = ledger.read(tmp_path / "ledger.csv"), output.stat().st_mtime_ns
    (tmp_path / "ledger.csv").unlink()
    assert "up to date" in submit_fused(learned, ranked, sample, output, tmp_path, made_from=made_from)
    assert ledger.read(tmp_path / "ledger.csv") == rows and output.stat().st_mtime_ns == stamp
    assert "up to date" in submit_fused(learned, ranked, sample, output)
    with refused("o.csv: made from another configuration", "ensemble.outside_votes: true -> false"):
        submit_fused(learned, ranked, sample, output, settings=Ensemble(outside_votes=False))
    assert "checked" in submit_fused(learned, ranked, sample, output, made_from={"script": "another"})


def test_without_an_offset_to_be_told_nothing_is_written(folders, tmp_path):
    """Two folds are too few: one line says so."""
    sample = tmp_path / "sample.csv"
    with refused("no unseen prior", "3 folds or more, not 2", "leave out ensemble.unseen_prior"):
        submit_fused(folders[:2], folders[-1], sample, tmp_path / "o.csv", settings=Ensemble(unseen_prior=True))
    assert not (tmp_path / "o.csv").exists()
