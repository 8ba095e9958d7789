"""Loading: libraries stay off the screen, and what is wrong with a model's files is an error of one line."""

import functools
import logging
import multiprocessing
import pickle
import re
from collections.abc import Iterator
from contextlib import contextmanager

from safetensors import SafetensorError
from tqdm import tqdm

from rounds.artifacts.store import is_main_process
from rounds.errors import UserError

# What libraries raise where a model's files are missing, damaged or of another model.
FILE_ERRORS = (OSError, ValueError, ImportError, RuntimeError, SafetensorError, pickle.UnpicklingError)

# Parts of the names of weights that no embedding depends on: BERT's pooler, and ESM's head for contacts of residues.
UNUSED = ("pooler", "contact_head")

REPORTER = "transformers.modeling_utils"

COLOURS = re.compile(r"\x1b\[[0-9;]*m")

SHAPE = re.compile(r"\[[\d, ]*\]")


@contextmanager
def one_line_errors(name: str, may_be_missing: tuple[str, ...] = UNUSED) -> Iterator[None]:
    """Load a model within the block: hide what transformers says of its weights, and turn errors into one line.

    transformers reports weights that are left over, such as a language model's head, which make no difference here. It
    only warns of weights that are missing, which would start at random.

    Args:
        name: what the error line calls the model.
        may_be_missing: parts of the names of weights that are not used, or that the caller makes anew.

    Raises:
        UserError: the files cannot be read, or they lack weights of the model or have some of other shapes.
    """
    logger, reports = logging.getLogger(REPORTER), []
    level, least = logger.level, logger.getEffectiveLevel()

    def keep_report(record: logging.LogRecord) -> bool:
        message = record.getMessage()
        if "LOAD REPORT" in message:
            reports.append(COLOURS.sub("", message))
            return False
        is_on_weights = "weights mapping" in message and "both are absent" in message  # the report lists these, too
        return record.levelno >= least and not is_on_weights

    logger.addFilter(keep_report)
    # Reports are warnings. At just that level, transformers would also print the tensor-parallel plan of each model.
    logger.setLevel(min(least, logging.WARNING - 1))
    try:
        yield
    except Exception as error:
        _check_reports(name, reports, may_be_missing)
        if not (isinstance(error, FILE_ERRORS) or type(error) is Exception):  # tokenizers raises the base class
            raise
        raise UserError(f"{name}: cannot be loaded ({' '.join(str(error).split())[:200]})") from None
    finally:
        logger.setLevel(level)
        logger.removeFilter(keep_report)
    _check_reports(name, reports, may_be_missing)


def _check_reports(name: str, reports: list[str], may_be_missing: tuple[str, ...]) -> None:
    """Refuse weights that transformers reports as missing, or as of another shape than the model's.

    A row of a report is `layers.{0, 1}.mlp.weight | MISSING |`, and names a shape behind a second bar.
    """
    rows = [line.split("|") for report in reports for line in report.splitlines() if "|" in line]
    rows = [[cell.strip() for cell in row] for row in rows]
    missing = [row[0] for row in rows if row[1] == "MISSING" and not any(part in row[0] for part in may_be_missing)]
    if missing:
        raise UserError(f"{name}: its files lack the weights {_listed(missing)}; take a complete copy of the model")
    misshapen = [f"{row[0]} {' for '.join(SHAPE.findall(row[2]))}" for row in rows if row[1] == "MISMATCH"]
    if misshapen:
        raise UserError(f"{name}: its files do not fit its config.json: they have weights {_listed(misshapen)}")


def _listed(names: list[str], most: int = 2) -> str:
    """Return the first names, and how many more there are.

    >>> _listed(["a", "b", "c"])
    'a, b and 1 more'
    """
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


@functools.cache
def report_once(line: str) -> None:
    """Print a line above the progress bars, unless this process has printed it before or works for another one."""
    if multiprocessing.parent_process() is None and is_main_process():
        tqdm.write(line)
