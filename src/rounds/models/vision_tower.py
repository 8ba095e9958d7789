"""Vision: the picture's part of a vector, behind the text's part, and how the two meet.

A checkpoint's last module. It adds to `sentence_embedding` what the tower saw, given as `looked` (features of a frozen
tower, computed once a picture) or as `pixels`; texts without a picture have zeros there.
"""

import hashlib
import os
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import Module
from torch import Tensor, nn
from tqdm import tqdm
from transformers import AutoImageProcessor, AutoModel

from rounds.config.recipe import VirtualTokens
from rounds.config.recipe import Vision as Recipe
from rounds.data.images import ImageReference, find_image, strip_image
from rounds.errors import UserError
from rounds.models import dual_encoder, vision_language
from rounds.models.vision_language import JointImageInputs

HEAD = "head.safetensors"

BATCH = 64  # pictures looked at together


class VisionTower(Module):
    """A vision tower, its way into the text's space, and the join.

    Args:
        tower: any vision model of transformers with a `pooler_output`.
        processor: its image processor.
        dim: of the text's vectors.
        recipe: `model.vision`.
        normalize: parts and whole of unit length.
    """

    config_keys = ["dim", "normalize"]

    def __init__(self, tower: nn.Module, processor, dim: int, recipe: Recipe, normalize: bool) -> None:
        super().__init__()
        self.tower, self.processor = tower, processor
        self.cache: Path | None = None  # holds features of pictures
        self.dim, self.recipe, self.normalize = dim, recipe, normalize
        self.head = nn.Linear(feature_dim(tower), dim, bias=False)
        nn.init.orthogonal_(self.head.weight)
        self.joined = nn.Linear(2 * dim, dim, bias=False) if recipe.join == "projection" else None
        if self.joined is not None:  # begins as the weighted sum
            eye = torch.eye(dim)
            with torch.no_grad():
                self.joined.weight.copy_(torch.cat([(1 - recipe.weight) * eye, recipe.weight * eye], dim=1))

    def get_embedding_dimension(self) -> int:
        """Of the joined vectors."""
        return 2 * self.dim if self.recipe.join == "concat" else self.dim

    def preprocess(self, images: list) -> Tensor:
        """Pillow images -> (images, 3, height, width) float32, as the tower takes them."""
        return self.processor(images=images, return_tensors="pt")["pixel_values"]

    def encode(self, pixels: Tensor) -> Tensor:
        """(images, 3, height, width) -> (images, tower's width) float32."""
        device = self.head.weight.device
        half = next((weights.dtype for weights in self.tower.parameters() if weights.dtype.itemsize == 2), None)
        # Beside weights in half precision, unfrozen ones are in full.
        with torch.autocast(device.type, dtype=half) if half else nullcontext():
            return self.tower(pixel_values=pixels.to(device)).pooler_output.flatten(1).float()

    def project(self, looked: Tensor) -> Tensor:
        """(n, tower's width) -> (n, dim): features in the text's space."""
        return self._unit(self.head(looked.to(self.head.weight.dtype)).float())

    def forward(self, features: dict[str, Tensor]) -> dict[str, Tensor]:
        """Join `sentence_embedding` (n, dim) with what was seen.

        `looked` (n, width) are features, or `pixels` (pictures, ...) and `picture` (n,) number them; rows without a
        picture are NaN there, or -1 here. `wordless` (n,) bool: rows whose text part does not count.
        """
        text = self._unit(features["sentence_embedding"].float())
        looked = self._looked(features, text)
        seen = looked.isfinite().all(dim=1, keepdim=True)
        picture = self.project(looked.where(seen, torch.zeros((), device=looked.device))) * seen
        if "wordless" in features:
            text = text * ~features["wordless"][:, None].to(text.device)
        return {**features, "sentence_embedding": self.join(text, picture)}

    def _looked(self, features: dict[str, Tensor], text: Tensor) -> Tensor:
        if "pixels" in features:
            found, picture = self.encode(features["pixels"]), features["picture"]
            looked = found[picture.clamp(min=0)]
            return looked.where((picture >= 0)[:, None], torch.full((), torch.nan, device=looked.device))
        if "looked" in features:
            return features["looked"].to(text.device)
        return torch.full((len(text), self.head.in_features), torch.nan, device=text.device)

    def join(self, text: Tensor, picture: Tensor) -> Tensor:
        """(n, dim) twice -> (n, `get_embedding_dimension()`); a part that is zero has no say."""
        share = self.recipe.weight
        if self.recipe.join == "concat":
            return self._unit(torch.cat([(1 - share) ** 0.5 * text, share**0.5 * picture], dim=1))
        if self.joined is not None:
            both = torch.cat([text, picture], dim=1)
            return self._unit(self.joined(both.to(self.joined.weight.dtype)).float())
        return self._unit((1 - share) * text + share * picture)

    def _unit(self, vectors: Tensor) -> Tensor:
        return nn.functional.normalize(vectors, dim=-1) if self.normalize else vectors

    def save(self, output_path: str, *args, **kwargs) -> None:
        """Its settings; its weights stand in the checkpoint's `tuned.safetensors`."""
        self.save_config(output_path)


