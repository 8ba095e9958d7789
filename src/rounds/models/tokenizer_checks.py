"""Tokenizer checks: what a tokenizer adds to a text and makes of the recipe's prompts, and how it pads.

A wrong frame or prompt gives worse vectors without an error, so it is refused, or said in one line, when a model is
loaded.
"""

import re

from torch import nn

from rounds.config.recipe import Model, Prompts, Recipe
from rounds.data.prompts import prefix_and_suffix
from rounds.errors import UserError
from rounds.models.loading import report_once

KINDS = ("query", "passage")

TEXT = "a text"  # whose tokens stand between those that a tokenizer adds

# How models spell special tokens. Words in angle brackets that are none, such as bge-en-icl's <query>, are left out.
SPELLINGS = re.compile(
    r"<\|[^|<>\s]+\|>|</?s>|<(?:bos|eos|pad|unk|mask|cls|sep|start_of_turn|end_of_turn)>|\[(?:CLS|SEP|PAD|MASK|UNK)\]"
)


def prepare(tokenizer, transformer: nn.Module, recipe: Recipe) -> None:
    """Set padding and special tokens as a recipe says, in place, and check them.

    Raises:
        UserError: the tokenizer adds other special tokens than the recipe says, or twice those of its prompts, or the
            model has no embeddings of its tokens.
    """
    name = f"model {recipe.model.name_or_path}"
    tokenizer.padding_side = recipe.model.padding_side
    tokenizer.split_special_tokens = False  # those of the recipe's prompts are meant
    choose_padding(tokenizer, name)
    _set_special_tokens(tokenizer, recipe.model)
    check_frame(tokenizer, recipe.prompts, name)
    check_embeddings(tokenizer, transformer, name)
    for kind in KINDS:
        for part, text in zip(("prefix", "suffix"), prefix_and_suffix(recipe.prompts, kind), strict=True):
            check_spelling(tokenizer, text, f"prompts.{kind}_{part}", name)
    check_spelling(tokenizer, recipe.prompts.query, "prompts.query", name)
    check_spelling(tokenizer, recipe.prompts.passage, "prompts.passage", name)


def prepare_reranker(tokenizer, transformer: nn.Module, template: str, name: str, reads_messages: bool) -> None:
    """Set and check the tokenizer of a cross-encoder, in place.

    Args:
        template: the recipe's `reranking.template`; empty where it has none, or there is no recipe.
        name: what messages call the model.
        reads_messages: whether it reads query and passage in a chat template, rather than as a pair.

    Raises:
        UserError: there is no token to pad with, or the model has no embeddings of the tokenizer's tokens.
    """
    # A head for classes reads the last token that is no padding: EOS there would be taken for padding.
    reads_last_token = transformer.config.pad_token_id is None and _has_score(transformer)
    candidates = ("unk_token", "bos_token") if reads_last_token else ("eos_token",)
    choose_padding(tokenizer, name, (*candidates, "eos_token"))
    if tokenizer.pad_token is None:
        raise UserError(f"{name}: its tokenizer has neither a padding nor an EOS token; add one to it")
    if reads_last_token:
        transformer.config.pad_token_id = tokenizer.pad_token_id
    check_embeddings(tokenizer, transformer, name)
    if tokenizer.truncation_side != "right":
        report_once(f"{name}: its tokenizer cuts long pairs at their beginning (truncation_side)")
    # All special tokens of a pair are those that the tokenizer adds; a template brings its own.
    tokenizer.split_special_tokens = not reads_messages
    if not template:
        return
    check_spelling(tokenizer, template, "reranking.template", name)
    opening, _ = frame(tokenizer)
    if opening and tokenizer(template, add_special_tokens=False)["input_ids"][: len(opening)] != opening:
        begins = _spell(tokenizer, opening)
        report_once(f"reranking.template: does not begin with {begins}, as other texts of {name} do; put it first")


def _has_score(transformer: nn.Module) -> bool:
    """Return whether a model is a decoder with a head for classes."""
    return type(transformer).__name__.endswith("ForSequenceClassification") and hasattr(transformer, "score")


def choose_padding(tokenizer, name: str, candidates: tuple[str, ...] = ("eos_token",)) -> None:
    """Choose a padding token where a tokenizer has none, in place, and print which one: it is masked.

    Args:
        name: what the line calls the model.
        candidates: special tokens by their attributes, best first.
    """
    if tokenizer.pad_token is not None:
        return
    stand_in = next((token for kind in candidates if (token := getattr(tokenizer, kind, None)) is not None), None)
    if stand_in is not None:
        tokenizer.pad_token = stand_in
    report_once(f"{name}: its tokenizer has no padding token; batches are padded with {stand_in or 'token 0'}, masked")


