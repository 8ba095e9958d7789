import json
import os
import re
import socket
import subprocess
import sys
import time
from contextlib import ExitStack

import pytest
from helpers.tiny_task import refused

from rounds.artifacts import hashing, store
from rounds.artifacts.manifests import SampleManifest
from rounds.errors import UserError

THIS = re.sub(r"\W+", "-", socket.gethostname())  # this machine, in the names of temporary files

CONFIG = {"seed": 42, "flags": {"epochs": 2, "range": (2, 200)}}


def finish(folder, config=CONFIG, content="new"):
    with store.writing(folder, SampleManifest(config=config)) as temporary:
        (temporary / "content.txt").write_text(content)


def entries(folder) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


@pytest.fixture
def dead_process() -> int:
    """The id of a process that has ended."""
    with subprocess.Popen([sys.executable, "-S", "-c", ""]) as process:
        process.wait()
    return process.pid


def test_a_finished_artefact_stands_alone(tmp_path):
    """After `writing` there is the folder with its files and manifest, and no temporary one."""
    finish(tmp_path / "out")
    assert entries(tmp_path) == ["out"]
    assert entries(tmp_path / "out") == ["content.txt", "manifest.json"]


def test_what_a_symbolic_link_leads_to_is_replaced(tmp_path):
    """The link stays, so that a folder on a larger disk or a shared file remains where it is."""
    places = {name: tmp_path / "disk" / name for name in ("out", "ledger.csv")}
    finish(places["out"], content="old")
    store.write_text(places["ledger.csv"], "old")
    for name, place in places.items():
        (tmp_path / name).symlink_to(place)
    with store.writing(tmp_path / "out", SampleManifest(config=CONFIG)) as temporary:
        (temporary / "content.txt").write_text("new")
    store.write_text(tmp_path / "ledger.csv", "new")
    assert all((tmp_path / name).is_symlink() for name in places)
    assert (places["out"] / "content.txt").read_text() == places["ledger.csv"].read_text() == "new"
    assert entries(tmp_path / "disk") == ["ledger.csv", "out"]


def test_a_link_in_the_place_of_a_training_s_folder_is_replaced(tmp_path):
    """What is renamed lies beside the link, maybe on another disk than the folder behind it, which is left alone."""
    finish(tmp_path / "disk" / "out", content="old")
    (tmp_path / "out").symlink_to(tmp_path / "disk" / "out")
    finish(tmp_path / "out.partial")
    store.put_in_place(tmp_path / "out.partial", tmp_path / "out")
    assert not (tmp_path / "out").is_symlink() and (tmp_path / "out/content.txt").read_text() == "new"
    assert (tmp_path / "disk/out/content.txt").read_text() == "old" and entries(tmp_path) == ["disk", "out"]


@pytest.mark.parametrize("error", [ValueError, UserError, KeyboardInterrupt, SystemExit])
def test_a_failed_block_leaves_nothing(tmp_path, error):
    """An exception in the block, whatever its kind, leaves neither folder nor temporary folder."""
    with pytest.raises(error), store.writing(tmp_path / "out", SampleManifest(config={})) as temporary:
        (temporary / "content.txt").write_text("half")
        raise error
    assert entries(tmp_path) == []


def test_a_failed_block_leaves_the_older_artefact(tmp_path):
    """An artefact that was to be replaced survives a failure as it was."""
    finish(tmp_path / "out", content="old")
    with pytest.raises(ValueError), store.writing(tmp_path / "out", SampleManifest(config={})) as temporary:
        (temporary / "content.txt").write_text("half")
        raise ValueError
    assert entries(tmp_path) == ["out"]
    assert (tmp_path / "out" / "content.txt").read_text() == "old"


def test_a_manifest_that_cannot_be_written_leaves_nothing(tmp_path):
    """A manifest that is no JSON fails the artefact as a whole."""
    with pytest.raises(TypeError), store.writing(tmp_path / "out", SampleManifest(config={"seed": object()})):
        pass
    assert entries(tmp_path) == []


def test_nothing_of_the_older_artefact_is_left_in_the_new(tmp_path):
    """Replacing an artefact replaces the folder, not file by file."""
    finish(tmp_path / "out")
    (tmp_path / "out" / "stray.txt").write_text("stray")
    finish(tmp_path / "out", content="newer")
    assert entries(tmp_path) == ["out"]
    assert entries(tmp_path / "out") == ["content.txt", "manifest.json"]


