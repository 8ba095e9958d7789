"""Training rows: a half of the prompts, and the order, as a recipe chooses them."""

from collections.abc import Sequence

from sklearn.model_selection import GroupKFold

from rounds.config.generator import PROMPT_HALVES, Training
from rounds.errors import UserError
from rounds.generation.rows import PromptRow, prompt_key, spread

SEED = 42  # of the halves; fixed, so that a base model and what is tuned from it agree about them


def choose(rows: Sequence[PromptRow], training: Training) -> list[PromptRow]:
    """Return the rows to train on, in the order that training without shuffling reads them.

    Args:
        rows: all training rows of a split.
        training: `prompts` names the half; `order` the order. Grouped rows are as many as the steps read, evenly
            spaced, so that a training of less than an epoch meets all groups, too.

    Raises:
        UserError: the rows have fewer than two prompts, and a half of them is asked for.
    """
    chosen = list(rows) if training.prompts == "all" else _half(rows, PROMPT_HALVES.index(training.prompts))
    if training.order == "grouped":
        return spread(grouped(chosen), training.steps * training.batch_size)
    return chosen


def _half(rows: Sequence[PromptRow], number: int) -> list[PromptRow]:
    """Return all rows of one half of the prompts, in their order."""
    keys = [prompt_key(row.rewrite_prompt) for row in rows]
    if len(set(keys)) < 2:
        raise UserError(
            f"{len(rows)} training rows have one prompt alone, of which there is no half; take more prompts"
        )
    _, places = list(GroupKFold(2, shuffle=True, random_state=SEED).split(keys, groups=keys))[number]
    return [rows[place] for place in places]


def grouped(rows: Sequence[PromptRow]) -> list[PromptRow]:
    """Return the rows with those of a family together and, in it, those of a prompt, as files of one kind each would.

    >>> rows = [PromptRow(str(number), "a", "b", prompt) for number, prompt in enumerate(["Sing.", "Shout.", "sing."])]
    >>> [row.id for row in grouped(rows)]
    ['0', '2', '1']
    """
    families, prompts = {}, {}
    for row in rows:
        families.setdefault(row.family, len(families))
        prompts.setdefault(prompt_key(row.rewrite_prompt), len(prompts))
    return sorted(rows, key=lambda row: (families[row.family], prompts[prompt_key(row.rewrite_prompt)]))
