"""Pretrain a small vision tower on images and captions, in the embedding space of a text model.

Contrastive, as CLIP (Radford et al. 2021, arXiv:2103.00020): an image's embedding is drawn to that of its caption,
which the text model computes and which stays fixed, and to that of another view of the same image (SimCLR: Chen et al.
2020, arXiv:2002.05709), and pushed away from those of the batch's other captions and images.
"""

import math
import shutil
from dataclasses import dataclass
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
from rounds.training.callbacks import StepEstimate

CAPTIONS = "captions.jsonl"

SAME_CAPTION = 1 - 1e-4  # captions with a cosine above this say the same


@dataclass(frozen=True)
class Augmentation:
    """How far a view may differ from its image.

    Attributes:
        rotation: largest angle in radians, in both directions.
        shift: largest shift, where 2 is the side of the image.
        zoom: largest change of the scale, as a share.
        light: largest change of the brightness and of each color channel.
    """

    rotation: float = math.radians(25)
    shift: float = 0.12
    zoom: float = 0.2
    light: float = 0.2


@dataclass(frozen=True)
class PretrainingFigures:
    """Figures of a vision tower's training, for its manifest.

    Attributes:
        pictures: number of images, those held out included.
        loss: mean loss of the last epoch.
        held_out: number of images that were not trained on.
        own_caption_first: share of these whose nearest held-out caption is their own.
        own_second_look_first: share of these whose view's nearest held-out image is their own.
    """

    pictures: int
    loss: float
    held_out: int
    own_caption_first: float
    own_second_look_first: float


def read_captions(folder: Path) -> list[dict]:
    """Return the rows of `captions.jsonl`: `image`, a path relative to the folder, and `text`.

    Raises:
        UserError: there is no such file, or it has fewer than two rows.
    """
    if not (folder / CAPTIONS).is_file():
        raise UserError(
            f"{folder / CAPTIONS}: no such file; write it to pretrain a vision tower, or let "
            "model.vision.name_or_path name a pretrained one"
        )
    rows = store.read_jsonl(folder / CAPTIONS, ("image", "text"))
    if len(rows) < 2:
        raise UserError(f"{folder / CAPTIONS}: has {len(rows)} rows; contrastive training needs two or more")
    return rows


def digest_captions(folder: Path) -> str:
    """Return one SHA-256 over the captions and images of a folder."""
    rows = read_captions(folder)
    return hashing.sha256_json([[row["text"], image_digest(str(folder / row["image"]))] for row in rows])


