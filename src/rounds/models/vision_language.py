"""ImagePatchLoader: pictures and words in one sequence, for models that read both (Qwen3-VL and its kin).

A picture becomes so many tokens before the text's words, always the same number: pictures are made square, as large as
the recipe says. The model gets a picture's patches with the batch that shows it; nothing is kept in memory.
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

IMAGE_INDEX, IMAGE_START, IMAGE_PAD, IMAGE_END = "picture", "<|vision_start|>", "<|image_pad|>", "<|vision_end|>"


class ImagePatchLoader(Module):
    """Hands the transformer what its texts show; changes no vector.

    Args:
        model: the transformer, whose `config` has `image_token_id` and `vision_config`.
        processor: its image processor.
        side: pixels of a picture's either side, a multiple of the processor's patch and merge sizes.
    """

    config_keys = ["side"]

    def __init__(self, model: nn.Module, processor, side: int) -> None:
        super().__init__()
        step = processor.patch_size * processor.merge_size
        if side % step:
            raise UserError(f"model.vision.image_size is {side}, must be a multiple of {step} for this model")
        self.processor, self.side, self.token = processor, side, model.config.image_token_id
        self.patches = (side // processor.patch_size) ** 2
        self.tokens = self.patches // processor.merge_size**2
        self.known: dict[ImageReference, int] = {}

    @property
    def literal(self) -> str:
        """What stands before a pictured text's words, for the tokenizer."""
        return f"{IMAGE_START}{IMAGE_PAD * self.tokens}{IMAGE_END}"

    def numbers(self, texts: list[str]) -> np.ndarray:
        """A number for each text's picture, by which `look` finds it; -1 for none: (texts,)."""
        shown = [find_image(text) for text in texts]
        return np.array([-1 if each is None else self.known.setdefault(each, len(self.known)) for each in shown])

    def look(self, _transformer: nn.Module, arguments: tuple[dict[str, Tensor]]) -> tuple[dict[str, Tensor]]:
        """Before the transformer's call: patches in the place of pictures' numbers."""
        features = dict(arguments[0])
        numbers = [number for number in features.pop(IMAGE_INDEX, torch.empty(0)).tolist() if number >= 0]
        if not numbers:
            return (features,)
        ids, known = features["input_ids"], list(self.known)
        size = (self.side, self.side)
        seen = self.processor(
            [known[number].read().resize(size) for number in numbers], return_tensors="pt", do_resize=False
        )
        features |= {name: seen[name].to(ids.device) for name in ("pixel_values", "image_grid_thw")}
        return ({**features, "mm_token_type_ids": (ids == self.token).int()},)

    def forward(self, features: dict[str, Tensor]) -> dict[str, Tensor]:
        """As they come."""
        return features

    def get_embedding_dimension(self) -> None:
        """Changes none."""
        return None

    def save(self, output_path: str, *args, **kwargs) -> None:
        """Nothing of its own."""
        self.save_config(output_path)


def attach(transformer: nn.Module, folder: str, side: int, revision: str | None) -> ImagePatchLoader:
    """Let sentence-transformers' transformer module take texts on pictures; returns the module that shows them.

    Args:
        folder: of the base model, or its hub name.

    Raises:
        UserError: the model reads no pictures with its words, or its tokenizer lacks their tokens.
    """
    if not hasattr(transformer.model.config, "image_token_id"):
        raise UserError(f"model.vision.join: joint: {folder} does not read pictures and words in one sequence")
    found = ImagePatchLoader(
        transformer.model, AutoImageProcessor.from_pretrained(folder, revision=revision, backend="pil"), side
    )
    ids = transformer.tokenizer(IMAGE_PAD, add_special_tokens=False)["input_ids"]
    if ids != [found.token]:
        raise UserError(f"model.vision.join: joint: the tokenizer of {folder} has no token {IMAGE_PAD}")
    transformer.tokenizer.image_placeholder = found.literal
    transformer.register_forward_pre_hook(found.look)
    return found


def find_patch_loader(embedder: SentenceTransformer) -> ImagePatchLoader | None:
    """An embedder's module that shows pictures."""
    return next((module for module in embedder if isinstance(module, ImagePatchLoader)), None)


class JointImageInputs:
    """What texts show, as the collator hands it on (`vision.Sight`)."""

    def __init__(self, joint: ImagePatchLoader, texts: list[str]) -> None:
        self.numbers = dict(zip(texts, joint.numbers(texts).tolist(), strict=True))

    def batch(self, texts: list[str], rows: int) -> dict[str, Tensor]:
        """For a batch of `texts`, filled up to a number of rows that nobody reads."""
        return {IMAGE_INDEX: torch.tensor([self.numbers[text] for text in texts + texts[:1] * (rows - len(texts))])}


@contextmanager
def load_tokenizer_only() -> Iterator[None]:
    """Load models with their tokenizer in their processor's place: pictures are prepared here, and its video part
    needs torchvision."""
    whole = transformer_module.AutoProcessor
    transformer_module.AutoProcessor = AutoTokenizer
    try:
        yield
    finally:
        transformer_module.AutoProcessor = whole
