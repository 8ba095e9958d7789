"""Tokenize texts with prompts and few-shot examples, within the recipe's length limits."""

import functools
from collections.abc import Sequence
from dataclasses import dataclass, field

from tokenizers import Encoding
from tqdm import tqdm

from rounds.config.recipe import Prompts
from rounds.data.images import strip_image
from rounds.data.passage_pool import convert_texts
from rounds.data.prompts import max_length, prefix_and_suffix
from rounds.encoding import literal_texts, python_tokenizers
from rounds.errors import UserError

EXAMPLE_END = "\n\n"  # as FlagEmbedding joins examples


@dataclass(frozen=True)
class Cuts:
    """What a model reads of texts that do not fit into the recipe's limits; all other texts are read as a whole.

    Attributes:
        characters: row -> characters that are read of the text, its prompt and its image's marker not counted.
        examples: row -> places of the few-shot examples that are read.
    """

    characters: dict[int, int] = field(default_factory=dict)
    examples: dict[int, list[int]] = field(default_factory=dict)

    def update(self, other: "Cuts") -> None:
        """Add the cuts of other rows."""
        self.characters.update(other.characters)
        self.examples.update(other.examples)

    def shifted(self, start: int) -> "Cuts":
        """Return the cuts of a list in which these rows follow `start` others."""
        return Cuts(*({start + row: value for row, value in part.items()} for part in (self.characters, self.examples)))

    def of_rows(self, rows: Sequence[int]) -> "Cuts":
        """Return the cuts of a list whose texts are at these rows of this one.

        >>> Cuts({1: 20}).of_rows([1, 0, 1])
        Cuts(characters={0: 20, 2: 20}, examples={})
        """
        return Cuts(
            {place: self.characters[row] for place, row in enumerate(rows) if row in self.characters},
            {place: self.examples[row] for place, row in enumerate(rows) if row in self.examples},
        )


NO_CUTS = Cuts()


@dataclass
class Tally:
    """How many texts could not be read as they are, over several blocks of texts.

    Attributes:
        texts: all texts.
        cut: texts that are too long.
        empty: texts without a token.
        literal: texts that spell special tokens, which are read as words.
        fewer_examples: texts that have fewer examples than requested.
    """

    texts: int = 0
    cut: int = 0
    empty: int = 0
    literal: int = 0
    fewer_examples: int = 0

    def add(self, other: "Tally") -> None:
        """Add the counts of further texts."""
        for name, count in vars(other).items():
            setattr(self, name, getattr(self, name) + count)

    def report(self, prompts: Prompts, kind: str) -> None:
        """Print a line on each count that is not 0."""
        if self.fewer_examples:
            report_once(
                f"{self.fewer_examples} of {self.texts} {kind} texts have fewer examples than requested: "
                f"they are longer than {prompts.examples_max_length} tokens"
            )
        if self.cut:
            limit = max_length(prompts, kind)
            report_once(f"{self.cut} of {self.texts} {kind} texts are longer than {limit} tokens and were cut")
        if self.empty:
            report_once(f"{self.empty} of {self.texts} {kind} texts have no tokens; each is read as one special token")
        if self.literal:
            report_once(f"{self.literal} of {self.texts} {kind} texts spell special tokens, which are read as words")


def model_texts(
    prompts: Prompts,
    kind: str,
    texts: Sequence[str],
    examples: Sequence[Sequence[str]] | None = None,
    cuts: Cuts = NO_CUTS,
    image: str | None = None,
) -> Sequence[str]:
    """Return texts as a model reads them: behind their few-shot examples, between prefix and suffix.

    Args:
        kind: `query` or `passage`.
        examples: few-shot examples of each text.
        cuts: what is left out of the texts, as `tokenize_with_cuts` returns it.
        image: what stands for a text's image; None keeps its marker.

    >>> prompts = Prompts(query_prefix="query: ", query_suffix="</s>")
    >>> model_texts(prompts, "query", ["1 + 1 = 11", "2"], [["a", "b"], []], Cuts({0: 5}, {0: [1]}))
    ['b\\n\\nquery: 1 + 1</s>', 'query: 2</s>']
    """
    prefix, suffix = prefix_and_suffix(prompts, kind)

    def read(row: int, text: str) -> str:
        lead = "" if examples is None else _lead(examples[row], cuts.examples.get(row))
        words = strip_image(text)
        marker = text[: len(text) - len(words)]
        if image is not None and marker:
            marker = image
        return f"{lead}{prefix}{marker}{words[: cuts.characters.get(row)]}{suffix}"

    return convert_texts(texts, read)


