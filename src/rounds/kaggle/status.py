"""Status of a dataset or a notebook version on Kaggle, read field by field through the client's own library.

The client's command line is not enough: `kaggle kernels status` ignores the version that it is given and prints the
notebook's name beside the status, and a failed command does not print the HTTP status.
"""

import contextlib
import io
import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

from rounds.errors import UserError, install_command
from rounds.kaggle import account

NOT_INSTALLED = f"the kaggle client is not installed; run make setup, or {install_command('kaggle')}"

REFUSED = (
    "kaggle has no valid credentials: create an API token (kaggle.com, Settings) and put it into "
    "~/.kaggle/access_token or the variable KAGGLE_API_TOKEN, then accept the competition's rules"
)

ABSENT = (403, 404)  # Kaggle answers 403 to the name of something that does not exist

REQUEST_TIMEOUT = 408

TOO_MANY_REQUESTS = 429

ANSWER_LIMIT = 120.0  # seconds; the client itself waits without end, also on a connection that is gone


class Unavailable(UserError):
    """Kaggle could not be reached or could not answer; the same request may succeed later."""


@dataclass(frozen=True)
class DatasetStatus:
    """The state of a dataset.

    Attributes:
        state: Kaggle's name of the state, such as READY or FAILED.
        version: Number of the current version; 0 if Kaggle does not tell it yet.
    """

    state: str
    version: int


@dataclass(frozen=True)
class NotebookStatus:
    """The state of one version of a notebook.

    Attributes:
        state: Kaggle's name of the state, such as RUNNING, COMPLETE or ERROR.
        message: Why it failed; empty if it did not.
    """

    state: str
    message: str


class StatusReader:
    """Reads statuses with the credentials of Kaggle's client.

    Raises:
        Unavailable: Kaggle could not check the credentials.
        UserError: The client is not installed, or has no valid credentials.
    """

    def __init__(self) -> None:
        try:
            with contextlib.redirect_stdout(io.StringIO()):  # a page of help where credentials are missing
                from kaggle.api.kaggle_api_extended import KaggleApi

                self._api = KaggleApi()
                request(self._api.authenticate)
        except ImportError:
            raise UserError(NOT_INSTALLED) from None
        except SystemExit:
            account.check_token()
            raise UserError(REFUSED) from None
        except Unavailable:
            account.check_token()  # the client stumbles over some broken files
            raise

    @property
    def user(self) -> str:
        """Return the user whose credentials these are."""
        return self._api.config_values.get(self._api.CONFIG_NAME_USER) or ""

    def dataset(self, name: str) -> DatasetStatus | None:
        """Return the status of the dataset `owner/slug`, or None if there is none.

        Raises:
            Unavailable: Kaggle could not answer.
            UserError: Kaggle refused the request.
        """
        from kagglesdk.datasets.types.dataset_api_service import ApiGetDatasetRequest, ApiGetDatasetStatusRequest

        about, status = ApiGetDatasetRequest(), ApiGetDatasetStatusRequest()
        for message in (about, status):
            message.owner_slug, message.dataset_slug = name.split("/")
        with self._api.build_kaggle_client() as kaggle:
            service = kaggle.datasets.dataset_api_client
            # In this order: a state that is read after a version's number is not the state of an earlier version.
            dataset = request(service.get_dataset, about)
            answer = request(service.get_dataset_status, status)
        if answer is None:
            return None
        return DatasetStatus(answer.status.name, dataset.current_version_number if dataset else 0)

    def notebook(self, name: str, version: int) -> NotebookStatus | None:
        """Return the status of a version of the notebook `owner/slug`, or None if Kaggle does not know it yet.

        Raises:
            Unavailable: Kaggle could not answer.
            UserError: Kaggle refused the request.
        """
        from kagglesdk.kernels.types.kernels_api_service import ApiGetKernelSessionStatusRequest

        message = ApiGetKernelSessionStatusRequest()
        message.user_name, message.kernel_slug = name.split("/")
        message.version_label = f"v{version}"
        with self._api.build_kaggle_client() as kaggle:
            answer = request(kaggle.kernels.kernels_api_client.get_kernel_session_status, message)
        return None if answer is None else NotebookStatus(answer.status.name, answer.failure_message)


def request(method: Callable, *arguments: object, limit: float = ANSWER_LIMIT) -> Any:
    """Return the answer to a request, or None if what it asks for does not exist.

    Args:
        method: A method of the client's library.
        arguments: Its arguments.
        limit: Seconds to wait for the answer.

    Raises:
        Unavailable: There is no answer, or none that can be read, such as a page of HTML or a state that the installed
            client does not know.
        UserError: Kaggle refused the request.
    """
    from requests import HTTPError, RequestException

    try:
        return _call_within(limit, method, *arguments)
    except HTTPError as error:
        code = error.response.status_code if error.response is not None else 0
        if code in ABSENT:
            return None
        if code == 401:
            raise UserError(REFUSED) from None
        problem = f"kaggle answered {code}: {' '.join(str(error).split())}"
        is_passing = code >= 500 or code in (REQUEST_TIMEOUT, TOO_MANY_REQUESTS)
        raise (Unavailable(problem) if is_passing else UserError(problem)) from None
    except TimeoutError:
        raise Unavailable(f"kaggle cannot be reached: no answer after {limit:.0f} s") from None
    except RequestException as error:
        raise Unavailable(f"kaggle cannot be reached: {' '.join(str(error).split())}") from None
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise Unavailable(f"kaggle's answer cannot be read ({reason})") from None


def _call_within(seconds: float, method: Callable, *arguments: object) -> Any:
    """Return what a method returns or raise what it raises, or TimeoutError after some seconds."""
    outcome: Future = Future()

    def call() -> None:
        try:
            outcome.set_result(method(*arguments))
        except BaseException as error:  # SystemExit among them: the client's way to say that it has no credentials
            outcome.set_exception(error)

    threading.Thread(target=call, daemon=True).start()  # a daemon, so that the program may end without the answer
    return outcome.result(seconds)
