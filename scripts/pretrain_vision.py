"""Train a small vision tower on pictures and captions, beside a recipe's text model."""

from dataclasses import dataclass, field
from pathlib import Path

from rounds import artefact, cli, pretraining
from rounds import recipe as recipes
from rounds.errors import UserError
from rounds.model import backbone


@dataclass
class Flags:
    """Whose captions, for which text model."""

    raw_dir: str = field(metadata={"help": "folder with captions.jsonl and its pictures"})
    recipe: str = field(metadata={"help": "recipe name or YAML file: its text model and `pretraining`"})
    output_dir: str = field(metadata={"help": "folder that model.vision.name_or_path names"})
    seed: int = 42
    device: str = field(default="", metadata={"help": "cpu, cuda or cuda:N; default: a GPU where there is one"})
    overwrite: bool = False


def main(flags: Flags) -> None:
    """Train a small vision tower on pictures and captions, beside a recipe's text model."""
    recipe, folder, output = recipes.load(flags.recipe), Path(flags.raw_dir), Path(flags.output_dir)
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder")
    text = recipe.replace("model", vision=recipes.Vision())
    config = {
        "text": backbone.weights_digest(backbone.locate(text.model), text.model.revision),
        "how": vars(recipe.pretraining), "captions": pretraining.digest_of(folder), "seed": flags.seed,
    }  # fmt: skip
    kept = artefact.read_manifest(output) or {}
    if kept.get("config") == config or artefact.is_finished(output, config, flags.overwrite):
        print(f"{output}: up to date")
        return
    device = backbone.resolve_device(flags.device)
    embedder, precision = (
        backbone.load(text, "fp32", device),
        backbone.resolve_precision(recipe.model.precision, device),
    )
    manifest = {"kind": "vision", "config": config}
    with artefact.writing(output, manifest) as temporary:
        manifest |= pretraining.train(recipe, embedder, precision, folder, temporary, flags.seed)
    print(
        f"{output}: {manifest['pictures']} pictures, loss {manifest['loss']:.4f}; of {manifest['held out']} held out, "
        f"{manifest['own caption first']:.0%} find their own caption first, "
        f"and {manifest['own second look first']:.0%} their own second look"
    )


if __name__ == "__main__":
    cli.run(main, Flags)
