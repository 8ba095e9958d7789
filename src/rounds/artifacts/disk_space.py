"""Full disks: take the space of large files first, and say in one line which file found none."""

import errno
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from rounds.errors import UserError

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)

# What safetensors (in Rust's words), torch and numpy say: their errors have no number.
FULL_TEXT = re.compile(
    r"No space left on device|StorageFull|File too large|FileTooLarge"
    r"|enforce fail at inline_container|basic_ios::clear: iostream error|requested and \d+ written"
)


@contextmanager
def required_for(path: Path) -> Iterator[None]:
    """Name the file or folder that is being written where the disk is full.

    Raises:
        UserError: the block failed for lack of space, whatever error the writing library raised.
    """
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        if not is_lack_of_space(error):
            raise
        raise UserError(f"{path}: no space left to write it; free some and run again") from None


def is_lack_of_space(error: Exception) -> bool:
    """Return whether an error says that a disk, a quota or the limit of a file's size is exhausted."""
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno in FULL
    return bool(FULL_TEXT.search(str(error)))


def allocate_array(path: Path, shape: tuple[int, ...], dtype: type = np.float32) -> np.ndarray:
    """Return a new memory-mapped .npy file whose space is taken already.

    Without it, the file would be sparse, and a full disk would end the process by a signal (SIGBUS) at some later row.

    Raises:
        OSError: there is no space for it.
    """
    array = np.lib.format.open_memmap(path, "w+", dtype, shape)
    with open(path, "r+b") as file:
        _take_space(file.fileno(), path.stat().st_size)
    return array


def _take_space(file: int, size: int) -> None:
    """Take the blocks of a file, where the system and the file system can."""
    if not hasattr(os, "posix_fallocate"):  # macOS
        return
    try:
        os.posix_fallocate(file, 0, size)
    except OSError as error:
        if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS):
            raise
