"""Status of a dataset or a notebook version on Kaggle, read field by field through the client's own library.

The client's command line is not enough: `kaggle kernels status` ignores the version that it is given and prints the
notebook's name beside the status, and a failed command does not print the HTTP status.
"""

import contextlib
import io
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from rounds.errors import UserError

NOT_INSTALLED = "the kaggle client is not installed; run make setup, or pip install '.[kaggle]'"

REFUSED = (
    "kaggle has no valid credentials: create an API token (kaggle.com, Settings) and put it into "
    "~/.kaggle/access_token or the variable KAGGLE_API_TOKEN, then accept the competition's rules"
)

ABSENT = (403, 404)  # Kaggle answers 403 to the name of something that does not exist


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
        UserError: The client is not installed, or has no valid credentials.
    """

    def __init__(self) -> None:
        try:
            with contextlib.redirect_stdout(io.StringIO()):  # a page of help where credentials are missing
                from kaggle.api.kaggle_api_extended import KaggleApi

                self._api = KaggleApi()
                _request(self._api.authenticate)
        except ImportError:
            raise UserError(NOT_INSTALLED) from None
        except SystemExit:
            raise UserError(REFUSED) from None

    def dataset(self, name: str) -> DatasetStatus | None:
        """Return the status of the dataset `owner/slug`, or None if there is none.

        Raises:
            Unavailable: Kaggle could not answer.
            UserError: Kaggle refused the request.
        """
        from kagglesdk.datasets.types.dataset_api_service import ApiGetDatasetRequest, ApiGetDatasetStatusRequest

        about, status = ApiGetDatasetRequest(), ApiGetDatasetStatusRequest()
        for request in (about, status):
            request.owner_slug, request.dataset_slug = name.split("/")
        with self._api.build_kaggle_client() as kaggle:
            service = kaggle.datasets.dataset_api_client
            # In this order: a state that is read after a version's number is not the state of an earlier version.
            dataset = _request(service.get_dataset, about)
            answer = _request(service.get_dataset_status, status)
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

        request = ApiGetKernelSessionStatusRequest()
        request.user_name, request.kernel_slug = name.split("/")
        request.version_label = f"v{version}"
        with self._api.build_kaggle_client() as kaggle:
            answer = _request(kaggle.kernels.kernels_api_client.get_kernel_session_status, request)
        return None if answer is None else NotebookStatus(answer.status.name, answer.failure_message)


def _request(method: Callable, *arguments: object) -> Any:
    """Return the answer to a request, or None if what it asks for does not exist."""
    from requests import HTTPError, RequestException

    try:
        return method(*arguments)
    except HTTPError as error:
        code = error.response.status_code if error.response is not None else 0
        if code in ABSENT:
            return None
        if code == 401:
            raise UserError(REFUSED) from None
        problem = f"kaggle answered {code}: {' '.join(str(error).split())}"
        raise (Unavailable(problem) if code >= 500 or code == 429 else UserError(problem)) from None
    except RequestException as error:
        raise Unavailable(f"kaggle cannot be reached: {' '.join(str(error).split())}") from None
