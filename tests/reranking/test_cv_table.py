"""CV table: it is kept with what stands below it, and shown again from its file; refusals."""

from pathlib import Path

import pytest
from helpers.random_folds import labelled_fold
from helpers.tiny_task import refused

from rounds.artifacts import hashing, store
from rounds.artifacts.second_stage_manifests import CandidatesManifest
from rounds.config.sections.ensemble import Ensemble
from rounds.evaluation.table import load_screens
from rounds.reranking import boosted_trees, cross_validation, cv_table, folds, fusion
from rounds.reranking.candidates import FILE, write_candidates
from rounds.reranking.cv_table import CrossValidation


@pytest.fixture
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Candidates of three folds."""
    monkeypatch.setattr(fusion, "EPOCHS", 1)
    monkeypatch.setattr(fusion, "SEEDS", 1)
    monkeypatch.setattr(boosted_trees, "TREES", 5)
    made = {tmp_path / f"fold{number}": labelled_fold(number) for number in range(3)}
    for folder, each in made.items():
        folder.mkdir()
        write_candidates(each.table, folder / FILE)
        manifest = CandidatesManifest(config={}, data="tiny", split="v5", members=["m"], collection="c")
        store.write_manifest(folder / store.MANIFEST, manifest)
    monkeypatch.setattr(folds, "read_fold", lambda folder: made[folder])
    return list(made)


@pytest.mark.parametrize("ablate", [False, True])
def test_a_table_is_shown_again_from_its_file(ablate, folders, tmp_path):
    """Tables and lines are those that were printed; what costs stands apart where there are ablations."""
    job, output = CrossValidation(folders, [], ablate=ablate, unseen_prior=ablate), tmp_path / "cv-a.b.json"
    table, below = cv_table.evaluate(job)
    files = cv_table.write(table, below, output, job.config(), {"script": "cv"})
    assert [file.name for file in files] == ["cv-a.b.md", "cv-a.b.csv", "cv-a.b.json"]
    tables, notes = load_screens(output)
    assert tables == cross_validation.screens(table) and len(tables) == 1 + ablate
    assert notes == list(map(str, below.values())) and len(notes) == 1 + ablate
    assert any("fusion without votes" in row for row in table.rows) == ablate
    assert store.is_made_from(output, {"script": "cv"})
    assert store.is_file_finished(output, job.config(), overwrite=False)
    files[0].write_text("edited")
    assert not store.is_made_from(output, {"script": "cv"})


def test_the_ensemble_of_the_table_is_the_one_that_is_asked_for(folders):
    """Its rows, its title and what it is made from say whether it has boosted trees."""
    jobs = [CrossValidation(folders, [], ablate=True, ensemble=Ensemble(boosted_trees=each)) for each in (False, True)]
    plain, other = (cv_table.evaluate(job)[0] for job in jobs)
    scores = [{row[0]: row[1:4] for row in table.rows} for table in (plain, other)]
    assert scores[0]["ensemble, boosted trees"] == scores[1]["ensemble"] != scores[0]["ensemble"]
    assert scores[1]["ensemble without boosted trees"] == scores[0]["ensemble"]
    assert plain.title.endswith("; ensemble without boosted trees") and "boosted trees" not in other.title
    assert jobs[0].config() | {"ensemble": Ensemble().choices()} == jobs[1].config() != jobs[0].config()


def test_folds_with_other_siblings_are_refused(folders):
    """Where wrong answers without a label are siblings in one fold alone, a feature would mean two things."""
    manifest = store.read_manifest(folders[1])
    store.write_manifest(folders[1] / store.MANIFEST, manifest.with_values(config={folds.SIBLINGS: "digest"}))
    with refused(folders[0], "with a label alone", folders[1], "--raw_dir"):
        cv_table.evaluate(CrossValidation(folders, []))


def test_two_folds_tell_no_prior(folders, tmp_path):
    """The line that says so stands in the files as well."""
    job, output = CrossValidation(folders[:2], [], unseen_prior=True), tmp_path / "cv.json"
    table, below = cv_table.evaluate(job)
    markdown, _, _ = cv_table.write(table, below, output, job.config())
    assert load_screens(output)[1][0].startswith("unseen prior: none; it takes 3 folds or more")
    assert load_screens(output)[1][0] in markdown.read_text() and "unseen_prior" not in store.read_json(output)


def test_other_folds_are_another_table(folders, tmp_path):
    """By hand, a table of others is refused in its place."""
    job, output = CrossValidation(folders[:2], []), tmp_path / "cv.json"
    cv_table.write(*cv_table.evaluate(job), output, job.config())
    with refused("cv.json: made from another configuration", "folds: "):
        store.is_file_finished(output, CrossValidation(folders, []).config(), overwrite=False)
    assert store.read_file_manifest(output).sha256 == hashing.sha256_file(output)


def test_folds_and_rerankers_that_do_not_go_together_are_refused(folders, tmp_path):
    """Their numbers, a fold twice, a folder without a reranker."""
    with refused("2 rerankers of 3 folds; name one for each"):
        cv_table.evaluate(CrossValidation(folders, folders[:2]))
    with refused("fold0: this fold is named twice"):
        cv_table.evaluate(CrossValidation([folders[0], folders[0]], []))
    with refused("fold0: no reranker there"):
        CrossValidation(folders, folders).config()
    with refused("fold9: no candidates there"):
        CrossValidation([tmp_path / "fold9"], []).config()
