"""Versions of the libraries that shape a checkpoint and its vectors."""

from importlib.metadata import PackageNotFoundError, version

VERSIONED_LIBRARIES = ("torch", "transformers", "sentence-transformers", "peft")


def library_versions() -> dict[str, str]:
    """Return the versions of the libraries that shape a checkpoint, by distribution name."""
    versions = {}
    for name in VERSIONED_LIBRARIES:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            versions[name] = "absent"
    return versions
