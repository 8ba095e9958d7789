"""Train a small vision tower on pictures and captions, beside a recipe's text model."""

from dataclasses import dataclass, field
from pathlib import Path

from rounds import cli
from rounds.artifacts import store
from rounds.artifacts.manifests import VisionManifest
from rounds.config import loader
from rounds.config.recipe import Vision
from rounds.data import remote_files
from rounds.errors import UserError
from rounds.flags import OneDevice, Replacing, Seeded
from rounds.models import backbone
from rounds.models.devices import resolve_device
from rounds.models.precision import resolve_precision
from rounds.models.weights import locate_model, weights_digest
from rounds.training import vision_pretraining


@dataclass(kw_only=True)
class Flags(OneDevice, Replacing, Seeded):
    """The captions to learn from, and the recipe with the text model."""

    raw_dir: str = field(metadata={"help": "folder with captions.jsonl and its pictures"})
    recipe: str = field(metadata={"help": "recipe name or YAML file: its text model and `pretraining`"})
    output_dir: str = field(metadata={"help": "folder that model.vision.name_or_path names"})


def main(flags: Flags) -> None:
    """Train a small vision tower on pictures and captions, beside a recipe's text model."""
    recipe, folder, output = loader.load(flags.recipe), remote_files.local_path(flags.raw_dir), Path(flags.output_dir)
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder")
    text = recipe.replace("model", vision=Vision())
    config = {
        "text": weights_digest(locate_model(text.model), text.model.revision),
        "how": vars(recipe.pretraining),
        "captions": vision_pretraining.digest_captions(folder),
        "seed": flags.seed,
    }
    if store.is_finished(output, config, flags.overwrite, flags.made_from):
        print(f"{output}: up to date")
        return
    device = resolve_device(flags.device)
    embedder = backbone.load(text, "fp32", device)
    precision = resolve_precision(recipe.model.precision, device)
    with store.drafting(output) as draft:
        figures = vision_pretraining.train(recipe, embedder, precision, folder, draft.folder, flags.seed)
        draft.manifest = VisionManifest(config=config, **vars(figures), made_from=flags.made_from)
    print(
        f"{output}: {figures.pictures} pictures, loss {figures.loss:.4f}; of {figures.held_out} held out, "
        f"{figures.own_caption_first:.0%} find their own caption first, "
        f"and {figures.own_second_look_first:.0%} their own second look"
    )


if __name__ == "__main__":
    cli.run(main, Flags)