def tokenize(
    tokenizer,
    texts: Sequence[str],
    prompts: Prompts,
    kind: str,
    examples: Sequence[Sequence[str]] | None = None,
    report: bool = True,
) -> list[list[int]]:
    """Return the token ids of each text; arguments and errors are those of `tokenize_with_cuts`."""
    return tokenize_with_cuts(tokenizer, texts, prompts, kind, examples, report)[0]


def tokenize_with_cuts(
    tokenizer,
    texts: Sequence[str],
    prompts: Prompts,
    kind: str,
    examples: Sequence[Sequence[str]] | None = None,
    report: bool = True,
    tally: Tally | None = None,
) -> tuple[list[list[int]], Cuts]:
    """Tokenize texts with their prompt, and with image tokens where the model reads images and text together.

    A text that is too long loses its own last tokens; prefix, suffix and special tokens stay. A text without a token is
    read as one special token. What a text itself spells like a special token is read as words (`literal_texts`).

    Args:
        kind: `query` or `passage`.
        examples: few-shot examples of each text, best first; they have their own length limit.
        report: print once how many texts were truncated and how many examples were left out.
        tally: gets these numbers added, and nothing is printed.

    Returns:
        the token ids of each text, at least one, and what was left out of the texts.

    Raises:
        UserError: the prompt and special tokens leave no token to the text.
    """
    limit = max_length(prompts, kind)
    cuts = Cuts() if examples is None else Cuts({}, select_examples(tokenizer, examples, prompts))
    image = getattr(tokenizer, "image_placeholder", "")
    inputs = model_texts(prompts, kind, texts, examples, cuts, image)
    batch = tokenizer(inputs, return_attention_mask=False, return_token_type_ids=False, verbose=False)
    suffix = prefix_and_suffix(prompts, kind)[1]
    leads = examples and [_lead(chosen, cuts.examples.get(row)) for row, chosen in enumerate(examples)]
    literal = literal_texts.tokenize(tokenizer, texts, leads, prompts, kind, image)
    rows, empty = [], 0
    for number, (text, whole, row) in enumerate(zip(texts, inputs, batch["input_ids"], strict=True)):
        words, lead, end_text = strip_image(text), leads[number] if leads else "", suffix
        encoding = batch[number] if tokenizer.is_fast else None
        if spelling := literal.get(number):
            whole, lead, words, end_text, row, encoding, _ = spelling
        text_end = len(whole) - len(end_text)
        lead_length = _lead_length(tokenizer, encoding, lead)
        # Joined, examples may take a few tokens more than each by itself; the text then makes room for them.
        allowed = limit + min(lead_length, prompts.examples_max_length)
        if len(row) > allowed:
            setting, place = f"prompts.{kind}_max_length {limit}", (text_end - len(words), text_end)
            if encoding is not None:
                row, end = _truncate(row, encoding, place, allowed, setting)
            else:
                row, end = python_tokenizers.truncate(tokenizer, row, whole, place, allowed, setting)
            read = max(0, len(words) - (text_end - end))
            cuts.characters[number] = spelling.count_characters(read) if spelling else read
        empty += not row
        rows.append(row or [_stand_in(tokenizer)])
    counts = Tally(len(rows), len(cuts.characters), empty, len(literal), len(cuts.examples))
    if tally is not None:
        tally.add(counts)
    elif report:
        counts.report(prompts, kind)
    return rows, cuts


def _stand_in(tokenizer) -> int:
    """Return the token that is read in place of a text without tokens: of a sequence without any there is no vector."""
    candidates = ("eos_token_id", "sep_token_id", "pad_token_id", "bos_token_id", "unk_token_id")
    return next((token for name in candidates if (token := getattr(tokenizer, name, None)) is not None), 0)