def _set_special_tokens(tokenizer, model: Model) -> None:
    """Have a tokenizer add BOS and EOS as the recipe says, and refuse it if it does not."""
    expected = {name: value for name in ("bos", "eos") if (value := getattr(model, name)) is not None}
    # transformers 5 ignores BOS and EOS in tokenizer_config.json, and setting only one of them drops the other.
    if len(expected) == 2 and _added_special_tokens(tokenizer) != expected:
        tokenizer.add_bos_token, tokenizer.add_eos_token = model.bos, model.eos
    added = _added_special_tokens(tokenizer)
    for name, value in expected.items():
        if added[name] != value:
            raise UserError(
                f"model {model.name_or_path}: the recipe says {name}: {str(value).lower()}, "
                f"but its tokenizer {'adds' if added[name] else 'does not add'} one"
            )


def _added_special_tokens(tokenizer) -> dict[str, bool]:
    """Return whether a tokenizer adds BOS and EOS to a text."""
    ids = tokenizer(TEXT)["input_ids"]
    return {"bos": ids[0] == tokenizer.bos_token_id, "eos": ids[-1] == tokenizer.eos_token_id}


def frame(tokenizer) -> tuple[list[int], list[int]]:
    """Return the tokens that a tokenizer adds before and behind a text."""
    whole = tokenizer(TEXT)["input_ids"]
    text = tokenizer(TEXT, add_special_tokens=False)["input_ids"]
    starts = range(len(whole) - len(text) + 1)
    start = next((place for place in starts if whole[place : place + len(text)] == text), None)
    return ([], []) if start is None else (whole[:start], whole[start + len(text) :])


def check_frame(tokenizer, prompts: Prompts, name: str) -> None:
    """Refuse special tokens that stand twice: a tokenizer adds them, and a prompt brings them as well.

    Raises:
        UserError: names the prompt, or the tokenizer that adds them twice by itself.
    """
    opening, closing = frame(tokenizer)
    for part in (opening, closing):
        if len(set(part)) < len(part):
            raise UserError(f"{name}: its tokenizer adds {_spell(tokenizer, part)}, one token twice; repair its files")
    for kind in KINDS:
        prefix, suffix = prefix_and_suffix(prompts, kind)
        ids = tokenizer(f"{prefix}{TEXT}{suffix}")["input_ids"]
        if opening and ids[len(opening) : 2 * len(opening)] == opening:
            raise UserError(
                f"prompts.{kind}_prefix begins with {_spell(tokenizer, opening)}, which the tokenizer of {name} adds "
                "itself; take it out"
            )
        if closing and ids[-2 * len(closing) : -len(closing)] == closing:
            raise UserError(
                f"prompts.{kind}_suffix ends in {_spell(tokenizer, closing)}, which the tokenizer of {name} adds "
                "itself; take it out"
            )


def _spell(tokenizer, ids: list[int]) -> str:
    return " ".join(tokenizer.convert_ids_to_tokens(ids))


def check_embeddings(tokenizer, transformer: nn.Module, name: str) -> None:
    """Refuse a tokenizer whose texts have tokens that the model has no embeddings of.

    Special tokens that no text and no frame can hold may lie beyond: Gemma 3's placeholder of images does.

    Raises:
        UserError: names such a token.
    """
    rows = getattr(transformer.get_input_embeddings(), "num_embeddings", len(tokenizer))
    if len(tokenizer) <= rows:
        return
    special = {token.content for token in tokenizer.added_tokens_decoder.values() if token.special}
    used = {tokenizer.pad_token_id, *(token for part in frame(tokenizer) for token in part)}
    beyond = sorted((number, token) for token, number in tokenizer.get_vocab().items() if number >= rows)
    wrong = [token for number, token in beyond if token not in special or number in used]
    if wrong:
        raise UserError(
            f"{name}: its tokenizer has {len(tokenizer)} tokens and the weights have embeddings of {rows}, none of "
            f"{wrong[0]!r}; take tokenizer and weights from one place"
        )


def check_spelling(tokenizer, text: str, setting: str, name: str) -> None:
    """Print a line on what a prompt spells like a special token, and the tokenizer reads as plain text.

    Args:
        text: the prompt.
        setting: its key in the recipe.
    """
    for spelled in dict.fromkeys(SPELLINGS.findall(text)):
        ids, number = (
            tokenizer(spelled, add_special_tokens=False)["input_ids"],
            tokenizer.convert_tokens_to_ids(spelled),
        )
        is_token = number is not None and (number != tokenizer.unk_token_id or spelled == tokenizer.unk_token)
        if not is_token or number not in ids:
            report_once(f"{setting}: {spelled} is no special token of {name}; it is read as {len(ids)} plain tokens")
