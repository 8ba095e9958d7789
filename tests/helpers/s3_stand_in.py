"""A stand-in for S3 on this machine: moto's server, which answers on loopback alone."""

import os
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

import pytest

BUCKET = "corpora"


@contextmanager
def serving() -> Iterator[Any]:
    """Serve an empty bucket `BUCKET`, to which the environment's variables lead; yield fsspec's file system of it.

    The test is skipped where moto or s3fs is not installed.
    """
    pytest.importorskip("s3fs", reason="needs s3fs (pip install -e '.[s3]')")
    server = pytest.importorskip("moto.server", reason="needs moto (make setup installs it for tests)")
    running = server.ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    running.start()
    host, port = running.get_host_and_port()
    variables = {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
        "NO_PROXY": host,
    }
    try:
        with mock.patch.dict(os.environ, variables):
            import s3fs

            # moto keeps its buckets per process, not per server: an earlier test's are still there.
            urllib.request.urlopen(urllib.request.Request(f"http://{host}:{port}/moto-api/reset", method="POST"))
            storage = s3fs.S3FileSystem(skip_instance_cache=True, use_listings_cache=False)
            storage.mkdir(BUCKET)
            yield storage
    finally:
        running.stop()
        import fsspec

        fsspec.get_filesystem_class("s3").clear_instance_cache()
