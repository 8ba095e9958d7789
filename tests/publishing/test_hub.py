"""Upload to the hub, against a stand-in of its HTTP API: what arrives, and each failure in one line."""

from collections.abc import Iterator
from pathlib import Path

import huggingface_hub
import pytest
from helpers import hub_stand_in
from helpers.hub_stand_in import TOKEN, Hub
from helpers.tiny_task import refused
from huggingface_hub import HfApi

from rounds.publishing import hub

REPO = "you/tiny"


@pytest.fixture
def server(monkeypatch) -> Iterator[Hub]:
    """A hub that this process may ask although the tests are offline; large files go to it by plain HTTP."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_DISABLE_XET", True)
    with hub_stand_in.serving() as served:
        yield served


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder like a published model, with a few files that must stay at home."""
    for name, content in {
        "README.md": "---\ntags: [x]\n---\n# card\n",
        "modules.json": "[]",
        "model.safetensors": "weights",
        "1_Pooling/config.json": "{}",
        "manifest.json": "{}",
        "runs/config.json": "{}",
        "optimizer.pt": "state",
        ".env": "secret",
    }.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(content, encoding="utf-8")
    return tmp_path


def upload(server: Hub, folder: Path, repo: str = REPO, public: bool = False, token: str = TOKEN) -> str:
    return hub.upload(HfApi(endpoint=server.url, token=token), folder, repo, public, "tiny by rounds")


def test_one_commit_holds_the_model_and_its_card(server, folder):
    """Large and small files arrive whole; manifests, runs, states and hidden files do not."""
    line = upload(server, folder)
    assert server.repos[REPO] == {
        name: (folder / name).read_bytes()
        for name in ("README.md", "modules.json", "model.safetensors", "1_Pooling/config.json")
    }
    assert [commit["summary"] for commit in server.commits] == ["tiny by rounds"]
    assert line == f"{server.url}/{REPO} (private): commit cccccccccccc, 4 files"


@pytest.mark.parametrize("public", [False, True])
def test_a_new_repository_is_private_unless_public_is_asked_for(server, folder, public):
    """The hub's own default would be public."""
    upload(server, folder, public=public)
    assert server.private == {REPO: not public}


def test_a_repository_that_everybody_sees_is_not_published_to_by_accident(server, folder):
    """It is named with the way out, and nothing is committed."""
    server.repos[REPO], server.private[REPO] = {}, False
    with refused(REPO, "everybody can see it", "PUBLIC=1"):
        upload(server, folder)
    assert server.commits == []
    assert "(public)" in upload(server, folder, public=True)


def test_files_of_an_earlier_model_go_and_others_stay(server, folder):
    """An adapter's config beside merged weights would load the adapter again; a licence is not ours to delete."""
    server.repos[REPO] = {"adapter_config.json": b"{}", "LICENSE": b"MIT", "README.md": b"old"}
    server.private[REPO] = True
    upload(server, folder)
    assert "adapter_config.json" not in server.repos[REPO] and server.repos[REPO]["LICENSE"] == b"MIT"
    assert server.repos[REPO]["README.md"] == (folder / "README.md").read_bytes()


@pytest.mark.parametrize(
    ("part", "status", "words"),
    [
        ("/api/repos/create", 401, "refuses the token"),
        ("/api/repos/create", 403, "may not write there"),
        ("/api/models/you/tiny", 404, "knows no such"),
        ("/preupload/", 403, "may not write there"),
        ("/objects/batch", 403, "may not write there"),
        ("/commit/", 401, "refuses the token"),
        ("/commit/", 429, "no more requests"),
        ("/commit/", 500, "status 500"),
        ("/commit/", 413, "status 413"),
    ],
)
def test_what_the_hub_refuses_is_one_line(server, folder, part, status, words):
    """At each step, and nothing is committed."""
    server.fail[part] = status
    with refused(REPO, words):
        upload(server, folder)
    assert server.repos.get(REPO, {}) == {}


def test_another_users_namespace_is_one_line(server, folder):
    """The hub answers 403."""
    with refused("other/tiny", "may not write there"):
        upload(server, folder, repo="other/tiny")


def test_a_wrong_token_is_found_before_anything_slow(server):
    """It is refused, and the line says how to set a right one."""
    with refused(REPO, "refuses the token", "HF_TOKEN", "hf auth login"):
        hub.check_login(HfApi(endpoint=server.url, token="hf_wrong"), REPO)
    hub.check_login(HfApi(endpoint=server.url, token=TOKEN), REPO)


def test_no_token_is_one_line(server, monkeypatch):
    """The line says how to set one; the hub is not asked."""
    monkeypatch.setattr("huggingface_hub.hf_api.get_token", lambda: None)
    with refused(REPO, "no token", "HF_TOKEN", "hf auth login"):
        hub.check_login(HfApi(endpoint=server.url), REPO)
    assert server.requests == []


def test_no_network_is_one_line(server, unused_port):
    """The address that cannot be reached is named."""
    address = f"http://127.0.0.1:{unused_port}"
    with refused(REPO, address, "cannot be reached", "DRY=1"):
        hub.check_login(HfApi(endpoint=address, token=TOKEN), REPO)


def test_offline_mode_is_one_line(server, monkeypatch):
    """HF_HUB_OFFLINE is named."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with refused(REPO, "HF_HUB_OFFLINE", "DRY=1"):
        hub.check_login(HfApi(endpoint=server.url, token=TOKEN), REPO)


@pytest.mark.parametrize("repo", ["tiny", "you/tiny/x", "you/a b", "you/--", "https://hf.co/you/x", "you/x.git", ""])
def test_a_name_that_the_hub_refuses_is_one_line(repo):
    """The hub is not asked."""
    with refused(repr(repo)):
        hub.check_name(repo)


def test_a_right_name_passes():
    """Letters, digits, dots, underscores and hyphens."""
    hub.check_name("you/Tiny-model_v1.0")
