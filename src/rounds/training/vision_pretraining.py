"""Pretraining: a small vision tower learns to see from pictures and captions, in a text model's space.

Contrastive, as CLIP (Radford et al. 2021, arXiv:2103.00020): a picture's vector comes near its caption's, which the
text model makes and keeps, and near that of the same picture turned, cut and recoloured (SimCLR: Chen et al. 2020,
arXiv:2002.05709), away from the batch's others.
"""

import math
import shutil
from pathlib import Path

import torch
from sentence_transformers import SentenceTransformer
from torch import Tensor, nn
from transformers import (
    CLIPImageProcessorPil,
    CLIPVisionConfig,
    CLIPVisionModel,
    PrinterCallback,
    Trainer,
    TrainerCallback,
    TrainingArguments,
    set_seed,
)

from rounds.artifacts import hashing, store
from rounds.config.recipe import Pretraining, Recipe
from rounds.data.images import ImageReference, image_digest
from rounds.encoding.encoder import EncodingOptions, encode
from rounds.errors import UserError
from rounds.models import vision_tower
from rounds.models.vision_tower import VisionTower

CAPTIONS = "captions.jsonl"

TURN, SHIFT, ZOOM, LIGHT = math.radians(25), 0.12, 0.2, 0.2  # how far a second look may differ


def read_captions(folder: Path) -> list[dict]:
    """Rows of `captions.jsonl`: `image`, a path below the folder, and `text`.

    Raises:
        UserError: no such file, or no rows.
    """
    if not (folder / CAPTIONS).is_file():
        raise UserError(
            f"{folder / CAPTIONS}: no such file, from which a vision tower learns to see; write it, or let "
            "model.vision.name_or_path name a model that sees already"
        )
    rows = store.read_jsonl(folder / CAPTIONS, ("image", "text"))
    if len(rows) < 2:
        raise UserError(f"{folder / CAPTIONS}: has {len(rows)} rows, and contrast needs two or more")
    return rows


