"""Pooling: the layers' hidden states -> one vector of a text."""

from sentence_transformers.base.modules import Module
from sentence_transformers.sentence_transformer.modules import Pooling, Transformer, WeightedLayerPooling
from torch import Tensor, cat, nn, stack

from rounds.config.recipe import LAYER_POOLINGS, Model
from rounds.errors import UserError

MODES = {"mean": "mean", "cls": "cls", "last_token": "lasttoken"}


class LastLayers(Module):
    """Token embeddings made of several layers': one behind the other, or their sum."""

    config_keys: list[str] = ["number", "how"]

    def __init__(self, number: int, how: str) -> None:
        super().__init__()
        self.number, self.how = number, how

    def forward(self, features: dict[str, Tensor]) -> dict[str, Tensor]:
        """`all_layer_embeddings`, each (texts, tokens, dim), -> `token_embeddings`, number x dim wide or dim."""
        last = features["all_layer_embeddings"][-self.number :]
        last = [states.float() for states in last]
        features["token_embeddings"] = cat(last, dim=-1) if self.how == "concat_last_n" else stack(last).sum(0)
        return features

    def save(self, output_path: str, *args, **kwargs) -> None:
        """Its two settings."""
        self.save_config(output_path)


def build_modules(transformer: Transformer, model: Model) -> list[nn.Module]:
    """What stands behind the transformer, but for the normalization.

    Raises:
        UserError: the model has fewer layers than the recipe asks for.
    """
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
    whole = dim * number if model.pooling == "concat_last_n" else dim
    return [layers, Pooling(whole, MODES[model.pooling_tokens])]


def find_pooling(embedder: nn.Module) -> Pooling:
    """The module that makes one vector of a text's tokens."""
    return next(module for module in embedder if isinstance(module, Pooling))
