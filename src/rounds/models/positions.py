"""Positions: from which number a model counts them, and how long a text it has positions for."""

from torch import Tensor, nn

from rounds.config.recipe import Recipe
from rounds.data.prompts import max_length
from rounds.errors import UserError
from rounds.models.loading import report_once

# Names of the modules and buffers that hold one row per absolute position; tables of relative positions have others.
TABLE_NAMES = (
    "position_embeddings",
    "position_embedding",
    "char_position_embeddings",
    "embed_positions",
    "positions_embed",
    "pos_encoding",
    "wpe",
)


def first_position(transformer: nn.Module) -> int:
    """Return the first position id; RoBERTa and its descendants count from behind the padding token's."""
    for module in transformer.modules():
        if isinstance(getattr(module, "position_embeddings", None), nn.Embedding):
            padding = getattr(module, "padding_idx", None)
            return padding + 1 if isinstance(padding, int) else 0
    return 0


def max_tokens(transformer: nn.Module) -> int | None:
    """Return the tokens of the longest text that a model has positions for; None where nothing bounds it.

    Rotary, relative and ALiBi positions have no bound, whatever `max_position_embeddings` says; neither have tables
    that grow. RoBERTa's table of 514 rows is for 512 tokens: two rows stand before the first position.
    """
    config = transformer.config
    bounds = [config.max_seq_len] if config.model_type == "mpt" else []  # its ALiBi table has a fixed length
    for name, module in transformer.named_modules():
        if "vision" in name or "visual" in name or config.model_type == "tapas":  # Tapas counts anew in each cell
            continue
        if name.rpartition(".")[2] in TABLE_NAMES and not hasattr(module, "make_weight"):
            bounds += _table_bounds(module, config)
        for buffer in TABLE_NAMES:
            if isinstance(table := getattr(module, "__dict__", {}).get(buffer, module._buffers.get(buffer)), Tensor):
                bounds.append(table.shape[0])
    return min(bounds, default=None)


def _table_bounds(module: nn.Module, config) -> list[int]:
    """Return how many tokens a table of positions is for; nothing where the module grows with the text."""
    weight = getattr(module, "weight", None)
    if not isinstance(weight, Tensor) or hasattr(module, "make_weights"):
        return []
    padding, offset = getattr(module, "padding_idx", None), getattr(module, "offset", None)
    rows_before = offset if isinstance(offset, int) else padding + 1 if isinstance(padding, int) else 0
    rows = weight.shape[0] - rows_before
    return [min(rows, getattr(config, "max_position_embeddings", None) or rows)]


def check_limits(transformer: nn.Module, recipe: Recipe) -> None:
    """Refuse length limits beyond the model's positions: a text that long would end in an IndexError.

    Raises:
        UserError: a limit, with few-shot examples and virtual tokens, is more than the model has positions for.
    """
    prompts, tuning = recipe.prompts, recipe.tuning
    virtual = tuning.virtual.tokens if tuning.has_virtual_tokens else 0
    examples = prompts.examples_max_length if prompts.examples != "none" else 0
    for kind, more in (("query", examples), ("passage", 0)):
        parts = [f"{more} of examples"] * bool(more) + [f"{virtual} virtual tokens"] * bool(virtual)
        beside = f" (beside {' and '.join(parts)})" if parts else ""
        limit = max_length(prompts, kind)
        setting = f"prompts.{kind}_max_length {limit}{beside}"
        check_limit(transformer, setting, limit, more + virtual, recipe.model.name_or_path)


def check_limit(transformer: nn.Module, setting: str, limit: int, more: int, name: str) -> None:
    """Refuse a length limit beyond the model's positions; print a line on one beyond what it was trained for.

    Rotary and relative positions go on for ever, but attention is not what it was in training beyond
    `max_position_embeddings`.

    Args:
        setting: the recipe's key and value that limit the tokens.
        limit: tokens of a text.
        more: tokens before it.
        name: the model's name.

    Raises:
        UserError: the model has fewer positions.
    """
    bound = max_tokens(transformer)
    if bound is not None and limit + more > bound:
        raise UserError(f"{setting}: {name} has positions for {bound} tokens; set it to at most {bound - more}")
    trained = getattr(transformer.config.get_text_config(), "max_position_embeddings", None)
    if bound is None and isinstance(trained, int) and 0 < trained < limit + more:
        report_once(
            f"{setting}: {name} was trained for {trained} tokens (max_position_embeddings); longer texts may get "
            f"worse vectors or scores; at most {trained - more} would not"
        )
