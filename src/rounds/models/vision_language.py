"""Vision-language models that read an image and its text in one token sequence (Qwen3-VL and similar).

An image takes a fixed number of tokens before the text's own, since images are resized to a square of the recipe's
size. The tokenizer sees a placeholder for them; the model reads the image's patches with each batch, and no pixels
stay in memory between batches.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import sentence_transformers.base.modules.transformer as transformer_module
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import Module
from torch import Tensor, nn
from transformers import AutoImageProcessor, AutoTokenizer

from rounds.data.images import ImageReference, find_image
from rounds.errors import UserError
from rounds.models import loading

IMAGE_INDEX = "image_index"  # feature of a batch: (texts,) the index of each text's image, -1 for none

IMAGE_START, IMAGE_PAD, IMAGE_END = "<|vision_start|>", "<|image_pad|>", "<|vision_end|>"


class ImagePatchLoader(Module):
    """Load the image patches of a batch for the transformer; as a module, pass features on unchanged.

    Args:
        model: the transformer, whose `config` has `image_token_id` and `vision_config`.
        processor: its image processor.
        side: width and height of an image in pixels, a multiple of the processor's patch and merge sizes.

    Raises:
        UserError: no whole number of patches fits `side`.
    """

    config_keys = ["side"]

    def __init__(self, model: nn.Module, processor, side: int) -> None:
        super().__init__()
        step = processor.patch_size * processor.merge_size
        if side % step:
            raise UserError(f"model.vision.image_size is {side}, must be a multiple of {step} for this model")
        self.processor, self.side = processor, side
        self.image_token_id = model.config.image_token_id
        self.tokens_per_image = (side // step) ** 2
        self.index_by_image: dict[ImageReference, int] = {}

    @property
    def placeholder(self) -> str:
        """Text that the tokenizer turns into the tokens of one image."""
        return f"{IMAGE_START}{IMAGE_PAD * self.tokens_per_image}{IMAGE_END}"

    def image_indices(self, texts: list[str]) -> np.ndarray:
        """Return the index of each text's image, -1 for texts without one: (texts,) int64. New images are added."""
        indices = self.index_by_image
        images = [find_image(text) for text in texts]
        return np.array([-1 if image is None else indices.setdefault(image, len(indices)) for image in images])

    def load_patches(self, _transformer: nn.Module, arguments: tuple[dict[str, Tensor]]) -> tuple[dict[str, Tensor]]:
        """Replace a batch's image indices by the images' patches, before the transformer's forward pass."""
        features = dict(arguments[0])
        indices = [index for index in features.pop(IMAGE_INDEX, torch.empty(0)).tolist() if index >= 0]
        if not indices:
            return (features,)
        ids, references = features["input_ids"], list(self.index_by_image)
        images = [references[index].read().resize((self.side, self.side)) for index in indices]
        inputs = self.processor(images, return_tensors="pt", do_resize=False)
        features |= {name: inputs[name].to(ids.device) for name in ("pixel_values", "image_grid_thw")}
        return ({**features, "mm_token_type_ids": (ids == self.image_token_id).int()},)

    def forward(self, features: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return the features unchanged."""
        return features

    def get_embedding_dimension(self) -> None:
        """Return None: the dimension is the previous module's."""
        return None

    def save(self, output_path: str, *args, **kwargs) -> None:
        """Write the settings; there are no weights."""
        self.save_config(output_path)


def attach(transformer: nn.Module, folder: str, side: int, revision: str | None) -> ImagePatchLoader:
    """Let sentence-transformers' transformer module take texts with images; return the module that loads their patches.

    Args:
        folder: folder or hub name of the base model.

    Raises:
        UserError: the model does not read images in its token sequence, or its tokenizer lacks the image tokens.
    """
    if not hasattr(transformer.model.config, "image_token_id"):
        raise UserError(f"model.vision.join: joint: {folder} does not read images and text in one sequence")
    with loading.one_line_errors(f"model.vision.join: joint: {folder}"):
        processor = AutoImageProcessor.from_pretrained(folder, revision=revision, backend="pil")
    loader = ImagePatchLoader(transformer.model, processor, side)
    if transformer.tokenizer(IMAGE_PAD, add_special_tokens=False)["input_ids"] != [loader.image_token_id]:
        raise UserError(f"model.vision.join: joint: the tokenizer of {folder} has no token {IMAGE_PAD}")
    transformer.tokenizer.image_placeholder = loader.placeholder
    transformer.register_forward_pre_hook(loader.load_patches)
    return loader


def find_patch_loader(embedder: SentenceTransformer) -> ImagePatchLoader | None:
    """Return the embedder's module that loads image patches; None for other models."""
    return next((module for module in embedder if isinstance(module, ImagePatchLoader)), None)


class JointImageInputs:
    """Image inputs of texts for a vision-language model.

    Args:
        texts: all texts that batches will be made of.
    """

    def __init__(self, loader: ImagePatchLoader, texts: list[str]) -> None:
        self.index_by_text = dict(zip(texts, loader.image_indices(texts).tolist(), strict=True))

    def batch(self, texts: list[str], rows: int) -> dict[str, Tensor]:
        """Return the features of a batch of texts, padded to `rows` rows by repeating the first text."""
        padded = texts + texts[:1] * (rows - len(texts))
        return {IMAGE_INDEX: torch.tensor([self.index_by_text[text] for text in padded])}


@contextmanager
def load_tokenizer_only() -> Iterator[None]:
    """Make sentence-transformers load a model's tokenizer in place of its processor.

    Images are prepared by `ImagePatchLoader`, and the processor's video part would need torchvision.
    """
    processor_class = transformer_module.AutoProcessor
    transformer_module.AutoProcessor = AutoTokenizer
    try:
        yield
    finally:
        transformer_module.AutoProcessor = processor_class
