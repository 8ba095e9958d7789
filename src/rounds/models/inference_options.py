"""Inference options: the choices that change how a checkpoint embeds texts, and not which model it is."""

from dataclasses import dataclass

from rounds.artifacts import object_storage
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
        cluster: the Ray cluster whose workers encode and search in place of `devices`, as `ray_cluster.join` takes it;
            empty for none.
        shards: URL at which the cluster's workers keep what they have encoded; empty to keep it on this machine.

    Raises:
        UserError: the engine is unknown, `truncate_dim` is below 1, there are several devices beside a cluster, or
            `shards` is no URL or has no cluster.
    """

    precision: str
    devices: tuple[str, ...]
    engine: str = "rounds"
    truncate_dim: int | None = None
    modality: str = "with"
    cluster: str = ""
    shards: str = ""

    def __post_init__(self) -> None:
        """Check the values that come from a command line."""
        if self.engine not in ENGINES:
            raise UserError(f"engine {self.engine!r} is not one of {', '.join(ENGINES)}")
        if self.truncate_dim is not None and self.truncate_dim < 1:
            raise UserError(f"truncate_dim {self.truncate_dim}: must be at least 1")
        if self.cluster and len(self.devices) > 1:
            raise UserError(f"device {','.join(self.devices)}: a cluster takes its nodes' own devices; leave one out")
        if self.shards and not object_storage.is_url(self.shards):
            raise UserError(f"shards {self.shards}: must be a URL, such as s3://bucket/folder")
        if self.shards and not self.cluster:
            raise UserError(f"shards {self.shards}: only a cluster's workers write shards; name one, or leave it out")

    @property
    def device(self) -> str:
        """The device of this process."""
        return self.devices[0]
