"""Image inputs: what an embedder needs of its texts' images, as features of a batch.

A frozen vision tower encodes each distinct image once, and the batches carry its features; a trained tower gets pixels,
and a vision-language model the indices of images that it loads itself.
"""

import hashlib
from pathlib import Path

import numpy as np
import torch
from sentence_transformers import SentenceTransformer
from torch import Tensor, nn
from tqdm import tqdm

from rounds.artifacts import store
from rounds.data.images import ImageReference, find_image, strip_image
from rounds.estimate import track
from rounds.models import vision_language, vision_tower
from rounds.models.vision_language import IMAGE_INDEX, JointImageInputs
from rounds.models.vision_tower import BATCH, IMAGE_FEATURES, IMAGE_ONLY, IMAGE_PIXELS, VisionTower


class TowerImageInputs:
    """Image inputs of texts for a vision tower.

    Args:
        texts: all texts that batches will be made of.
        keep_pixels: whether batches carry pixels, for a tower that is being trained; else the images are encoded now.
    """

    def __init__(self, tower: VisionTower, texts: list[str], keep_pixels: bool = False) -> None:
        self.row_by_text = {text: row for row, text in enumerate(dict.fromkeys(texts))}
        images = [find_image(text) for text in self.row_by_text]
        self.is_image_only = torch.tensor([not strip_image(text).strip() for text in self.row_by_text])
        self.pixels = self.features = None
        if keep_pixels:
            index_by_image = {image: index for index, image in enumerate(dict.fromkeys(filter(None, images)))}
            self.image_index = torch.tensor([index_by_image.get(image, -1) for image in images])
            self.pixels = tower.preprocess_images([image.read() for image in index_by_image])
        else:
            self.features = torch.from_numpy(encode_images(tower, images))

    def batch(self, texts: list[str], rows: int) -> dict[str, Tensor]:
        """Return the features of a batch of texts, padded to `rows` rows by repeating the first text."""
        padded = texts + texts[:1] * (rows - len(texts))
        selected = torch.tensor([self.row_by_text[text] for text in padded])
        batch = {IMAGE_ONLY: self.is_image_only[selected]}
        if self.features is not None:
            return batch | {IMAGE_FEATURES: self.features[selected]}
        # Only the batch's own images, numbered anew. -1, for texts without an image, sorts first and has no pixels:
        #   image_index[selected]  7 -1 7 3   ->   distinct  -1 3 7,  position  2 0 2 1,  IMAGE_INDEX  1 -1 1 0
        distinct, position = self.image_index[selected].unique(return_inverse=True)
        first = int(distinct[0] < 0)
        return batch | {IMAGE_PIXELS: self.pixels[distinct[first:]], IMAGE_INDEX: position - first}


def load_image_inputs(embedder: SentenceTransformer, texts: list[str]) -> TowerImageInputs | JointImageInputs | None:
    """Return the image inputs of texts, for training batches; None for an embedder that reads no images."""
    if loader := vision_language.find_patch_loader(embedder):
        return JointImageInputs(loader, texts)
    tower = vision_tower.find_tower(embedder)
    return tower and TowerImageInputs(tower, texts, keep_pixels=vision_tower.is_trainable(tower))


def image_arrays(embedder: SentenceTransformer, texts: list[str]) -> dict[str, np.ndarray] | None:
    """Return the image features of a batch, with a row for each text; None for an embedder that reads no images."""
    if loader := vision_language.find_patch_loader(embedder):
        return {IMAGE_INDEX: loader.image_indices(texts)}
    tower = vision_tower.find_tower(embedder)
    if tower is None:
        return None
    return {name: values.numpy() for name, values in TowerImageInputs(tower, texts).batch(texts, len(texts)).items()}


def encode_images(tower: VisionTower, images: list[ImageReference | None]) -> np.ndarray:
    """Encode images with a vision tower, each distinct image once.

    With `tower.feature_cache`, features are read from and written to files named by the tower's weights and the
    image's digest.

    Returns:
        (images, feature dimension) float32, NaN for None.
    """
    distinct = list(dict.fromkeys(filter(None, images)))
    folder = tower.feature_cache and tower.feature_cache / f"pictures-{_tower_digest(tower.tower)}"
    features = _read_features(folder, distinct) if folder else {}
    missing = [image for image in distinct if image not in features]
    was_training = tower.tower.training
    tower.tower.eval()
    starts = tqdm(range(0, len(missing), BATCH), desc="encode images", disable=None, leave=False)
    for start in track(starts, len(starts), f"encode {len(missing):,} images", "batches"):
        batch = missing[start : start + BATCH]
        with torch.inference_mode():
            encoded = tower.encode_pixels(tower.preprocess_images([image.read() for image in batch])).cpu().numpy()
        for image, row in zip(batch, encoded, strict=True):
            features[image] = row
            if folder:
                _write_features(_feature_file(folder, image), row)
    tower.tower.train(was_training)
    absent = np.full(tower.head.in_features, np.nan, dtype=np.float32)
    return np.stack([absent if image is None else features[image] for image in images])


def _read_features(folder: Path, images: list[ImageReference]) -> dict[ImageReference, np.ndarray]:
    files = {image: _feature_file(folder, image) for image in images}
    return {image: np.load(file) for image, file in files.items() if file.is_file()}


def _feature_file(folder: Path, image: ImageReference) -> Path:
    return folder / image.digest[:2] / f"{image.digest}.npy"


def _write_features(file: Path, features: np.ndarray) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    with store.replacing(file) as temporary, open(temporary, "wb") as opened:
        np.save(opened, features)


def _tower_digest(tower: nn.Module) -> str:
    """Return 12 hexadecimal digits of a SHA-256 over all weights that shape the features."""
    digest = hashlib.sha256()
    weights = tower.state_dict()
    if hasattr(tower, "visual_tokens"):
        weights["visual_tokens"] = tower.visual_tokens()
    for name, value in sorted(weights.items()):
        digest.update(name.encode())
        digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()[:12]
