"""Average checkpoints: write the averaged weights as a checkpoint whose lineage is that of all its parents."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from rounds.artifacts import store
from rounds.artifacts.manifests import Parent
from rounds.data import lineage
from rounds.encoding import canary
from rounds.models import averaging, checkpoint
from rounds.models.checkpoint import Checkpoint


def average(
    sources: Sequence[Checkpoint],
    output: Path,
    method: str = "mean",
    overwrite: bool = False,
    made_from: dict | None = None,
) -> str:
    """Write the average of checkpoints of one shape into a checkpoint folder, and return the line to print.

    Args:
        sources: the checkpoints.
        method: one of `averaging.METHODS`.
        overwrite: replace an output folder that was averaged from others.
        made_from: what the pipeline makes the folder from, which then decides whether it is kept; None without one.

    Raises:
        UserError: checkpoints that cannot be averaged, or an output folder of another configuration.
    """
    averaging.check_averageable(sources, method)
    config = {"method": method, "parents": [source.weights_digest for source in sources]}
    if store.is_finished(output, config, overwrite, made_from):
        return f"{output}: up to date"
    first = sources[0]
    with store.drafting(output) as draft:
        recipe = averaging.write_average(sources, method, draft.folder)
        embedder = dataclasses.replace(first, recipe=recipe, folder=draft.folder).load()
        draft.manifest = checkpoint.build_manifest(
            embedder,
            draft.folder,
            recipe,
            first.precision,
            config=config,
            title=f"{method} of {_describe(sources)}",
            parents=[
                Parent(name=source.name, weights=source.weights_digest, base=False, kind=source.kind)
                for source in sources
            ],
            lineage=lineage.union(*(source.lineage for source in sources)),
            lineage_status=_worst_status(sources),
            made_from=made_from,
        )
        if canary.is_needed(embedder):
            proof = canary.embed_canaries(embedder, recipe.prompts, first.precision)
            draft.manifest = draft.manifest.with_values(proof=proof)
    return f"{output}: {method} of {', '.join(source.name for source in sources)}"


def _describe(sources: Sequence[Checkpoint]) -> str:
    """Return what tells the checkpoints apart in a table, or how many there are."""
    names = [_row_name(source) for source in sources]
    if len({source.recipe.name for source in sources}) > 1:
        names = [f"{source.recipe.name} {name}" for source, name in zip(sources, names, strict=True)]
    return ", ".join(names) if len(set(names)) == len(names) else f"{len(names)} checkpoints"


def _row_name(source: Checkpoint) -> str:
    manifest = source.manifest
    return manifest.title or f"round {manifest.round}"


def _worst_status(sources: Sequence[Checkpoint]) -> str:
    """Return the status of a lineage that is the union of all."""
    statuses = {lineage.UNKNOWN if source.lineage is None else source.manifest.lineage_status for source in sources}
    return next((status for status in (lineage.POLLUTED, lineage.UNKNOWN) if status in statuses), lineage.CLEAN)