def join_examples(
    tokenizer, examples: Sequence[Sequence[str]], prompts: Prompts, kind: str, report: bool = True
) -> list[str]:
    """Join each text's few-shot examples into what stands before the text.

    An example that would exceed `prompts.examples_max_length` is left out.

    Args:
        examples: of each text, best first.
        report: print once how many texts lost examples.
    """
    selected = select_examples(tokenizer, examples, prompts)
    if report:
        Tally(len(examples), fewer_examples=len(selected)).report(prompts, kind)
    return [_lead(chosen, selected.get(row)) for row, chosen in enumerate(examples)]


def _lead(examples: Sequence[str], selected: list[int] | None) -> str:
    """Return what stands before a text: the selected examples, or all if there is no selection."""
    kept = examples if selected is None else [examples[place] for place in selected]
    return "".join(example + EXAMPLE_END for example in kept)


def select_examples(tokenizer, examples: Sequence[Sequence[str]], prompts: Prompts) -> dict[int, list[int]]:
    """Return the places of the examples that fit into `prompts.examples_max_length`, for rows of which some do not."""
    distinct = list(dict.fromkeys(example for chosen in examples for example in chosen))
    lengths: dict[str, int] = {}
    if distinct:
        rows = tokenizer([example + EXAMPLE_END for example in distinct], add_special_tokens=False, verbose=False)
        lengths = {example: len(row) for example, row in zip(distinct, rows["input_ids"], strict=True)}
    selected: dict[int, list[int]] = {}
    for row, chosen in enumerate(examples):
        kept, used = [], 0
        for place, example in enumerate(chosen):
            if used + lengths[example] <= prompts.examples_max_length:
                kept.append(place)
                used += lengths[example]
        if len(kept) < len(chosen):
            selected[row] = kept
    return selected


def _lead_length(tokenizer, encoding: Encoding | None, lead: str) -> int:
    """Return the tokens of what stands before a text; without an encoding, the tokenizer counts them."""
    if not lead:
        return 0
    return python_tokenizers.count_tokens(tokenizer, lead) if encoding is None else _count_lead_tokens(encoding, lead)


def _count_lead_tokens(encoding: Encoding, lead: str) -> int:
    """Count the tokens that end within `lead`, special tokens excluded; reading all of `offsets` would be slow."""
    covered = (token for place in range(len(lead)) if (token := encoding.char_to_token(place)) is not None)
    first = next(covered, None)
    if first is None:
        return 0
    backwards = range(len(lead) - 1, -1, -1)
    last = next(token for place in backwards if (token := encoding.char_to_token(place)) is not None)
    return last - first + (encoding.token_to_chars(last)[1] <= len(lead))


def _truncate(
    row: list[int], encoding: Encoding, place: tuple[int, int], limit: int, setting: str
) -> tuple[list[int], int]:
    """Drop tokens from the end of the text; what stands before and behind it stays.

    Args:
        place: the characters from and up to which the text goes.
        limit: tokens to keep.
        setting: the recipe's key and value that limit the tokens.

    Returns:
        the tokens that are kept, and the characters up to the end of the text's last one.

    Raises:
        UserError: no token of the text is left, so that all texts would be read as one.
    """
    text_start, text_end = place
    #   tokens   [BOS prefix | text text text | suffix EOS]
    #                                text_end ^ tail
    offsets, is_special = encoding.offsets, encoding.special_tokens_mask
    tail = len(row)
    while tail > 0 and (is_special[tail - 1] or _follows(offsets[tail - 1], text_end)):
        tail -= 1
    spans = zip(offsets[:tail], is_special[:tail], strict=True)
    head = next((token for token, ((_, end), special) in enumerate(spans) if not special and end > text_start), tail)
    end = limit - (len(row) - tail)
    if end < head or (end == head and head < tail):
        raise UserError(python_tokenizers.no_room(setting, head + len(row) - tail))
    return row[:end] + row[tail:], offsets[end - 1][1] if end > 0 else 0


def _follows(offsets: tuple[int, int], text_end: int) -> bool:
    """Return whether a token lies behind the text.

    Tokenizers that trim offsets (RoBERTa's) give a token of blanks only no extent: it lies before its offset.
    """
    start, end = offsets
    return start > text_end or start == text_end < end


@functools.cache
def report_once(line: str) -> None:
    """Print a line above the progress bars, unless this process has printed it before."""
    tqdm.write(line)
