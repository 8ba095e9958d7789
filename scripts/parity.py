"""Say whether two runs are the same within tolerance, and which setting is the cause where they are not."""

import sys
from dataclasses import dataclass, field
from pathlib import Path

from rounds import cli
from rounds.config import loader
from rounds.data import collection
from rounds.data.collection import Collection
from rounds.encoding import run_store
from rounds.errors import UserError
from rounds.evaluation import parity
from rounds.evaluation.parity import Side, Tolerance
from rounds.flags import ModelOutput, OneDevice
from rounds.models import checkpoint
from rounds.models.devices import restrict_to_one_gpu


@dataclass(kw_only=True)
class Flags(ModelOutput, OneDevice):
    """The two runs, and the tolerance between them."""

    a: str = field(
        metadata={
            "help": "a run's folder (run.trec and fingerprint.json), an evaluation's, a submission's CSV, or else a "
            "checkpoint or recipe, whose run is made; @PRECISION behind that computes in another precision"
        }
    )
    b: str = field(metadata={"help": "the other, in the same forms"})
    data_dir: str = field(default="", metadata={"help": "collection of the queries; its labels give the metric"})
    min_cosine: float = field(default=Tolerance.min_cosine, metadata={"help": "of the probes' vectors"})
    mean_cosine: float = field(default=Tolerance.mean_cosine, metadata={"help": "of the probes' vectors"})
    overlap: float = field(default=Tolerance.overlap, metadata={"help": "of the top 25, at least"})
    metric: float = field(default=Tolerance.metric, metadata={"help": "difference of MAP@25, at most"})


def main(flags: Flags) -> None:
    """Say whether two runs are the same within tolerance, and which setting is the cause where they are not."""
    data = collection.read(Path(flags.data_dir)) if flags.data_dir else None
    a, b = (_side(text, flags, data) for text in (flags.a, flags.b))
    tolerance = Tolerance(flags.min_cosine, flags.mean_cosine, flags.overlap, flags.metric)
    checks = parity.compare(a, b, tolerance, data.qrels if data else None)
    print(parity.table(a, b, checks))
    sys.exit(1 if parity.cause(checks) else 0)


def _side(text: str, flags: Flags, data: Collection | None) -> Side:
    model_output = Path(flags.model_output)
    if (folder := parity.recorded(Path(text), model_output)) is not None:
        return parity.load(folder, text)
    if data is None:
        raise UserError(f"{text}: holds no run; to make it, name the queries with --data_dir")
    name, precision = parity.parse(text)
    recipe = loader.load(name) if name in loader.names() or name.endswith((".yaml", ".yml")) else None
    source = checkpoint.resolve(None if recipe else name, recipe, restrict_to_one_gpu(flags.device), precision)
    folder = run_store.run_folder(source, data, model_output)
    return parity.load(folder, f"{text} ({source.precision} on {source.device})")


if __name__ == "__main__":
    cli.run(main, Flags)