def train(recipe: Recipe, embedder: SentenceTransformer, precision: str, folder: Path, output: Path, seed: int) -> dict:
    """Train a tower on a folder's captions and write it (`vision.write`); returns what to say of it.

    Args:
        embedder: the text model, which stays as it is.
        precision: in which the tower computes; its weights are fp32.
    """
    how, rows = recipe.pretraining, read_captions(folder)
    captions = torch.from_numpy(
        encode(
            embedder,
            [row["text"] for row in rows],
            recipe.prompts,
            "passage",
            "fp32",
            options=EncodingOptions("encode captions"),
        )
    )
    captions = captions - captions.mean(dim=0)  # what all captions share would hide what they differ in
    set_seed(seed)
    eyes = _new(how, recipe, captions.shape[1])
    files = [str(folder / row["image"]) for row in rows]
    images = [ImageReference(file, image_digest(file)).read() for file in files]
    held = max(1, len(rows) // 20)  # captions that say how well it sees
    model = Contrast(eyes, how)
    arguments = TrainingArguments(
        output_dir=str(output / "trainer"), num_train_epochs=how.epochs, per_device_train_batch_size=how.batch_size,
        learning_rate=how.learning_rate, weight_decay=0.05, warmup_steps=0.1, lr_scheduler_type="cosine",
        save_strategy="no", logging_strategy="epoch", report_to="none", seed=seed, remove_unused_columns=False,
        use_cpu=embedder.device.type == "cpu", bf16=precision == "bf16", fp16=precision == "fp16",
        dataloader_drop_last=len(rows) - held >= how.batch_size, disable_tqdm=True,
    )  # fmt: skip
    pixels = eyes.preprocess_images(images)
    losses = _Losses()
    trainer = Trainer(
        model=model, args=arguments, train_dataset=range(held, len(rows)), callbacks=[losses],
        data_collator=lambda numbers: {"pixels": pixels[numbers], "captions": captions[numbers]},
    )  # fmt: skip
    trainer.remove_callback(PrinterCallback)
    trainer.train()
    shutil.rmtree(output / "trainer")
    eyes.eval()
    vision_tower.save(eyes, output)
    with torch.inference_mode():
        seen, again = (
            torch.cat([eyes.project(eyes.encode_pixels(part)) for part in shown.split(vision_tower.BATCH)]).cpu()
            for shown in (pixels[:held], varied(pixels[:held]))
        )
    return {
        "pictures": len(rows), "loss": losses.last, "held out": held,
        "own caption first": _first(seen, nn.functional.normalize(captions[:held], dim=1)),
        "own second look first": _first(again, seen),
    }  # fmt: skip


def _first(one: Tensor, other: Tensor) -> float:
    """How many rows find the same row of `other` nearest, as a share."""
    return round(((one @ other.T).argmax(1) == torch.arange(len(one))).float().mean().item(), 4)


def _new(how: Pretraining, recipe: Recipe, dim: int) -> VisionTower:
    config = CLIPVisionConfig(
        hidden_size=how.hidden_size, intermediate_size=4 * how.hidden_size, num_hidden_layers=how.layers,
        num_attention_heads=how.heads, image_size=how.image_size, patch_size=how.patch_size,
    )  # fmt: skip
    size = {"height": how.image_size, "width": how.image_size}
    processor = CLIPImageProcessorPil(size=size, crop_size=size, do_center_crop=False)
    return VisionTower(CLIPVisionModel(config), processor, dim, recipe.model.vision, normalize=True)


class Contrast(nn.Module):
    """The loss of a batch of pictures with their captions' vectors."""

    def __init__(self, eyes: VisionTower, how: Pretraining) -> None:
        super().__init__()
        self.eyes, self.how = eyes, how

    def forward(self, pixels: Tensor, captions: Tensor) -> dict[str, Tensor]:
        """`pixels` (n, 3, height, width), `captions` (n, dim)."""
        views = [self.eyes.project(self.eyes.encode_pixels(varied(pixels))) for _ in range(2)]
        captions = nn.functional.normalize(captions, dim=1)
        same = captions @ captions.T > 1 - 1e-4  # two pictures of which the same is said
        losses = [self._both_ways(view, captions, same) for view in views]
        alone = torch.eye(len(pixels), dtype=torch.bool, device=pixels.device)
        return {"loss": sum(losses) / 2 + self._both_ways(*views, alone)}

    def _both_ways(self, one: Tensor, other: Tensor, same: Tensor) -> Tensor:
        scores = one @ other.T / self.how.temperature
        right = torch.arange(len(one), device=one.device)
        hidden = same & ~torch.eye(len(one), dtype=torch.bool, device=one.device)
        scores = scores.masked_fill(hidden, -torch.inf)
        return (nn.functional.cross_entropy(scores, right) + nn.functional.cross_entropy(scores.T, right)) / 2


def varied(pixels: Tensor) -> Tensor:
    """Each picture turned, moved, zoomed and lit a little: (n, 3, height, width) -> the same shape."""
    n, device = len(pixels), pixels.device

    def drawn(most: float) -> Tensor:
        return (torch.rand(n, device=device) * 2 - 1) * most

    angle, zoom = drawn(TURN), 1 + drawn(ZOOM)
    rows = [
        torch.stack([zoom * angle.cos(), -zoom * angle.sin(), drawn(SHIFT)], dim=1),
        torch.stack([zoom * angle.sin(), zoom * angle.cos(), drawn(SHIFT)], dim=1),
    ]
    grid = nn.functional.affine_grid(torch.stack(rows, dim=1), list(pixels.shape), align_corners=False)
    turned = nn.functional.grid_sample(pixels, grid, padding_mode="border", align_corners=False)
    tint = torch.stack([drawn(LIGHT) for _ in range(3)], dim=1)[:, :, None, None]
    return turned * (1 + drawn(LIGHT))[:, None, None, None] + tint


class _Losses(TrainerCallback):
    last = float("nan")

    def on_log(self, args, state, control, logs=None, **kwargs) -> None:
        if "loss" in (logs or {}):
            self.last = float(logs["loss"])
            print(f"epoch {state.epoch:.0f}/{args.num_train_epochs:.0f}  loss {self.last:.4f}", flush=True)


def digest_of(folder: Path) -> str:
    """Of the captions and their pictures."""
    rows = read_captions(folder)
    return hashing.sha256_json([[row["text"], image_digest(str(folder / row["image"]))] for row in rows])
