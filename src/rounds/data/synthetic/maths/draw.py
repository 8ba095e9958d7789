"""Draw questions: a template, its numbers, the wrong options, and which of them are labelled."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import accumulate
from types import SimpleNamespace
from typing import Any

from .corpus import CORPUS, IDS, TEMPLATES
from .question import NAMES, Option, Question, Slip, Template, bare

UNLABELLED_TEXTS = ("None of the other answers fits", "Not enough is known", "It cannot be worked out")
HELD_SHARE = 0.14  # of the corpus never labelled in train
DIALOGUE_SHARE = 0.05
REPEAT_SHARE = 0.012
ATTEMPTS = 60


@dataclass(frozen=True)
class DrawingPlan:
    """What the seed decides for all questions: frequencies, and the misconceptions that train never labels."""

    slip_weight: dict[str, float]
    held: frozenset[str]
    train_weights: tuple[float, ...]  # cumulative, over TEMPLATES
    test_weights: tuple[float, ...]


def plan(seed: int) -> DrawingPlan:
    """Draw long-tailed weights of templates and slips, and the texts that train never labels."""
    rng = random.Random(f"plan {seed}")
    slip_weight = dict(zip(CORPUS, long_tail(len(CORPUS), 0.6, rng), strict=True))
    weights = long_tail(len(TEMPLATES), 0.5, rng)
    held = held_back(rng)
    shares = [sum(slip.text in held for slip in template.slips) + 0.25 for template in TEMPLATES]
    test = [weight * share for weight, share in zip(weights, shares, strict=True)]
    return DrawingPlan(slip_weight, held, tuple(accumulate(weights)), tuple(accumulate(test)))


def long_tail(count: int, power: float, rng: random.Random) -> list[float]:
    """Return weights that fall with a power of the rank, in shuffled order."""
    weights = [(rank + 1) ** -power for rank in range(count)]
    rng.shuffle(weights)
    return weights


def held_back(rng: random.Random) -> frozenset[str]:
    """Draw about HELD_SHARE of the corpus: most slips of a few templates, none that several templates share."""
    uses: dict[str, int] = {}
    for template in TEMPLATES:
        for slip in template.slips:
            uses[slip.text] = uses.get(slip.text, 0) + 1
    held: set[str] = set()
    for template in rng.sample(TEMPLATES, len(TEMPLATES)):
        own = [slip.text for slip in template.slips if uses[slip.text] == 1]
        held.update(own[2:] if len(own) == len(template.slips) else own[:-1])
        if len(held) >= HELD_SHARE * len(CORPUS):
            break
    return frozenset(held)


def draw_questions(questions: int, test_questions: int, seed: int) -> Iterator[tuple[str, int, Question]]:
    """Yield (split, QuestionId, question): train first, then test, ids rising with gaps in train."""
    scheme, number = plan(seed), 0
    recent: deque[Question] = deque(maxlen=200)
    rng = random.Random(f"train {seed}")
    for _ in range(questions):
        if recent and rng.random() < REPEAT_SHARE:
            question = repeated(rng.choice(recent), scheme, rng)
        else:
            question = fresh(scheme, rng, train=True)
        recent.append(question)
        yield "train", number, question
        number += 1 + (rng.random() < 0.14)
    rng = random.Random(f"test {seed}")
    for _ in range(test_questions):
        yield "test", number, fresh(scheme, rng, train=False)
        number += 1


def fresh(scheme: DrawingPlan, rng: random.Random, train: bool) -> Question:
    """Draw a template and a question from it."""
    while True:
        cumulative = scheme.train_weights if train else scheme.test_weights
        template = rng.choices(TEMPLATES, cum_weights=cumulative)[0]
        question = question_at(template, scheme, rng, train)
        if question:
            return question


def question_at(template: Template, scheme: DrawingPlan, rng: random.Random, train: bool = True) -> Question | None:
    """Draw a question from a template; return None if its draws give too few options that can be labelled."""
    for _ in range(ATTEMPTS):
        params = SimpleNamespace(**template.draw(rng))
        names = tuple(rng.sample(NAMES, 4))
        wording = rng.randrange(len(template.wordings))
        text = template.text(params, wording, names)
        base = Question(template, params, wording, names, text, (), 0)
        spoken = template.alone and "Which o" not in text and rng.random() < DIALOGUE_SHARE
        maker = talk if spoken else choose
        question = maker(base, scheme, rng, train)
        if question:
            return question
    return None


def repeated(earlier: Question, scheme: DrawingPlan, rng: random.Random) -> Question:
    """Return a question with the same text and newly drawn wrong options and labels."""
    maker = relabel if earlier.dialogue else choose
    return maker(earlier, scheme, rng, True) or earlier


def relabel(earlier: Question, scheme: DrawingPlan, rng: random.Random, train: bool) -> Question:
    """Return the same dialogue with its options in another order."""
    order = rng.sample(range(4), 4)
    options = tuple(earlier.options[place] for place in order)
    return with_options(earlier, options, order.index(earlier.correct))


def with_options(base: Question, options: tuple[Option, ...], correct: int) -> Question:
    """The same question with other options."""
    return replace(base, options=options, correct=correct)


def usable(base: Question) -> list[tuple[Slip, Any, str]]:
    """Wrong values that exactly one slip explains and that can be printed: (slip, value, text)."""
    out = []
    for explanations in base.template.explain(base.params).values():
        if len(explanations) == 1:
            slip, value = explanations[0]
            text = base.template.print(value, base.params)
            if text:
                out.append((slip, bare(value), text))
    return out


def ranked(candidates: list, scheme: DrawingPlan, rng: random.Random, train: bool) -> list:
    """Candidates in a random order in which heavy slips tend to come first, and in test those held back."""

    def score(candidate) -> float:
        weight = scheme.slip_weight[candidate[0].text]
        if candidate[0].text in scheme.held:
            weight *= 0.3 if train else 6
        return rng.random() ** (1 / weight)

    return [candidate for _, candidate in sorted(((score(c), c) for c in candidates), key=lambda x: -x[0])]


def choose(base: Question, scheme: DrawingPlan, rng: random.Random, train: bool) -> Question | None:
    """Fill the wrong options with slips, some with their label dropped, and with generic distractors."""
    candidates = ranked(usable(base), scheme, rng, train)
    free = [c for c in candidates if not train or c[0].text not in scheme.held]
    wanted = rng.choices((1, 2, 3), weights=(12, 24, 64))[0]
    labelled = free[:wanted]
    if not labelled:
        return None
    wrong = [labelled_option(c, rng) for c in labelled]
    right = base.template.print(base.template.answer(base.params), base.params)
    if right is None:
        return None
    spare = [c for c in candidates if c not in labelled]
    taken = {right, *(option.text for option in wrong)}
    while len(wrong) < 3:
        option = filler(base, spare, taken, rng)
        if option is None:
            return None
        wrong.append(option)
        taken.add(option.text)
    if len(taken) < 4:
        return None
    return shuffled(base, Option(bare(base.template.answer(base.params)), right), wrong, rng)


def labelled_option(candidate: tuple[Slip, Any, str], rng: random.Random) -> Option:
    """A wrong option with its misconception's id; a text listed twice gets either id."""
    slip, value, text = candidate
    return Option(value, text, slip, rng.choice(IDS[slip.text]))


