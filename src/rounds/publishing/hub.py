"""Upload to the Hugging Face hub: one commit per call, and a failure in one line."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi
from huggingface_hub.errors import HFValidationError, LocalTokenNotFoundError, OfflineModeIsEnabled
from huggingface_hub.utils import validate_repo_id

from rounds.errors import UserError
from rounds.publishing import files

LOGIN = "set HF_TOKEN to a token with write access, or log in with `hf auth login`"

ANSWERS = {
    401: f"the hub refuses the token; {LOGIN}",
    403: "the token may not write there; take a token of the repository's owner, with write access",
    404: "the hub knows no such user, organization or repository, or does not show it to this token",
    429: "the hub takes no more requests for now; try again later",
}

LONGEST_REASON = 160  # characters of another library's message


def check_name(repo: str) -> None:
    """Check a repository's name by the hub's rules, without asking the hub.

    Raises:
        UserError: the name is not OWNER/NAME.
    """
    try:
        validate_repo_id(repo)
    except HFValidationError as error:
        raise UserError(f"repo {repo!r}: the hub takes no such name ({_shorten(error)})") from None
    if repo.count("/") != 1:
        raise UserError(f"repo {repo!r}: must be OWNER/NAME, such as you/name")


def check_login(api: HfApi, repo: str) -> None:
    """Ask the hub who the token belongs to, before anything slow begins.

    Raises:
        UserError: there is no token, the hub refuses it, or the hub cannot be reached.
    """
    with one_line_errors(api, repo):
        api.whoami()


def upload(api: HfApi, folder: Path, repo: str, public: bool, message: str) -> str:
    """Create the repository if it is not there, and commit the folder's files to it.

    All files go into one commit, so nobody loads a half-published model. Files of an earlier model that this one lacks
    are deleted in that commit; files that no model consists of, such as a licence, stay.

    Args:
        folder: what `files.write` and the card left; any other file is not uploaded.
        public: whether everybody may see the repository.
        message: of the commit.

    Returns:
        the line to print, with the repository's address.

    Raises:
        UserError: the hub cannot be reached or refuses a step, or the repository is public and `public` is not set.
    """
    published = files.listed(folder)
    with one_line_errors(api, repo):
        url = api.create_repo(repo, private=not public, exist_ok=True)
        is_private = bool(api.model_info(repo).private)
        if not (is_private or public):
            raise UserError(
                f"repo {repo}: is there already, and everybody can see it; say PUBLIC=1 (--public) to publish there"
            )
        outdated = [name for name in api.list_repo_files(repo) if files.is_of_model(name) and name not in published]
        operations = [CommitOperationDelete(name) for name in outdated]
        operations += [CommitOperationAdd(name, folder / name) for name in published]
        commit = api.create_commit(repo, operations, commit_message=message)
    seen_by = "private" if is_private else "public"
    return f"{url} ({seen_by}): commit {commit.oid[:12]}, {len(published)} files"


@contextmanager
def one_line_errors(api: HfApi, repo: str) -> Iterator[None]:
    """Turn errors of the hub, of the network and of the hub's client into a `UserError` that names the repository."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:  # the client raises its own errors, the network library's, ValueError and RuntimeError
        raise UserError(f"repo {repo}: {_explain(error, api.endpoint)}") from None


def _explain(error: Exception, endpoint: str) -> str:
    """Return what went wrong, and what to do about it where that is known."""
    if isinstance(error, OfflineModeIsEnabled):
        return "HF_HUB_OFFLINE is set, so nothing is uploaded; unset it, or write the folder alone (DRY=1)"
    if isinstance(error, LocalTokenNotFoundError):
        return f"there is no token for the hub; {LOGIN}"
    status = getattr(getattr(error, "response", None), "status_code", None)
    if status in ANSWERS:
        return ANSWERS[status]
    if status is not None:
        advice = "; try again later" if status >= 500 else ""
        return f"the hub answers with status {status} ({_shorten(error)}){advice}"
    if type(error).__module__.partition(".")[0] in ("httpx", "httpx2", "httpcore"):
        return f"{endpoint} cannot be reached ({_shorten(error)}); check the network, or write the folder alone (DRY=1)"
    return f"the upload failed ({_shorten(error)})"


def _shorten(error: Exception) -> str:
    reason = " ".join(str(error).split()) or type(error).__name__
    return reason if len(reason) <= LONGEST_REASON else f"{reason[: LONGEST_REASON - 3]}..."