def feature_dim(tower: nn.Module) -> int:
    """Numbers that a tower makes of a picture."""
    config = tower.config
    return getattr(config, "hidden_size", None) or config.hidden_sizes[-1]


def load(folder: str, dim: int, recipe: Recipe, normalize: bool, revision: str | None = None) -> VisionTower:
    """A pretrained tower with its image processor, and its head where the folder has one (`pretraining.py`).

    Args:
        folder: a folder or hub name.
        dim: of the text's vectors.

    Raises:
        UserError: it cannot be loaded, or its head is for text vectors of another size.
    """
    try:
        tower = AutoModel.from_pretrained(folder, revision=revision)
        processor = AutoImageProcessor.from_pretrained(folder, revision=revision, backend="pil")
    except (OSError, ValueError, ImportError) as error:
        raise UserError(f"model.vision {folder}: cannot be loaded ({' '.join(str(error).split())[:200]})") from None
    found = VisionTower(getattr(tower, "vision_model", tower), processor, dim, recipe, normalize)
    if (file := Path(folder) / HEAD).is_file():
        weights = load_file(file)["weight"]
        if weights.shape != found.head.weight.shape:
            raise UserError(
                f"{file}: leads to {weights.shape[0]} dimensions, and the text's vectors have {dim}; pretrain it "
                "beside this text model"
            )
        with torch.no_grad():
            found.head.weight.copy_(weights)
    return found.eval()


def save(vision: VisionTower, folder: Path) -> None:
    """Tower, processor and head as `read` takes them."""
    vision.tower.save_pretrained(folder)
    vision.processor.save_pretrained(folder)
    save_file({"weight": vision.head.weight.detach().contiguous()}, folder / HEAD)


def find_tower(embedder: SentenceTransformer) -> VisionTower | None:
    """An embedder's vision module."""
    return next((module for module in embedder if isinstance(module, VisionTower)), None)


def set_cache_folder(embedder: SentenceTransformer, folder: Path) -> None:
    """Keep pictures' features in a folder's subfolders, one for each tower; not for texts alone."""
    for kind in dual_encoder.KINDS:
        if eyes := find_tower(dual_encoder.encoder_for(embedder, kind)):
            eyes.cache = folder


class VisualTokens(nn.Module):
    """Virtual tokens that stand before a picture's patches, own ones or made from the text model's."""

    def __init__(self, number: int, width: int, text: nn.Module | None) -> None:
        super().__init__()
        self.__dict__["text"] = text  # not a submodule: its weights are the text's
        if text is None:
            self.own = nn.Parameter(torch.randn(number, width) * 0.02)
        else:
            self.coupling = nn.Linear(text.get_prompt(1).shape[-1], width, bias=False)

    def forward(self) -> Tensor:
        """(tokens, width)."""
        return self.own if self.text is None else self.coupling(self.text.get_prompt(1)[0].float())


def add_visual_tokens(vision: VisionTower, how: VirtualTokens, text: nn.Module) -> None:
    """Put virtual tokens between a tower's class token and its patches, in place.

    Args:
        text: peft's model of the text's virtual tokens, for those that are `shared`.
    """
    tokens = VisualTokens(how.tokens, feature_dim(vision.tower), text if how.vision == "shared" else None)
    vision.tower.visual_tokens = tokens.to(vision.head.weight.device)

    def insert(_module, _arguments, states: Tensor) -> Tensor:
        virtual = vision.tower.visual_tokens().to(states.dtype).expand(len(states), -1, -1)
        return torch.cat([states[:, :1], virtual, states[:, 1:]], dim=1)

    vision.tower.embeddings.register_forward_hook(insert)


def is_trainable(vision: VisionTower) -> bool:
    """Whether what a tower makes of a picture changes while training."""
    return any(parameter.requires_grad for parameter in vision.tower.parameters())


