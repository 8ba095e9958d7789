"""Vision tower: an image encoder beside the text encoder, and the fusion of the two embeddings.

It is a checkpoint's module behind pooling and normalization, and replaces `sentence_embedding` by the fused embedding.
`image_inputs` makes its inputs: the features of a frozen tower, computed once per image, or pixels.
"""

from contextlib import nullcontext
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import Module
from torch import Tensor, nn
from transformers import AutoImageProcessor, AutoModel

from rounds.config.recipe import VirtualTokens, Vision
from rounds.errors import UserError
from rounds.models import dual_encoder, loading
from rounds.models.vision_language import IMAGE_INDEX

HEAD = "head.safetensors"

BATCH = 64  # images encoded together

# Features of a batch of n texts, beside `vision_language.IMAGE_INDEX`:
IMAGE_FEATURES = "image_features"  # (n, feature_dim(tower)), NaN for texts without an image
IMAGE_PIXELS = "image_pixels"  # (images, 3, height, width), which IMAGE_INDEX (n,) refers to
IMAGE_ONLY = "is_image_only"  # (n,) bool, texts that hold nothing but an image


class VisionTower(Module):
    """An image encoder, its projection into the text's embedding space, and the fusion with the text embedding.

    Args:
        tower: any vision model of transformers with a `pooler_output`.
        processor: its image processor.
        dim: dimension of the text embeddings.
        vision: the recipe's `model.vision`: how text and image embeddings are joined.
        normalize: whether the parts and the fused embedding have unit length.
    """

    config_keys = ["dim", "normalize"]

    def __init__(self, tower: nn.Module, processor, dim: int, vision: Vision, normalize: bool) -> None:
        super().__init__()
        self.tower, self.processor = tower, processor
        self.feature_cache: Path | None = None  # folder that caches image features; None disables the cache
        self.dim, self.vision, self.normalize = dim, vision, normalize
        # Checkpoints store the weights under these attributes' names.
        self.head = nn.Linear(feature_dim(tower), dim, bias=False)
        nn.init.orthogonal_(self.head.weight)
        self.joined = nn.Linear(2 * dim, dim, bias=False) if vision.join == "projection" else None
        if self.joined is not None:  # starts as the weighted sum
            eye = torch.eye(dim)
            with torch.no_grad():
                self.joined.weight.copy_(torch.cat([(1 - vision.weight) * eye, vision.weight * eye], dim=1))

    def get_embedding_dimension(self) -> int:
        """Return the dimension of the fused embeddings."""
        return 2 * self.dim if self.vision.join == "concat" else self.dim

    def preprocess_images(self, images: list) -> Tensor:
        """Pillow images -> (images, 3, height, width) float32, the tower's input."""
        return self.processor(images=images, return_tensors="pt")["pixel_values"]

    def encode_pixels(self, pixels: Tensor) -> Tensor:
        """(images, 3, height, width) -> image features (images, `feature_dim(tower)`) float32."""
        device = self.head.weight.device
        half = next((weights.dtype for weights in self.tower.parameters() if weights.dtype.itemsize == 2), None)
        # Unfrozen weights are fp32 beside frozen ones in half precision, so the products are autocast.
        with torch.autocast(device.type, dtype=half) if half else nullcontext():
            return self.tower(pixel_values=pixels.to(device)).pooler_output.flatten(1).float()

    def project(self, image_features: Tensor) -> Tensor:
        """Image features (n, `feature_dim(tower)`) -> image embeddings (n, dim) in the text's space."""
        return self._unit(self.head(image_features.to(self.head.weight.dtype)).float())

    def forward(self, features: dict[str, Tensor]) -> dict[str, Tensor]:
        """Fuse `sentence_embedding` (n, dim) with the image embeddings.

        The images come as `IMAGE_FEATURES`, or as `IMAGE_PIXELS` with `IMAGE_INDEX`; texts without an image get a zero
        image embedding, and `IMAGE_ONLY` texts a zero text embedding.
        """
        text = self._unit(features["sentence_embedding"].float())
        image_features = self._image_features(features, text)
        has_image = image_features.isfinite().all(dim=1, keepdim=True)
        filled = image_features.where(has_image, torch.zeros((), device=image_features.device))
        image = self.project(filled) * has_image
        if IMAGE_ONLY in features:
            text = text * ~features[IMAGE_ONLY][:, None].to(text.device)
        return {**features, "sentence_embedding": self.fuse(text, image)}

    def _image_features(self, features: dict[str, Tensor], text: Tensor) -> Tensor:
        """Return (n, `feature_dim(tower)`) image features, NaN for texts without an image."""
        if IMAGE_PIXELS in features:
            by_image, index = self.encode_pixels(features[IMAGE_PIXELS]), features[IMAGE_INDEX]
            by_text = by_image[index.clamp(min=0)]
            return by_text.where((index >= 0)[:, None], torch.full((), torch.nan, device=by_text.device))
        if IMAGE_FEATURES in features:
            return features[IMAGE_FEATURES].to(text.device)
        return torch.full((len(text), self.head.in_features), torch.nan, device=text.device)

    def fuse(self, text: Tensor, image: Tensor) -> Tensor:
        """Text and image embeddings (n, dim) -> (n, `get_embedding_dimension()`); a zero part contributes nothing."""
        weight = self.vision.weight
        if self.vision.join == "concat":
            return self._unit(torch.cat([(1 - weight) ** 0.5 * text, weight**0.5 * image], dim=1))
        if self.joined is not None:
            both = torch.cat([text, image], dim=1)
            return self._unit(self.joined(both.to(self.joined.weight.dtype)).float())
        return self._unit((1 - weight) * text + weight * image)

    def _unit(self, vectors: Tensor) -> Tensor:
        return nn.functional.normalize(vectors, dim=-1) if self.normalize else vectors

    def save(self, output_path: str, *args, **kwargs) -> None:
        """Write the settings; `weights_io.save_weights` writes the weights."""
        self.save_config(output_path)


