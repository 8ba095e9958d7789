"""Kaggle's machine, made once for all notebooks that run on it."""

import pytest

from tests.helpers.offline_notebook import OfflineMachine, make_machine


@pytest.fixture(scope="session")
def offline(tmp_path_factory) -> OfflineMachine:
    """Return a machine without network whose image lacks the project."""
    return make_machine(tmp_path_factory.mktemp("machine"))
