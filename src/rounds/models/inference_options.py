"""Inference options: the choices that change how a checkpoint embeds texts, and not which model it is."""

from dataclasses import dataclass

from rounds.errors import UserError

ENGINES = ("rounds", "flagembedding")


@dataclass(frozen=True)
class InferenceOptions:
    """How a checkpoint embeds texts.

    Attributes:
        precision: numeric precision: `fp32`, `bf16`, `fp16`, or `nf4`, `fp4` for 4-bit weights.
        devices: devices that encode, one process each; the first is this process's.
        engine: `rounds`, or `flagembedding` for FlagEmbedding's own model class.
        truncate_dim: number of leading dimensions that a run keeps of each embedding; None keeps all.
        modality: which part of a text with an image is embedded, a key of `images.MODALITY_FILTERS`.

    Raises:
        UserError: the engine is unknown, or `truncate_dim` is below 1.
    """

    precision: str
    devices: tuple[str, ...]
    engine: str = "rounds"
    truncate_dim: int | None = None
    modality: str = "with"

    def __post_init__(self) -> None:
        """Check the values that come from a command line."""
        if self.engine not in ENGINES:
            raise UserError(f"engine {self.engine!r} is not one of {', '.join(ENGINES)}")
        if self.truncate_dim is not None and self.truncate_dim < 1:
            raise UserError(f"truncate_dim {self.truncate_dim}: must be at least 1")

    @property
    def device(self) -> str:
        """The device of this process."""
        return self.devices[0]