def test_the_older_artefact_stands_until_the_new_is_whole(tmp_path, monkeypatch):
    """Up to the rename the old folder is untouched and the new one, manifest included, is complete beside it."""
    finish(tmp_path / "out", content="old")
    seen = []

    def spy(temporary, folder):
        seen.append((entries(temporary), (folder / "content.txt").read_text()))

    monkeypatch.setattr(store, "put_in_place", spy)
    finish(tmp_path / "out")
    assert seen == [(["content.txt", "manifest.json"], "old")]


def test_the_manifest_is_written_last(tmp_path):
    """Inside the block there is no manifest, so that a killed stage leaves nothing that looks finished."""
    with store.writing(tmp_path / "out", SampleManifest(config=CONFIG)) as temporary:
        (temporary / "content.txt").write_text("new")
        assert store.read_manifest(temporary) is None
    assert store.read_manifest(tmp_path / "out").config["seed"] == 42


def test_the_manifest_may_be_made_inside_the_block(tmp_path):
    """What the block sets as the draft's manifest is in the file, with the seconds that the block took."""
    with store.drafting(tmp_path / "out") as draft:
        time.sleep(0.1)
        draft.manifest = SampleManifest(config={"rows": 3})
    stored = store.read_manifest(tmp_path / "out")
    assert (stored.kind, stored.config) == ("sample", {"rows": 3})
    assert 0.1 <= stored.seconds < 60


def test_parents_are_made(tmp_path):
    """An artefact may stand in folders that do not exist yet."""
    finish(tmp_path / "a" / "b" / "out")
    assert (tmp_path / "a" / "b" / "out" / "manifest.json").is_file()


@pytest.mark.parametrize("name", ["{}.tmp", "{}.old.tmp"])
def test_leftovers_of_dead_processes_are_removed(tmp_path, dead_process, name):
    """What a killed process left beside the folder goes when it is written again."""
    (tmp_path / f".out.{THIS}-{name.format(dead_process)}").mkdir()
    finish(tmp_path / "out")
    assert entries(tmp_path) == ["out"]


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.manifest.json"])
def test_leftover_files_of_dead_processes_are_removed(tmp_path, dead_process, name):
    """What a killed process left of a file artefact or its manifest goes when the artefact is written again."""
    (tmp_path / f".{name}.{THIS}-{dead_process}.tmp").write_text("half")
    store.write_file_artifact(tmp_path / "rows.jsonl", [{"a": 1}], SampleManifest(config={}))
    assert entries(tmp_path) == ["rows.jsonl", "rows.manifest.json"]


def test_a_file_that_a_living_process_writes_is_kept(tmp_path):
    """Another process that is writing the same file keeps its temporary file."""
    other = tmp_path / f".a.json.{THIS}-{os.getppid()}.tmp"
    other.write_text("half")
    store.write_json(tmp_path / "a.json", {})
    assert entries(tmp_path) == [other.name, "a.json"]


@pytest.mark.parametrize("name", ["{}.tmp", "{}.old.tmp"])
def test_what_living_processes_write_is_kept(tmp_path, name):
    """Another process that is writing the same folder keeps its temporary folder."""
    other = tmp_path / f".out.{THIS}-{name.format(os.getppid())}"
    other.mkdir()
    finish(tmp_path / "out")
    assert entries(tmp_path) == [other.name, "out"]


def test_what_another_machine_writes_is_kept(tmp_path, dead_process, monkeypatch):
    """Whether its process lives cannot be told from here; and the same process id there is another file."""
    other = tmp_path / f".out.gpu-2-{dead_process}.tmp"
    other.mkdir()
    finish(tmp_path / "out")
    assert entries(tmp_path) == [other.name, "out"]
    with store.replacing(tmp_path / "a.json") as here, monkeypatch.context() as patched:
        patched.setattr(socket, "gethostname", lambda: "gpu-2.local")
        with store.replacing(tmp_path / "a.json") as there:
            assert there.name == f".a.json.gpu-2-local-{os.getpid()}.tmp" != here.name
            here.touch()
            there.touch()


def test_what_is_written_for_another_folder_is_kept(tmp_path, dead_process):
    """`out.7` is not `out`: a living process that writes the one keeps its folder while the other is written."""
    other = tmp_path / f".out.{dead_process}.{THIS}-{os.getppid()}.tmp"
    other.mkdir()
    finish(tmp_path / "out")
    assert entries(tmp_path) == [other.name, "out"]