def image_inputs(
    embedder: SentenceTransformer, texts: list[str]
) -> "TowerImageInputs | vision_language.JointImageInputs | None":
    """What texts show, for batches of them in training; None for embedders that see nothing."""
    if reader := vision_language.find_patch_loader(embedder):
        return JointImageInputs(reader, texts)
    eyes = find_tower(embedder)
    return eyes and TowerImageInputs(eyes, texts, is_trainable(eyes))


class TowerImageInputs:
    """What each of some texts shows, as `Vision.forward` takes it.

    Args:
        trained: the tower changes, so that pictures are kept as pixels; else they are looked at once, now.
    """

    def __init__(self, vision: VisionTower, texts: list[str], trained: bool = False) -> None:
        self.rows = {text: row for row, text in enumerate(dict.fromkeys(texts))}
        shown = [find_image(text) for text in self.rows]
        self.wordless = torch.tensor([not strip_image(text).strip() for text in self.rows])
        self.pixels = self.looked = None
        if trained:
            distinct = {picture: row for row, picture in enumerate(dict.fromkeys(filter(None, shown)))}
            self.picture = torch.tensor([distinct.get(picture, -1) for picture in shown])
            self.pixels = vision.preprocess([picture.read() for picture in distinct])
        else:
            self.looked = torch.from_numpy(encode_images(vision, shown))

    def batch(self, texts: list[str], rows: int) -> dict[str, Tensor]:
        """For a batch of `texts`, filled up to a number of rows that nobody reads."""
        place = torch.tensor([self.rows[text] for text in texts + texts[:1] * (rows - len(texts))])
        found = {"wordless": self.wordless[place]}
        if self.looked is not None:
            return found | {"looked": self.looked[place]}
        distinct, picture = self.picture[place].unique(return_inverse=True)
        first = int(distinct[0] < 0)  # -1, where there is a text without a picture, stands first
        return found | {"pixels": self.pixels[distinct[first:]], "picture": picture - first}


def image_arrays(embedder: SentenceTransformer, texts: list[str]) -> dict[str, np.ndarray] | None:
    """`looked` and `wordless` of each text (`joint`: its picture's number); None for embedders that see nothing."""
    if reader := vision_language.find_patch_loader(embedder):
        return {vision_language.IMAGE_INDEX: reader.numbers(texts)}
    if (vision := find_tower(embedder)) is None:
        return None
    return {name: values.numpy() for name, values in TowerImageInputs(vision, texts).batch(texts, len(texts)).items()}


def encode_images(vision: VisionTower, shown: list[ImageReference | None]) -> np.ndarray:
    """What the tower makes of each picture: (pictures, width) float32, NaN for none.

    Each distinct picture is looked at once; with `vision.cache`, once for all stages that see with these weights.
    """
    distinct = list(dict.fromkeys(filter(None, shown)))
    folder = vision.cache and vision.cache / f"pictures-{_digest(vision.tower)}"
    found = {picture: np.load(file) for picture in distinct if folder and (file := _file(folder, picture)).is_file()}
    missing = [picture for picture in distinct if picture not in found]
    was_training = vision.tower.training
    vision.tower.eval()
    for start in tqdm(range(0, len(missing), BATCH), desc="look at pictures", disable=None, leave=False):
        part = missing[start : start + BATCH]
        with torch.inference_mode():
            looked = vision.encode(vision.preprocess([picture.read() for picture in part])).cpu().numpy()
        for picture, features in zip(part, looked, strict=True):
            found[picture] = features
            if folder:
                _keep(_file(folder, picture), features)
    vision.tower.train(was_training)
    none = np.full(vision.head.in_features, np.nan, dtype=np.float32)
    return np.stack([none if picture is None else found[picture] for picture in shown])


def _file(folder: Path, picture: ImageReference) -> Path:
    return folder / picture.digest[:2] / f"{picture.digest}.npy"


def _keep(file: Path, features: np.ndarray) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    temporary = file.with_name(f"{file.stem}.{os.getpid()}.tmp.npy")
    np.save(temporary, features)
    temporary.replace(file)


def _digest(tower: nn.Module) -> str:
    found = hashlib.sha256()
    weights = tower.state_dict()
    if hasattr(tower, "visual_tokens"):
        weights["visual_tokens"] = tower.visual_tokens()
    for name, value in sorted(weights.items()):
        found.update(name.encode())
        found.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return found.hexdigest()[:12]
