"""Random decoders: Mistral models with random weights, created on the device or saved to a folder, also in 4 bits."""

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

from rounds.benchmark.gpu import sample_texts
from rounds.config import loader
from rounds.config.recipe import FOUR_BIT_PRECISIONS, Recipe
from rounds.models import backbone, pooling
from rounds.models.precision import compute_dtype, loading_attention
from rounds.models.weights import locate_model

SEED = 0
# Standard deviation of a linear layer's weights, times the square root of its input width. With Mistral's own 0.02,
# the embedding of the last token alone would decide the vectors of small models.
GAIN = 1.0


@dataclass(frozen=True)
class DecoderShape:
    """Describe the size of a Mistral model.

    Attributes:
        name: Name in the results.
        hidden: Width of the hidden states.
        heads: Attention heads of the queries.
        kv_heads: Attention heads of the keys and values.
        feed_forward: Inner width of the feed-forward blocks.
        window: Tokens of the sliding attention window; None for full attention.
    """

    name: str
    hidden: int
    layers: int
    heads: int
    kv_heads: int
    feed_forward: int
    vocabulary: int = 32003
    window: int | None = 4096

    def config(self) -> MistralConfig:
        """Return the transformers configuration, with the positions and special tokens of bge-en-icl."""
        return MistralConfig(
            vocab_size=self.vocabulary,
            hidden_size=self.hidden,
            num_hidden_layers=self.layers,
            num_attention_heads=self.heads,
            num_key_value_heads=self.kv_heads,
            intermediate_size=self.feed_forward,
            max_position_embeddings=32768,
            sliding_window=self.window,
            pad_token_id=0,
            bos_token_id=1,
            eos_token_id=2,
        )


SEVEN_B = DecoderShape("7B", 4096, 32, 32, 8, 14336)  # the shape of bge-en-icl
HALF_B = DecoderShape("0.4B", 1024, 24, 16, 4, 3584)
SHALLOW = DecoderShape("0.4B's first 8 layers", 1024, 8, 16, 4, 3584)
TINY = DecoderShape("tiny", 64, 2, 4, 2, 128, vocabulary=1000)


def recipe_for(model: Path | str, precision: str) -> Recipe:
    """Return bge-en-icl's recipe for another model, with the same two examples before every query.

    Args:
        model: Folder of the model, or `random:mistral` for one that `build_embedder` creates.
    """
    recipe = sample_texts.with_examples(loader.load("bge-en-icl"))
    recipe = sample_texts.replace_model(
        recipe,
        name_or_path=str(model),
        revision=None,
        precision=precision,
        double_quant=precision in FOUR_BIT_PRECISIONS,
    )
    lora = dataclasses.replace(recipe.tuning.lora, dropout=0.0)
    return dataclasses.replace(recipe, tuning=dataclasses.replace(recipe.tuning, lora=lora))


class InMemoryTransformer(Transformer):
    """Wrap a model that is already in memory as sentence-transformers' module.

    The tokenizer is tiny-mistral's.
    """

    def __init__(self, model: PreTrainedModel, **arguments) -> None:
        # A function hides the model from nn.Module, which refuses submodules before its own __init__ has run.
        self._get_model = lambda: model
        super().__init__(locate_model(loader.load("tiny-mistral").model), **arguments)

    def _load_model(self, *arguments, **options) -> PreTrainedModel:
        return self._get_model()


def create_model(shape: DecoderShape, dtype: torch.dtype, device: str, attention: str) -> PreTrainedModel:
    """Create a model with random weights directly on `device` in `dtype`, so that no copy in fp32 takes memory."""
    default_dtype = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with torch.device(device), _skip_initialization():
            model = AutoModel.from_config(shape.config(), **loading_attention(attention))
    finally:
        torch.set_default_dtype(default_dtype)
    generator = torch.Generator(device).manual_seed(SEED)
    with torch.no_grad():
        for weight in model.parameters():
            if weight.dim() > 1:
                weight.normal_(0.0, GAIN * weight.shape[1] ** -0.5, generator=generator)
            else:
                weight.fill_(1.0)
    return model.eval()


@contextmanager
def _skip_initialization() -> Iterator[None]:
    """Keep transformers from initializing the weights, which `create_model` overwrites."""
    init_weights = PreTrainedModel.init_weights
    PreTrainedModel.init_weights = lambda self: None
    try:
        yield
    finally:
        PreTrainedModel.init_weights = init_weights


def build_embedder(shape: DecoderShape, recipe: Recipe, precision: str, device: str) -> SentenceTransformer:
    """Build the embedder that `models.backbone.load` would build from a folder, with random weights on `device`."""
    dtype = compute_dtype(precision, device)
    model = create_model(shape, dtype, device, recipe.model.attention)
    if precision in FOUR_BIT_PRECISIONS:
        quantize(model, precision, dtype)
    transformer = InMemoryTransformer(model, processor_kwargs={"padding_side": recipe.model.padding_side})
    return backbone.assemble(transformer, recipe, device)


def build_stock_embedder(embedder: SentenceTransformer, recipe: Recipe) -> SentenceTransformer:
    """Build an embedder around the same weights with sentence-transformers' code only: its pooling, no hooks."""
    transformer = InMemoryTransformer(embedder[0].model, processor_kwargs={"padding_side": recipe.model.padding_side})
    modules = [transformer, *pooling.build_modules(transformer, recipe.model), Normalize()]
    return SentenceTransformer(modules=modules, device=str(embedder.device)).eval()


def quantize(model: PreTrainedModel, quant_type: str, dtype: torch.dtype) -> None:
    """Replace the linear layers by 4-bit ones with double quantization, in place.

    The 16-bit weights are freed block by block, so that the memory never holds the whole model in both versions.

    Args:
        quant_type: `nf4` or `fp4`.
        dtype: Data type of the computation.
    """
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if type(child) is nn.Linear:
                setattr(parent, name, _quantize_layer(child, quant_type, dtype))
    model.is_loaded_in_4bit = True  # makes peft wrap the layers in its 4-bit adapters


def _quantize_layer(layer: nn.Linear, quant_type: str, dtype: torch.dtype) -> nn.Module:
    import bitsandbytes as bnb

    quantized = bnb.nn.Linear4bit(
        layer.in_features,
        layer.out_features,
        bias=False,
        compute_dtype=dtype,
        compress_statistics=True,
        quant_type=quant_type,
        device="meta",
    )
    device = layer.weight.device
    quantized.weight = bnb.nn.Params4bit(
        layer.weight.data,
        requires_grad=False,
        quant_type=quant_type,
        compress_statistics=True,
        module=quantized,
    )
    return quantized.to(device)


def save_model(shape: DecoderShape, folder: Path, device: str) -> Path:
    """Save a random model in bf16 and a tokenizer to a folder, as on the Hugging Face Hub, and return the folder."""
    tokenizer = AutoTokenizer.from_pretrained(locate_model(loader.load("tiny-mistral").model))
    tokenizer.save_pretrained(folder)
    model = create_model(shape, torch.bfloat16, device, "sdpa")
    model.save_pretrained(folder)
    del model
    free_memory()
    return folder


def free_memory() -> None:
    """Free unused GPU memory and reset the peak memory statistics."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


def count_weights(model: nn.Module) -> int:
    """Return the number of weights that every token is multiplied with: all except the token embeddings."""
    embeddings = model.get_input_embeddings().weight.numel()
    return sum(weight.numel() for weight in model.parameters()) - embeddings
