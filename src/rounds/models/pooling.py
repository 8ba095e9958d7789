"""Pooling: one embedding from the hidden states of a text's tokens."""

from collections.abc import Iterable

from sentence_transformers.base.modules import Dense, Module
from sentence_transformers.sentence_transformer.modules import Pooling, Transformer, WeightedLayerPooling
from torch import Tensor, cat, nn, stack

from rounds.config.recipe import LAYER_POOLINGS, Model
from rounds.errors import UserError
from rounds.models import splade

MODES = {"mean": "mean", "cls": "cls", "last_token": "lasttoken"}  # a recipe's pooling -> sentence-transformers'


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


def find_pooling(embedder: nn.Module) -> Pooling:
    """Return the module that pools an embedder's token states."""
    return next(module for module in embedder if isinstance(module, Pooling))


def embedding_dimension(modules: Iterable[nn.Module]) -> int:
    """Return the dimensions of the vector that leaves pooling and the layers behind it."""
    return [module for module in modules if isinstance(module, Pooling | Dense)][-1].get_embedding_dimension()