def feature_dim(tower: nn.Module) -> int:
    """Return the dimension of the features that a tower computes of an image."""
    config = tower.config
    return getattr(config, "hidden_size", None) or config.hidden_sizes[-1]


def load(folder: str, dim: int, vision: Vision, normalize: bool, revision: str | None = None) -> VisionTower:
    """Load a pretrained tower with its image processor, and its head if the folder has one (`vision_pretraining`).

    Args:
        folder: a folder or hub name.
        dim: dimension of the text embeddings.
        vision: the recipe's `model.vision`.

    Raises:
        UserError: the tower cannot be loaded, or its head projects to another dimension.
    """
    with loading.one_line_errors(f"model.vision {folder}"):
        tower = AutoModel.from_pretrained(folder, revision=revision)
        processor = AutoImageProcessor.from_pretrained(folder, revision=revision, backend="pil")
    module = VisionTower(getattr(tower, "vision_model", tower), processor, dim, vision, normalize)
    if (file := Path(folder) / HEAD).is_file():
        weights = load_file(file)["weight"]
        if weights.shape != module.head.weight.shape:
            raise UserError(
                f"{file}: projects to {weights.shape[0]} dimensions, but the text embeddings have {dim}; pretrain the "
                "tower with this text model"
            )
        with torch.no_grad():
            module.head.weight.copy_(weights)
    return module.eval()


def save(module: VisionTower, folder: Path) -> None:
    """Write tower, image processor and head as `load` reads them."""
    module.tower.save_pretrained(folder)
    module.processor.save_pretrained(folder)
    save_file({"weight": module.head.weight.detach().contiguous()}, folder / HEAD)


def find_tower(embedder: SentenceTransformer) -> VisionTower | None:
    """Return an embedder's vision tower; None for other models."""
    return next((module for module in embedder if isinstance(module, VisionTower)), None)


def set_feature_cache(embedder: SentenceTransformer, folder: Path) -> None:
    """Cache image features in a subfolder for each tower; embedders without one are left alone."""
    for kind in dual_encoder.KINDS:
        if tower := find_tower(dual_encoder.encoder_for(embedder, kind)):
            tower.feature_cache = folder


class VisualTokens(nn.Module):
    """Virtual tokens before an image's patches: trained on their own, or projected from the text's virtual tokens.

    Args:
        width: dimension of the tower's hidden states.
        text: peft's model with the text's virtual tokens; None for tokens of their own.
    """

    def __init__(self, number: int, width: int, text: nn.Module | None) -> None:
        super().__init__()
        self.__dict__["text"] = text  # not a submodule: its weights are the text's
        # Checkpoints store the weights under these attributes' names.
        if text is None:
            self.own = nn.Parameter(torch.randn(number, width) * 0.02)
        else:
            self.coupling = nn.Linear(text.get_prompt(1).shape[-1], width, bias=False)

    def forward(self) -> Tensor:
        """Return the tokens' embeddings (tokens, width)."""
        return self.own if self.text is None else self.coupling(self.text.get_prompt(1)[0].float())


def add_visual_tokens(module: VisionTower, virtual: VirtualTokens, text: nn.Module) -> None:
    """Put virtual tokens between a tower's class token and its patches, in place.

    Args:
        text: peft's model with the text's virtual tokens, for `virtual.vision: shared`.
    """
    tokens = VisualTokens(virtual.tokens, feature_dim(module.tower), text if virtual.vision == "shared" else None)
    module.tower.visual_tokens = tokens.to(module.head.weight.device)

    def insert_tokens(_module, _arguments, states: Tensor) -> Tensor:
        visual_tokens = module.tower.visual_tokens().to(states.dtype).expand(len(states), -1, -1)
        return torch.cat([states[:, :1], visual_tokens, states[:, 1:]], dim=1)

    module.tower.embeddings.register_forward_hook(insert_tokens)


def is_trainable(module: VisionTower) -> bool:
    """Return whether training changes the features that the tower computes."""
    return any(parameter.requires_grad for parameter in module.tower.parameters())
