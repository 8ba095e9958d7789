"""Checks of values: each returns what is wrong with the text of a variable, or nothing.

Only the standard library and modules that keep to it are imported, so `make help` works before the set-up.
"""

import re
import shlex

from rounds.artifacts import object_storage
from rounds.pipeline import hosts
from rounds.pipeline.task_defaults import project_path

DEVICES = re.compile(r"cpu(,cpu)*|cuda(:\d+)?(,cuda(:\d+)?)*")


def wrong_device(text: str) -> str:
    """Check DEVICE."""
    is_right = DEVICES.fullmatch(text)
    return "" if is_right else "must be cpu, cuda or cuda:N, or several of one kind, such as cuda:0,cuda:1"


def wrong_cluster(text: str) -> str:
    """Check CLUSTER."""
    is_right = text == "auto" or re.fullmatch(r"[\w.-]+:\d+", text)
    return "" if is_right else "must be auto, or HOST:PORT of a Ray cluster's head, such as 10.0.0.1:6379"


def wrong_shards(text: str) -> str:
    """Check SHARDS."""
    return "" if object_storage.is_url(text) else "must be a URL, such as s3://bucket/folder"


def wrong_hosts(text: str) -> str:
    """Check HOSTS."""
    if text == hosts.SLURM or re.fullmatch("@.+", text):
        return ""
    names = [name.strip() for name in text.split(",")]
    is_right = len(set(names)) == len(names) > 1 and all(re.fullmatch(r"[\w.-]+", name) for name in names)
    return "" if is_right else "must be HOST,HOST,... with each machine once, this one first; or @HOSTFILE, or slurm"


def wrong_launcher(text: str) -> str:
    """Check LAUNCH_BY."""
    is_right = hosts.HOST in text or hosts.NAME in text
    return wrong_quotes(text, "words") if is_right else "must have {host} (or {name}), as in 'ssh {host}'"


def wrong_fields(text: str) -> str:
    """Check FIELDS."""
    names = [name.strip() for name in text.split(",")]
    return "" if len(names) in (2, 3) and all(names) else "must be query,positive or query,positive,group"


def wrong_extra(text: str) -> str:
    """Check EXTRA."""
    files = [name.strip() for name in text.split(",")]
    is_right = all(files) and len(set(map(project_path, files))) == len(files)
    return "" if is_right else "must be FILE or FILE,FILE,... with each file once"


def wrong_repo(text: str) -> str:
    """Check REPO."""
    return "" if re.fullmatch(r"[\w.-]+/[\w.-]+", text) else "must be OWNER/NAME, such as you/name"


def wrong_quotes(text: str, parts: str = "flags") -> str:
    """Check flags, or other parts, that a shell must be able to split."""
    try:
        shlex.split(text)
    except ValueError as error:
        return f"cannot be split into {parts} ({str(error).lower()}); close each quote"
    return ""
