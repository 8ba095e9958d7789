"""Models: Mistrals of random weights, drawn on the card itself or written to a folder, and their weights in 4 bits."""

import dataclasses
import gc
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Normalize, Transformer
from torch import nn
from transformers import AutoModel, AutoTokenizer, MistralConfig, PreTrainedModel

from rounds.benchmark import texts
from rounds.config import loader
from rounds.config.recipe import FOUR_BIT_PRECISIONS, Recipe
from rounds.models import backbone, pooling
from rounds.models.precision import compute_dtype, resolve_attention
from rounds.models.weights import locate_model

SEED = 0
GAIN = (
    1.0  # of each linear layer: with Mistral's own 0.02 the last token's embedding would decide alone in small models
)


@dataclass(frozen=True)
class Shape:
    """A Mistral's size.

    Attributes:
        kv_heads: heads of keys and values.
        inner: width of the feed-forward part.
    """

    name: str
    hidden: int
    layers: int
    heads: int
    kv_heads: int
    inner: int
    vocabulary: int = 32003
    window: int | None = 4096

    def config(self) -> MistralConfig:
        """transformers' configuration; positions and window as bge-en-icl's."""
        return MistralConfig(
            vocab_size=self.vocabulary,
            hidden_size=self.hidden,
            num_hidden_layers=self.layers,
            num_attention_heads=self.heads,
            num_key_value_heads=self.kv_heads,
            intermediate_size=self.inner,
            max_position_embeddings=32768,
            sliding_window=self.window,
            pad_token_id=0,
            bos_token_id=1,
            eos_token_id=2,
        )


SEVEN_B = Shape("7B", 4096, 32, 32, 8, 14336)  # bge-en-icl's
HALF_B = Shape("0.4B", 1024, 24, 16, 4, 3584)
SHALLOW = Shape("0.4B's first 8 layers", 1024, 8, 16, 4, 3584)
TINY = Shape("tiny", 64, 2, 4, 2, 128, vocabulary=1000)


def recipe_for(folder: Path | str, precision: str) -> Recipe:
    """bge-en-icl's recipe on another model, with the same two examples before every query.

    Args:
        folder: the model's, or `random:mistral` for a model that is drawn behind that one's tokenizer.
    """
    four_bits = precision in FOUR_BIT_PRECISIONS
    found = texts.with_examples(loader.load("bge-en-icl"))
    found = texts.replace_model(
        found, name_or_path=str(folder), revision=None, precision=precision, double_quant=four_bits
    )
    tuning = dataclasses.replace(found.tuning, lora=dataclasses.replace(found.tuning.lora, dropout=0.0))
    return dataclasses.replace(found, tuning=tuning)


class _Drawn(Transformer):
    """sentence-transformers' module around a model that no folder holds."""

    def __init__(self, model: PreTrainedModel, **arguments) -> None:
        self.given = lambda: model  # a module is not to be registered before its parent's __init__
        super().__init__(locate_model(loader.load("tiny-mistral").model), **arguments)

    def _load_model(self, *arguments, **more) -> PreTrainedModel:
        return self.given()


def draw(shape: Shape, dtype: torch.dtype, device: str, attention: str) -> PreTrainedModel:
    """A model whose weights are drawn where it stands, so that no copy in fp32 is ever held."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with torch.device(device), _without_initialization():
            model = AutoModel.from_config(shape.config(), attn_implementation=attention)
    finally:
        torch.set_default_dtype(before)
    generator = torch.Generator(device).manual_seed(SEED)
    with torch.no_grad():
        for weight in model.parameters():
            if weight.dim() > 1:
                weight.normal_(0.0, GAIN * weight.shape[1] ** -0.5, generator=generator)
            else:
                weight.fill_(1.0)
    return model.eval()


@contextmanager
def _without_initialization() -> Iterator[None]:
    """transformers would draw all weights once more."""
    before = PreTrainedModel.init_weights
    PreTrainedModel.init_weights = lambda self: None
    try:
        yield
    finally:
        PreTrainedModel.init_weights = before


def embedder(shape: Shape, recipe: Recipe, precision: str, device: str) -> SentenceTransformer:
    """What `backbone.load` makes of a folder, around weights that are drawn on `device`."""
    dtype = compute_dtype(precision, device)
    attention = resolve_attention(recipe.model.attention, device)
    model = draw(shape, dtype, device, attention)
    if precision in FOUR_BIT_PRECISIONS:
        pack(model, precision, dtype)
    transformer = _Drawn(model, processor_kwargs={"padding_side": recipe.model.padding_side})
    return backbone.assemble(transformer, recipe, device)


def stock(own: SentenceTransformer, recipe: Recipe) -> SentenceTransformer:
    """The same weights as sentence-transformers itself computes with them: no hook of ours, its own pooling."""
    transformer = _Drawn(own[0].model, processor_kwargs={"padding_side": recipe.model.padding_side})
    modules = [transformer, *pooling.build_modules(transformer, recipe.model), Normalize()]
    return SentenceTransformer(modules=modules, device=str(own.device)).eval()


def pack(model: PreTrainedModel, kind: str, dtype: torch.dtype) -> None:
    """Put 4-bit layers, doubly quantized, in the place of the linear ones; each layer's 16 bits are freed at once."""
    import bitsandbytes as bnb

    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if type(child) is not nn.Linear:
                continue
            packed = bnb.nn.Linear4bit(
                child.in_features,
                child.out_features,
                bias=False,
                compute_dtype=dtype,
                compress_statistics=True,
                quant_type=kind,
                device="meta",
            )
            device = child.weight.device
            packed.weight = bnb.nn.Params4bit(
                child.weight.data,
                requires_grad=False,
                quant_type=kind,
                compress_statistics=True,
                module=packed,
            )
            setattr(parent, name, packed.to(device))
    model.is_loaded_in_4bit = True  # peft then puts its 4-bit layers around these


def write(shape: Shape, folder: Path, device: str) -> Path:
    """A folder with the model in bf16 and a tokenizer, as a hub would give it."""
    tokenizer = AutoTokenizer.from_pretrained(locate_model(loader.load("tiny-mistral").model))
    tokenizer.save_pretrained(folder)
    model = draw(shape, torch.bfloat16, device, "sdpa")
    model.save_pretrained(folder)
    del model
    free()
    return folder


def free() -> None:
    """Give the card's memory back for the next model, and count its peak from here."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


def count(model: nn.Module) -> int:
    """Weights that each token is multiplied with: all but the embeddings'."""
    embeddings = model.get_input_embeddings().weight.numel()
    return sum(weight.numel() for weight in model.parameters()) - embeddings
