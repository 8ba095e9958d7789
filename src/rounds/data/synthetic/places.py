"""A generated sample of questions on pictures: invented places with emblems, an article of several passages each.

No question names its place: its words alone fit the passages of every place, its picture alone every passage of one
article. Picture and words together leave one passage.

| file | keys |
|---|---|
| `questions.jsonl` | `id`, `question`, `image`, `answer`, `aliases`, `provenance` (titles of articles) |
| `passages.jsonl` | `id`, `text`, `image`, `article`, `title`, `type` |
| `captions.jsonl` | `image`, `text`: emblems of no place, with what a person would say of them, to pretrain on |
| `images/` | JPEGs, `emblem.SIZE` pixels a side |
"""

import random
from collections.abc import Callable, Iterable
from pathlib import Path

from rounds.artifacts import store
from rounds.data.synthetic.emblems import Emblem, photograph_emblem, random_emblem

QUESTIONS_A_PLACE = 5

TYPES = ("town", "village", "castle", "monastery", "harbour", "island")

STARTS = ("Ash", "Bel", "Cor", "Dun", "Elm", "Fal", "Gar", "Hol", "Ist", "Jor", "Kel", "Lun", "Mar", "Nor", "Oss",
          "Pel", "Quin", "Ros", "Sel", "Tor", "Ul", "Vel", "Wen", "Yar", "Zan")  # fmt: skip

MIDDLES = ("a", "e", "i", "o", "an", "en", "ar", "or", "il", "un")

ENDS = ("burg", "dale", "ford", "mont", "mere", "stad", "ton", "vik", "wald", "by", "holm", "rook")

FIRST = ("Alda", "Bruno", "Cilla", "Dario", "Edda", "Farid", "Greta", "Hugo", "Ilse", "Jonas", "Kira", "Leon", "Mira",
         "Nils", "Olga", "Piet", "Runa", "Sven", "Tilda", "Ugo", "Vera", "Wim", "Yara", "Zeno")  # fmt: skip

LAST = ("Abendroth", "Brandt", "Castellan", "Dorn", "Eisner", "Falk", "Gallo", "Hartwig", "Isenmann", "Jansen",
        "Kessler", "Lindqvist", "Moreau", "Novak", "Olsen", "Pavic", "Quast", "Rieger", "Santoro", "Thorn",
        "Ulrich", "Varga", "Weiss", "Zeller")  # fmt: skip

TRADES = ("salt", "amber", "wool", "glass", "honey", "copper", "slate", "linen", "cider", "silk", "cheese", "timber",
          "pottery", "paper", "saffron", "clockwork")  # fmt: skip


# What is asked: two ways to ask each, and two ways in which a passage answers.
FACTS: dict[str, tuple[tuple[str, str], tuple[str, str]]] = {
    "year": (
        ("In which year was the place with this emblem founded?", "When was the place that bears this emblem founded?"),
        ("{name} was founded in {year}, as its oldest charter says.",
         "The first houses of {name} were built in {year}, on land that had been forest."),
    ),
    "river": (
        ("Which river runs past the place with this emblem?", "On which river does the place of this emblem lie?"),
        ("{name} lies on the river {river}, which floods its lower streets in most springs.",
         "The river {river} runs past {name} and drives its mills."),
    ),
    "founder": (
        ("Who founded the place that has this emblem?", "Which person is the founder of the place with this emblem?"),
        ("The founder of {name} was {founder}, of whom a statue stands at the gate.",
         "It was {founder} who founded {name}, after a long journey on foot."),
    ),
    "people": (
        ("How many people live in the place with this emblem?", "What is the population of the place of this emblem?"),
        ("{people} people live in {name}, fewer than a century ago.",
         "The population of {name} is {people}, most of them in the old quarter."),
    ),
    "trade": (
        ("What is the place with this emblem known for selling?", "For which goods is the place of this emblem known?"),
        ("{name} is known for its {trade}, sold on a market every autumn.",
         "Merchants come to {name} for {trade}, which few other places make as well."),
    ),
}  # fmt: skip


def generate(
    folder: Path, places: int = 320, captions: int = 3000, seed: int = 42,
    progress: Callable[[Iterable, int], Iterable] = lambda items, total: items,
) -> dict[str, int]:  # fmt: skip
    """Write the sample's files; returns what to say of them.

    Args:
        places: each has an emblem of its own, an article of a passage a fact, and `QUESTIONS_A_PLACE` questions.
        captions: emblems that no place has, for pretraining.
        progress: wraps the places as they are drawn.
    """
    rng = random.Random(seed)
    (folder / "images").mkdir(parents=True, exist_ok=True)
    names = rng.sample([start + middle + end for start in STARTS for middle in MIDDLES for end in ENDS], 2 * places)
    emblems = _distinct(rng, places + captions)
    questions, passages = [], []
    for number in progress(range(places), places):
        facts = _facts(rng, names[number], names[places + number])
        article = f"a{number}"
        picture = _save(folder, f"{article}.jpg", photograph_emblem(emblems[number], rng))
        kind = rng.choice(TYPES)
        passages += [
            {"id": f"{article}-{fact}", "text": rng.choice(texts).format(**facts), "image": picture,
             "article": article, "title": facts["name"], "type": kind}
            for fact, (_, texts) in FACTS.items()
        ]  # fmt: skip
        for turn, (fact, (asked, _)) in enumerate(list(FACTS.items())[:QUESTIONS_A_PLACE]):
            name = f"q{number}-{turn}.jpg"
            questions.append({
                "id": f"q{number}-{turn}", "question": rng.choice(asked),
                "image": _save(folder, name, photograph_emblem(emblems[number], rng)),
                "answer": facts[fact], "aliases": [], "provenance": [facts["name"]],
            })  # fmt: skip
    pictured = [
        {"image": _save(folder, f"c{number}.jpg", photograph_emblem(each, rng)), "text": each.caption}
        for number, each in enumerate(emblems[places:])
    ]
    store.write_jsonl(folder / "questions.jsonl", questions)
    store.write_jsonl(folder / "passages.jsonl", passages)
    store.write_jsonl(folder / "captions.jsonl", pictured)
    return {"places": places, "questions": len(questions), "passages": len(passages), "captions": len(pictured)}


def _facts(rng: random.Random, name: str, river: str) -> dict[str, str]:
    return {
        "name": name, "river": river.rstrip("aeiou"), "founder": f"{rng.choice(FIRST)} {rng.choice(LAST)}",
        "year": str(rng.randint(900, 1899)), "people": f"{rng.randint(2, 950) * 100 + rng.randint(1, 99)}",
        "trade": rng.choice(TRADES),
    }  # fmt: skip


def _distinct(rng: random.Random, number: int) -> list[Emblem]:
    found: dict[Emblem, None] = {}
    while len(found) < number:
        found.setdefault(random_emblem(rng))
    return list(found)


def _save(folder: Path, name: str, image) -> str:
    image.save(folder / "images" / name, quality=90)
    return f"images/{name}"
