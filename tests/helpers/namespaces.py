"""Whether this machine allows namespaces without a network."""

import shutil
import subprocess

import pytest


def may_unshare() -> bool:
    """Whether this machine permits network namespaces."""
    if not (shutil.which("unshare") and shutil.which("ip")):
        return False
    return not subprocess.run(["unshare", "-rn", "ip", "link", "set", "lo", "up"], capture_output=True).returncode


needs_namespaces = pytest.mark.skipif(
    not may_unshare(), reason="network namespaces (unshare -rn) are not permitted here"
)