def train(
    recipe: Recipe, embedder: SentenceTransformer, precision: str, folder: Path, output: Path, seed: int
) -> PretrainingFigures:
    """Train a tower on a folder's captions, write it with `vision_tower.save` and return the training's figures.

    Args:
        recipe: its sections `pretraining` and `model.vision` describe the tower.
        embedder: the text model; its weights do not change.
        precision: precision of the tower's computations; its weights are fp32.

    Raises:
        UserError: unusable captions, or a loss or weights that are no finite numbers.
    """
    settings, rows = recipe.pretraining, read_captions(folder)
    captions = _embed_captions(embedder, recipe, [row["text"] for row in rows])
    set_seed(seed)
    tower = _make_tower(settings, recipe, captions.shape[1])
    files = [str(folder / row["image"]) for row in rows]
    images = [ImageReference(file, image_digest(file)).read() for file in files]
    held_out = max(1, len(rows) // 20)
    on_cpu = embedder.device.type == "cpu"
    arguments = _training_arguments(settings, precision, len(rows) - held_out, output / "trainer", seed, on_cpu)
    pixels = tower.preprocess_images(images)
    loss_callback = _EpochLossCallback()
    trainer = Trainer(
        model=ContrastiveModel(tower, settings),
        args=arguments,
        train_dataset=range(held_out, len(rows)),
        callbacks=[loss_callback, StepEstimate(f"pretrain on {len(rows) - held_out:,} images")],
        data_collator=lambda batch: {"pixels": pixels[batch], "captions": captions[batch]},
    )
    trainer.remove_callback(PrinterCallback)
    trainer.train()
    if not math.isfinite(loss_callback.last_loss) or not all(map(_is_finite, tower.parameters())):
        raise UserError(
            f"recipe {recipe.name}: the tower's loss or weights are no finite numbers; lower pretraining.learning_rate "
            "or raise pretraining.temperature"
        )
    shutil.rmtree(output / "trainer")
    tower.eval()
    vision_tower.save(tower, output)
    image_embeddings = _embed_pixels(tower, pixels[:held_out])
    view_embeddings = _embed_pixels(tower, augment(pixels[:held_out]))
    return PretrainingFigures(
        pictures=len(rows),
        loss=loss_callback.last_loss,
        held_out=held_out,
        own_caption_first=_top1_accuracy(image_embeddings, nn.functional.normalize(captions[:held_out], dim=1)),
        own_second_look_first=_top1_accuracy(view_embeddings, image_embeddings),
    )


def _is_finite(weights: Tensor) -> bool:
    return bool(weights.isfinite().all())


def _embed_captions(embedder: SentenceTransformer, recipe: Recipe, texts: list[str]) -> Tensor:
    """Return the captions' embeddings (captions, dim), centred: what all have in common would hide the differences."""
    options = EncodingOptions("encode captions")
    captions = torch.from_numpy(encode(embedder, texts, recipe.prompts, "passage", "fp32", options=options))
    return captions - captions.mean(dim=0)


def _training_arguments(
    settings: Pretraining, precision: str, rows: int, folder: Path, seed: int, on_cpu: bool
) -> TrainingArguments:
    """Return the Trainer's arguments for `rows` images; a last batch that is smaller than the others is dropped."""
    return TrainingArguments(
        output_dir=str(folder),
        num_train_epochs=settings.epochs,
        per_device_train_batch_size=settings.batch_size,
        learning_rate=settings.learning_rate,
        weight_decay=0.05,
        warmup_steps=0.1,
        lr_scheduler_type="cosine",
        save_strategy="no",
        logging_strategy="epoch",
        logging_nan_inf_filter=False,  # which would replace NaN by the mean of other steps
        report_to="none",
        seed=seed,
        remove_unused_columns=False,
        use_cpu=on_cpu,
        bf16=precision == "bf16",
        fp16=precision == "fp16",
        dataloader_drop_last=rows >= settings.batch_size,
        disable_tqdm=True,
    )


def _make_tower(settings: Pretraining, recipe: Recipe, dim: int) -> VisionTower:
    """Return a tower with random weights, whose head projects to `dim` dimensions."""
    config = CLIPVisionConfig(
        hidden_size=settings.hidden_size,
        intermediate_size=4 * settings.hidden_size,
        num_hidden_layers=settings.layers,
        num_attention_heads=settings.heads,
        image_size=settings.image_size,
        patch_size=settings.patch_size,
    )
    size = {"height": settings.image_size, "width": settings.image_size}
    processor = CLIPImageProcessorPil(size=size, crop_size=size, do_center_crop=False)
    return VisionTower(CLIPVisionModel(config), processor, dim, recipe.model.vision, normalize=True)


def _embed_pixels(tower: VisionTower, pixels: Tensor) -> Tensor:
    """(images, 3, height, width) -> image embeddings (images, dim), on the CPU."""
    with torch.inference_mode():
        return torch.cat(
            [tower.project(tower.encode_pixels(batch)) for batch in pixels.split(vision_tower.BATCH)]
        ).cpu()


def _top1_accuracy(queries: Tensor, candidates: Tensor) -> float:
    """Return the share of rows of `queries` (n, dim) whose nearest row of `candidates` (n, dim) is the same row."""
    return round(((queries @ candidates.T).argmax(1) == torch.arange(len(queries))).float().mean().item(), 4)


class ContrastiveModel(nn.Module):
    """A vision tower with its contrastive loss, as transformers' Trainer takes it.

    Args:
        tower: the tower to train.
        settings: the recipe's section `pretraining`.
    """

    def __init__(self, tower: VisionTower, settings: Pretraining) -> None:
        super().__init__()
        self.tower, self.settings = tower, settings

    def forward(self, pixels: Tensor, captions: Tensor) -> dict[str, Tensor]:
        """Return the loss of images (n, 3, height, width) and their captions' embeddings (n, dim).

        It is the mean loss of two views against the captions, plus the loss of one view against the other.
        """
        views = [self.tower.project(self.tower.encode_pixels(augment(pixels))) for _ in range(2)]
        captions = nn.functional.normalize(captions, dim=1)
        is_same_caption = captions @ captions.T > SAME_CAPTION
        temperature = self.settings.temperature
        losses = [symmetric_info_nce(view, captions, is_same_caption, temperature) for view in views]
        is_same_image = torch.eye(len(pixels), dtype=torch.bool, device=pixels.device)
        return {"loss": sum(losses) / 2 + symmetric_info_nce(*views, is_same_image, temperature)}


def symmetric_info_nce(rows: Tensor, columns: Tensor, is_same: Tensor, temperature: float) -> Tensor:
    """Compute InfoNCE in both directions, the positives on the diagonal, and return the mean of the two.

    Args:
        rows, columns: (n, dim) embeddings.
        is_same: (n, n) bool, True for pairs that must not serve as negatives; the diagonal does not matter.
        temperature: similarities are divided by it.
    """
    scores = rows @ columns.T / temperature
    positives = torch.arange(len(rows), device=rows.device)
    masked = is_same & ~torch.eye(len(rows), dtype=torch.bool, device=rows.device)
    scores = scores.masked_fill(masked, -torch.inf)
    return (nn.functional.cross_entropy(scores, positives) + nn.functional.cross_entropy(scores.T, positives)) / 2


def augment(pixels: Tensor, strength: Augmentation = Augmentation()) -> Tensor:
    """Return a random view of each image, rotated, shifted, zoomed and relit: (n, 3, height, width), same shape."""
    n, device = len(pixels), pixels.device

    def draw(limit: float) -> Tensor:
        """Return (n,) numbers between -limit and limit."""
        return (torch.rand(n, device=device) * 2 - 1) * limit

    angle, zoom = draw(strength.rotation), 1 + draw(strength.zoom)
    affine_rows = [
        torch.stack([zoom * angle.cos(), -zoom * angle.sin(), draw(strength.shift)], dim=1),
        torch.stack([zoom * angle.sin(), zoom * angle.cos(), draw(strength.shift)], dim=1),
    ]
    grid = nn.functional.affine_grid(torch.stack(affine_rows, dim=1), list(pixels.shape), align_corners=False)
    moved = nn.functional.grid_sample(pixels, grid, padding_mode="border", align_corners=False)
    tint = torch.stack([draw(strength.light) for _ in range(3)], dim=1)[:, :, None, None]
    brightness = 1 + draw(strength.light)[:, None, None, None]
    return moved * brightness + tint


class _EpochLossCallback(TrainerCallback):
    """Print the loss of each epoch, and keep the last one."""

    last_loss = float("nan")

    def on_log(self, args, state, control, logs=None, **kwargs) -> None:
        if "loss" in (logs or {}):
            self.last_loss = float(logs["loss"])
            print(f"epoch {state.epoch:.0f}/{args.num_train_epochs:.0f}  loss {self.last_loss:.4f}", flush=True)