@pytest.mark.parametrize("prepare", [lambda folder: None, lambda folder: folder.mkdir()], ids=["absent", "empty"])
def test_an_absent_or_empty_folder_is_not_finished(tmp_path, prepare):
    """Where nothing stands, the stage has to run."""
    prepare(tmp_path / "out")
    assert not store.is_finished(tmp_path / "out", CONFIG)


def test_a_folder_of_the_same_config_is_finished(tmp_path):
    """The same config is recognised after its way through JSON (tuples become lists)."""
    finish(tmp_path / "out")
    assert store.is_finished(tmp_path / "out", CONFIG)


def test_another_config_is_refused(tmp_path):
    """The refusal names the folder, what differs, and the two ways out."""
    finish(tmp_path / "out")
    with refused(tmp_path / "out", "flags.epochs: 2 -> 3", "another folder", "--overwrite"):
        store.is_finished(tmp_path / "out", {"seed": 42, "flags": {"epochs": 3, "range": (2, 200)}})


@pytest.mark.parametrize("config", [{}, {**CONFIG, "device": "cpu"}, {"seed": 42}])
def test_a_config_with_more_or_fewer_keys_is_another(tmp_path, config):
    """Keys that came or went count as differences."""
    finish(tmp_path / "out")
    with refused(tmp_path / "out", "another configuration"):
        store.is_finished(tmp_path / "out", config)


def test_files_without_a_manifest_are_refused(tmp_path):
    """A folder of somebody else's files is neither taken for an artefact nor overwritten."""
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.txt").write_text("years of work")
    with refused(tmp_path / "out", "no manifest.json", "--overwrite"):
        store.is_finished(tmp_path / "out", CONFIG)


def test_a_file_in_the_folder_s_place_is_refused(tmp_path):
    """A file where a folder is to be made is named."""
    (tmp_path / "out").write_text("a file")
    with refused(tmp_path / "out"):
        store.is_finished(tmp_path / "out", CONFIG)


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize(("made_from", "expected"), [({"seed": 1}, True), ({"seed": 2}, False)])
def test_what_it_was_made_from_alone_decides(tmp_path, made_from, expected, overwrite):
    """Neither another config nor `overwrite` counts where a stage says what it makes the artefact from."""
    with store.writing(tmp_path / "out", SampleManifest(config=CONFIG, made_from={"seed": 1})):
        pass
    assert store.is_finished(tmp_path / "out", {"other": 1}, overwrite, made_from) == expected
    assert store.is_made_from(tmp_path / "out", made_from) == expected


@pytest.mark.parametrize("made_from", [{"seed": 1}, {"seed": 2}])
def test_a_file_is_kept_by_what_it_was_made_from(tmp_path, made_from):
    """A file artefact follows the same rule, and an edited one is made again."""
    path = tmp_path / "rows.jsonl"
    store.write_file_artifact(path, [{"a": 1}], SampleManifest(config=CONFIG, made_from={"seed": 1}))
    assert store.is_file_finished(path, {"other": 1}, False, made_from) == (made_from == {"seed": 1})
    path.write_text("edited", encoding="utf-8")
    assert not store.is_file_finished(path, CONFIG, False, made_from)


@pytest.mark.parametrize("config", [CONFIG, {"seed": 1}])
def test_overwrite_is_never_finished(tmp_path, config):
    """With `overwrite` the stage runs, whatever stands there."""
    finish(tmp_path / "out")
    assert not store.is_finished(tmp_path / "out", config, overwrite=True)


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ({"a": 1}, {"a": 1}, []),
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}, []),
        ({"a": 1}, {"a": 2}, ["a: 1 -> 2"]),
        ({"a": {"b": {"c": 1}}}, {"a": {"b": {"c": 2}}}, ["a.b.c: 1 -> 2"]),
        ({}, {"a": "x"}, ['a: null -> "x"']),
        ({"a": "x"}, {}, ['a: "x" -> null']),
        ({"a": [1, 2]}, {"a": [2, 1]}, ["a: [1, 2] -> [2, 1]"]),
        ({"b": 1, "a": 1}, {"b": 2, "a": 2}, ["a: 1 -> 2", "b: 1 -> 2"]),
        ({"a": {"b": 1}}, {"a": 5}, ['a: {"b": 1} -> 5']),
    ],
)
def test_differences(old, new, expected):
    """Each key that differs is named once by its path, in the order of the keys."""
    assert store.differences(old, new) == expected


