"""Rounds: hard-negative rounds that turn a general text embedder into a specialist."""

__version__ = "0.1.0"

import logging

from rounds import process

# peft imports bitsandbytes, which then reports on every start a CPU kernel that nothing here needs.
logging.getLogger("bitsandbytes").setLevel(logging.ERROR)

process.bound_spinning()  # every stage imports this package before torch
