"""Data in S3 give what the same local files give, and are read again when they change."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from helpers import s3_stand_in
from helpers.scripts import call
from helpers.tiny_task import refused

from rounds.artifacts import store
from rounds.data import remote_files
from rounds.pipeline import keys
from rounds.pipeline.keys import Command

pytestmark = pytest.mark.slow

URL = f"s3://{s3_stand_in.BUCKET}/faq/pairs.csv"

TABLE = "query,positive\n" + "".join(f"what is {n} plus {n}?,it is {2 * n}\n" for n in range(40))


@pytest.fixture(scope="module")
def bucket() -> Iterator[Any]:
    with s3_stand_in.serving() as storage:
        yield storage


@pytest.fixture(autouse=True)
def cache(monkeypatch, tmp_path) -> None:
    """An empty cache."""
    monkeypatch.setenv("ROUNDS_CACHE", str(tmp_path / "cache"))
    remote_files._copy.cache_clear()


def stage(raw: object, folder: Path) -> Command:
    """The data stage as make calls it."""
    flags = {"task": "pairs", "raw_dir": raw, "recipe": "tiny-mistral", "output_dir": folder}
    return keys.command("gen_data_for_hn_mine", **flags, replace_stale=True)


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name != store.MANIFEST}


def test_a_table_in_s3_gives_what_the_local_file_gives(bucket, tmp_path, capsys):
    """The collection is the same bytes; it is fresh until the object changes, and its manifest names the URL."""
    (tmp_path / "pairs.csv").write_text(TABLE, encoding="utf-8")
    bucket.pipe(URL, TABLE.encode())
    for raw, name in ((tmp_path / "pairs.csv", "local"), (URL, "remote")):
        result = call("gen_data_for_hn_mine.py", *stage(raw, tmp_path / name).arguments(), cwd=tmp_path)
        assert result.returncode == 0, result.stderr
    assert files(tmp_path / "remote") == files(tmp_path / "local")
    remote = stage(URL, tmp_path / "remote")
    assert keys.made_from(remote)["raw_dir"].keys() == {"url", "pairs.csv"}
    assert store.is_made_from(tmp_path / "remote", keys.made_from(remote))
    assert "copying" not in capsys.readouterr().out
    bucket.pipe(URL, TABLE.replace("what", "What").encode())
    remote_files._copy.cache_clear()
    assert not store.is_made_from(tmp_path / "remote", keys.made_from(remote))


@pytest.mark.parametrize("url", ["s3://no-such-bucket/pairs.csv", f"s3://{s3_stand_in.BUCKET}/none.csv"])
def test_a_missing_bucket_or_key_is_one_line(url, bucket):
    """It names the URL."""
    with refused(f"{url}: no such bucket, folder or file"):
        remote_files.local_path(url)


def test_missing_credentials_are_one_line(bucket, monkeypatch):
    """It names the variables that hold them."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    type(bucket).clear_instance_cache()
    with refused(f"{URL}: is not allowed", "set AWS_ACCESS_KEY_ID"):
        remote_files.local_path(URL)