def test_long_differences_are_cut():
    """A value that fills pages is cut, so that the error stays one readable line."""
    (found,) = store.differences({"a": "x" * 500}, {"a": "y\n" * 500})
    assert len(found) < 140 and "\n" not in found


def test_jsonl_round_trip(tmp_path):
    """Rows come back as they were written, line breaks and other alphabets included."""
    rows = [{"text": "two\nlines \u2028 and a separator"}, {"text": "Größe √2", "ids": [1, 2]}]
    store.write_jsonl(tmp_path / "rows.jsonl", rows)
    assert store.read_jsonl(tmp_path / "rows.jsonl", ("text",)) == rows


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b'{"query": "a"}\n{broken\n', "line 2: not a JSON object"),
        (b'{"query": "a"}\n\n{"query": "b"}\n', "line 2: not a JSON object"),
        (b'{"query": "a"}\n{"text": "b"}\n', "line 2: key 'query' is missing"),
        (b'{"query": "a"}\n["query"]\n', "line 2"),
        (b'{"query": "a"}\n"query"\n', "line 2"),
        (b'{"query": "a"}\n{"query": "caf\xe9"}\n', ""),
        (b"", "the file is empty"),
    ],
    ids=["broken", "blank line", "no key", "a list", "a text", "not UTF-8", "empty"],
)
def test_bad_jsonl_is_refused(tmp_path, content, says):
    """A line that is no object with the required keys is named by file and number."""
    path = tmp_path / "rows.jsonl"
    path.write_bytes(content)
    with refused(path, says):
        store.read_jsonl(path, ("query",))


@pytest.mark.parametrize("read", [store.read_jsonl, store.read_json])
def test_a_missing_file_is_refused(tmp_path, read):
    """A file that is not there is named."""
    with refused(tmp_path / "none.json", "no such file"):
        read(tmp_path / "none.json")


@pytest.mark.parametrize("content", [b"", b'{"a": ', b"\xff\xfe"])
def test_broken_json_is_refused(tmp_path, content):
    """A manifest that was damaged is named."""
    path = tmp_path / "manifest.json"
    path.write_bytes(content)
    with refused(path, "not valid JSON"):
        store.read_json(path)


def test_a_text_file_is_replaced_whole(tmp_path):
    """`write_text` leaves the new text and no temporary file."""
    for text in ("old and long", "new"):
        store.write_text(tmp_path / "a.txt", text)
    assert (entries(tmp_path), (tmp_path / "a.txt").read_text()) == (["a.txt"], "new")


@pytest.mark.parametrize(("one", "other"), [(["ab", "c"], ["a", "bc"]), (["a", "b"], ["b", "a"]), (["a"], ["a", ""])])
def test_digest_of_texts_tells_lists_apart(one, other):
    """Lists that differ in order or in where a text ends have different digests."""
    assert hashing.sha256_texts(one) != hashing.sha256_texts(other)


def test_digest_of_json_is_of_the_value():
    """Equal values have one digest, whatever way they took through JSON."""
    assert hashing.sha256_json(json.loads(json.dumps(CONFIG))) == hashing.sha256_json(CONFIG)


def test_a_lock_is_held_by_one_process(tmp_path):
    """A second process gets the lock of a folder only after the first has released it."""
    code = (
        "import sys; from pathlib import Path; from rounds.artifacts import store\n"
        "with store.lock(Path(sys.argv[1])): print(1)"
    )
    with store.lock(tmp_path):
        other = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE)
        with pytest.raises(subprocess.TimeoutExpired):
            other.wait(timeout=1)
    assert other.communicate(timeout=60)[0] == b"1\n"


def test_a_lock_tells_who_has_to_wait_for_it(tmp_path):
    """Once, before it waits; and not where the folder is free."""
    calls, holder = [], ExitStack()
    holder.enter_context(store.lock(tmp_path, lambda: calls.append("waits for nobody")))

    def leave() -> None:
        calls.append("waits")
        holder.close()

    with store.lock(tmp_path, leave):
        assert calls == ["waits"]


@pytest.mark.parametrize("before", [None, "old"])
def test_a_failed_replacement_leaves_the_file_as_it_was(tmp_path, before):
    """An error while a file is written leaves neither a part of it nor a temporary file."""
    path = tmp_path / "a.txt"
    if before:
        path.write_text(before)
    with pytest.raises(ValueError), store.replacing(path) as temporary:
        temporary.write_text("half")
        raise ValueError
    assert [entry.read_text() for entry in tmp_path.iterdir()] == ([before] if before else [])
