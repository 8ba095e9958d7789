"""Pooling: one embedding from the hidden states of a text's tokens."""

import json
from pathlib import Path

from sentence_transformers.base.modules import Module
from sentence_transformers.sentence_transformer.modules import Pooling, Transformer, WeightedLayerPooling
from torch import Tensor, cat, nn, stack

from rounds.config.recipe import LAYER_POOLINGS, Model
from rounds.errors import UserError
from rounds.models import splade

MODES = {"mean": "mean", "cls": "cls", "last_token": "lasttoken"}  # a recipe's pooling -> sentence-transformers'


MODULES_FILE = "modules.json"

TRAINED_LAYERS = ("CNN", "Dense", "LSTM")  # sentence-transformers' modules that change vectors by weights of their own


class LastLayers(Module):
    """Combine the last layers' hidden states into one state per token: concatenated or summed.

    Args:
        number: number of layers.
        how: `concat_last_n` or `sum_last_n`.
    """

    config_keys: list[str] = ["number", "how"]  # also the keys of its saved config, so they keep their names

    def __init__(self, number: int, how: str) -> None:
        super().__init__()
        self.number, self.how = number, how

    def forward(self, features: dict[str, Tensor]) -> dict[str, Tensor]:
        """Set `token_embeddings`, (texts, tokens, dim or number x dim), from `all_layer_embeddings`.

        The latter is a list of (texts, tokens, dim), one for each layer.
        """
        last = [states.float() for states in features["all_layer_embeddings"][-self.number :]]
        features["token_embeddings"] = cat(last, dim=-1) if self.how == "concat_last_n" else stack(last).sum(0)
        return features

    def save(self, output_path: str, *args, **kwargs) -> None:
        """Write the settings; there are no weights."""
        self.save_config(output_path)


def build_modules(transformer: Transformer, model: Model) -> list[nn.Module]:
    """Return the modules that pool the transformer's hidden states, without normalization.

    Raises:
        UserError: the model has fewer layers than the recipe's `pooling_layers`.
    """
    if model.is_sparse:
        return [splade.MaxPooling(transformer.model)]
    dim = transformer.get_embedding_dimension()
    if model.pooling not in LAYER_POOLINGS:
        return [Pooling(dim, MODES[model.pooling])]
    config, number = transformer.model.config, model.pooling_layers
    if number > config.num_hidden_layers:
        raise UserError(f"model.pooling_layers {number}: the model has {config.num_hidden_layers} layers")
    config.output_hidden_states = True
    if model.pooling == "weighted_layers":
        layers = WeightedLayerPooling(dim, config.num_hidden_layers, config.num_hidden_layers + 1 - number)
    else:
        layers = LastLayers(number, model.pooling)
    pooled_dim = dim * number if model.pooling == "concat_last_n" else dim
    return [layers, Pooling(pooled_dim, MODES[model.pooling_tokens])]


def check_published_modules(folder: Path, name: str) -> None:
    """Refuse a base model with trained layers behind its pooling: without them, its vectors are not its own.

    Args:
        folder: the base model's; sentence-transformers lists its modules in `modules.json`.
        name: the model, for the message.

    Raises:
        UserError: a module is one of `TRAINED_LAYERS`, or the file cannot be read.
    """
    file = folder / MODULES_FILE
    if not file.is_file():
        return
    try:
        modules = json.loads(file.read_text(encoding="utf-8"))
        layers = [module["path"] for module in modules if module["type"].rpartition(".")[2] in TRAINED_LAYERS]
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        raise UserError(f"{file}: is not sentence-transformers' list of modules; restore the model's files") from None
    if layers:
        raise UserError(
            f"model {name}: {MODULES_FILE} lists {', '.join(layers)}, and a recipe loads no trained layers behind the "
            "pooling; take a model without"
        )


def find_pooling(embedder: nn.Module) -> Pooling:
    """Return the module that pools an embedder's token states."""
    return next(module for module in embedder if isinstance(module, Pooling))
