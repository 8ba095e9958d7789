"""Object storage: files at URLs such as `s3://bucket/key`, which fsspec reads and writes.

A URL's driver (s3fs, gcsfs, ...) is imported when one is named, and not before. Its errors become one line that names
the URL and the way out.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from rounds.errors import UserError

URL = re.compile(r"[a-z][a-z0-9+.-]*://.")

STORAGE_VARIABLES = ("AWS_", "GOOGLE_", "AZURE_", "FSSPEC_")  # prefixes of those with credentials and addresses

# By protocol: the variables that hold credentials.
CREDENTIALS = {
    "s3": "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE",
    "gs": "GOOGLE_APPLICATION_CREDENTIALS",
    "az": "AZURE_STORAGE_CONNECTION_STRING",
}

REASON_CHARACTERS = 200  # of a driver's own message in a line


def is_url(name: str) -> bool:
    """Return whether a name is a URL, not a local path.

    >>> is_url("s3://bucket/faq.csv"), is_url("data/faq.csv")
    (True, False)
    """
    return bool(URL.match(name))


def open_url(url: str) -> tuple[Any, str]:
    """Return a URL's file system, which remembers no listings, and the path of the URL within it.

    Raises:
        UserError: there is no such kind of storage, or its driver is not installed.
    """
    with explaining(url):
        from fsspec.core import url_to_fs

        return url_to_fs(url, use_listings_cache=False)


@contextmanager
def explaining(url: str) -> Iterator[None]:
    """Say in one line what went wrong at a URL.

    Raises:
        UserError: the block raised an error of the driver, each of which has classes of its own.
    """
    try:
        yield
    except UserError:
        raise
    except ImportError:
        raise UserError(f"{url}: {_missing_driver(url)}") from None
    except FileNotFoundError:
        raise UserError(f"{url}: no such bucket, folder or file") from None
    except Exception as error:
        reason = " ".join(str(error).split())[:REASON_CHARACTERS] or type(error).__name__
        if isinstance(error, PermissionError) or "Credentials" in type(error).__name__:
            variables = CREDENTIALS.get(_protocol(url), "the credentials that its driver reads")
            raise UserError(f"{url}: is not allowed ({reason}); set {variables}") from None
        raise UserError(f"{url}: {reason}") from None


def _protocol(url: str) -> str:
    return url.partition("://")[0]


def _missing_driver(url: str) -> str:
    """Return which package reads the URL, as far as fsspec knows."""
    from fsspec.registry import known_implementations

    driver = known_implementations.get(_protocol(url), {})
    package = driver.get("class", "").partition(".")[0]
    if package in ("", "fsspec"):
        return driver.get("err", "its driver is not installed")
    return f"needs {package}; install it with pip install {package}"