def filler(base: Question, spare: list, taken: set[str], rng: random.Random) -> Option | None:
    """A wrong option without a label: a phrase, a value that no slip yields, or a slip's value unlabelled."""
    if rng.random() < 0.08:
        text = rng.choice(UNLABELLED_TEXTS)
        return None if text in taken else Option(text, text)
    if spare and rng.random() < 0.4:
        slip, value, text = spare.pop()
        if text not in taken:
            return Option(value, text, slip)
    explained = base.template.explain(base.params)
    right = bare(base.template.answer(base.params))
    for _ in range(12):
        value = base.template.near(base.params, rng) if base.template.near else nearby(right, rng)
        if value is None or bare(value) in explained or bare(value) == right:
            continue
        text = base.template.print(value, base.params)
        if text and text not in taken:
            return Option(bare(value), text)
    return None


def nearby(value: Any, rng: random.Random) -> Any:
    """A value close to a number or to a tuple of numbers; None for text."""
    if isinstance(value, int):
        return value + rng.choice((-10, -3, -2, -1, 1, 2, 3, 10))
    if isinstance(value, Fraction):
        if rng.random() < 0.5:
            return value + Fraction(rng.choice((-2, -1, 1, 2)), value.denominator)
        step = rng.choice((-1, 1, 2))
        return Fraction(value.numerator, value.denominator + step) if value.denominator > 1 else None
    if isinstance(value, tuple) and all(isinstance(part, (int, Fraction)) for part in value):
        place = rng.randrange(len(value))
        return (*value[:place], value[place] + rng.choice((-2, -1, 1, 2)), *value[place + 1 :])
    return None


def shuffled(base: Question, right: Option, wrong: list[Option], rng: random.Random) -> Question:
    """The four options in a random order."""
    options = [right, *wrong]
    rng.shuffle(options)
    correct = next(place for place, option in enumerate(options) if option is right)
    return with_options(base, tuple(options), correct)


def talk(base: Question, scheme: DrawingPlan, rng: random.Random, train: bool) -> Question | None:
    """Two learners state an answer each: one of them may be right, or neither."""
    candidates = [c for c in ranked(usable(base), scheme, rng, train) if not train or c[0].text not in scheme.held]
    right = base.template.answer(base.params)
    printed = base.template.print(right, base.params)
    neither = rng.random() < 0.4
    if printed is None or len(candidates) < 1 + neither:
        return None
    wrong = labelled_option(candidates[0], rng)
    first, second = wrong, labelled_option(candidates[1], rng) if neither else Option(bare(right), printed)
    if rng.random() < 0.5:
        first, second = second, first
    one, two = base.names[2:]
    ask = rng.choice(("Who is correct?", "Who has the right answer?", "Who do you agree with?"))
    says = f"{one} answers {first.text}\n{two} answers {second.text}"
    text = f"{one} and {two} both try this question:\n\n{base.text}\n\n{says}\n\n{ask}"
    options = (
        Option(first.value, f"Only {one}", first.slip, first.label),
        Option(second.value, f"Only {two}", second.slip, second.label),
        Option(f"Both {one} and {two}", f"Both {one} and {two}"),
        Option(f"Neither {one} nor {two}", f"Neither {one} nor {two}"),
    )
    correct = 3 if neither else 0 if first.slip is None else 1
    return replace(base, options=options, correct=correct, text=text, dialogue=True)
