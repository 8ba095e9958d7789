"""Requests to Kaggle: what an answer means, and that one which cannot be read, or never comes, is no crash."""

import time

import pytest
from helpers.tiny_task import refused

from rounds.errors import UserError
from rounds.kaggle import status
from rounds.kaggle.status import Unavailable

requests = pytest.importorskip("requests")


def fail(error: Exception) -> None:
    raise error


def answered(code: int) -> Exception:
    """Return the error of the client's library for an HTTP status."""
    response = requests.Response()
    response.status_code = code
    return requests.HTTPError("as the server\nsays", response=response)


@pytest.mark.parametrize("code", [408, 429, 500, 503])
def test_a_failure_that_may_pass_is_told_from_a_refusal(code):
    """The same request is worth a second try; the message is one line."""
    with pytest.raises(Unavailable, match=f"^kaggle answered {code}: as the server says$"):
        status.request(fail, answered(code))


def test_a_refusal_is_final():
    """A bad request stays one; 403 and 404 stand for something that does not exist."""
    with pytest.raises(UserError, match="answered 400") as refusal:
        status.request(fail, answered(400))
    assert not isinstance(refusal.value, Unavailable)
    assert status.request(fail, answered(403)) is None and status.request(fail, answered(404)) is None
    with refused("no valid credentials"):
        status.request(fail, answered(401))


@pytest.mark.parametrize("error", [ValueError("<html>"), KeyError("PAUSED"), TypeError("null"), AttributeError("x")])
def test_an_answer_that_cannot_be_read_is_no_answer(error):
    """A page of HTML with status 200, or a state that the installed client does not know, is asked for again."""
    with pytest.raises(Unavailable, match=f"cannot be read .*{type(error).__name__}"):
        status.request(fail, error)


def test_an_answer_that_never_comes_is_given_up():
    """The client's library waits without end where the connection is gone."""
    with pytest.raises(Unavailable, match="no answer"):
        status.request(time.sleep, 5, limit=0.01)
    assert status.request(lambda value: value, 7) == 7
