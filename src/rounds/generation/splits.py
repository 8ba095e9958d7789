"""Split rows into training and validation: v1 by row, v6 by prompt, so that no prompt stands on both sides."""

from sklearn.model_selection import GroupKFold, train_test_split

from rounds.data.source import PROMPT_VERSIONS
from rounds.errors import UserError
from rounds.generation.rows import PromptRow, Split, prompt_key

FOLDS = 4  # of v6; together they validate every row once

LEAST_ROWS = 10

V1_SHARE = 0.333  # of the rows


def divide(rows: list[PromptRow], test: list[PromptRow], version: str, seed: int = 42, fold: int = 0) -> Split:
    """Divide rows with prompts into training and validation rows.

    Args:
        rows: rows with prompts; each side keeps their order.
        test: rows to predict, which every split has.
        version: `v1`, a random 33.3% of the rows; `v6`, a quarter of the prompts with all their rows; `submission`, no
            validation rows.
        seed: of the random choice.
        fold: of v6, 0 to 3.

    Raises:
        UserError: there is no such split or fold, or the rows are too few.
    """
    if version not in PROMPT_VERSIONS:
        raise UserError(f"split {version!r} is not one of {', '.join(PROMPT_VERSIONS)}")
    if fold and version != "v6":
        raise UserError(f"fold {fold}: only split v6 has folds here")
    if version == "submission":
        return Split(rows, [], test)
    groups = [prompt_key(row.rewrite_prompt) for row in rows]
    if len(rows) < LEAST_ROWS:
        raise UserError(
            f"{len(rows)} rows are too few to split, which takes {LEAST_ROWS}; put more into RAW, or take "
            "SPLIT=submission"
        )
    if version == "v6" and len(set(groups)) < FOLDS:
        raise UserError(
            f"{len(rows)} rows with {len(set(groups))} different prompts are too few for split v6, which divides "
            f"{FOLDS} or more; put more into RAW, or take SPLIT=v1, which divides rows"
        )
    if version == "v1":
        _, chosen = train_test_split(range(len(rows)), test_size=V1_SHARE, random_state=seed)
    else:
        if not 0 <= fold < FOLDS:
            raise UserError(f"fold {fold}: split v6 has folds 0 to {FOLDS - 1}")
        folds = GroupKFold(FOLDS, shuffle=True, random_state=seed).split(rows, groups=groups)
        _, chosen = list(folds)[fold]
    held_out = set(chosen)
    train = [row for place, row in enumerate(rows) if place not in held_out]
    return Split(train, [rows[place] for place in sorted(held_out)], test)
