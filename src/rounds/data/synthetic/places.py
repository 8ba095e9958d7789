"""Generate questions on images: invented places, each with an emblem and an article of several passages.

No question names its place: its words alone match passages of every place, and its image alone matches every passage of
one article. Only words and image together identify one passage.

| file | keys |
|---|---|
| `questions.jsonl` | `id`, `question`, `image`, `answer`, `aliases`, `provenance` (titles of articles) |
| `passages.jsonl` | `id`, `text`, `image`, `article`, `title`, `type` |
| `captions.jsonl` | `image`, `text`: emblems of no place with their descriptions, for pretraining |
| `images/` | JPEGs, `emblem.SIZE` pixels a side |
"""

import random
from collections.abc import Callable, Iterable
from pathlib import Path

from PIL import Image

from rounds.artifacts import store
from rounds.data.synthetic.emblems import Emblem, photograph_emblem, random_emblem

QUESTIONS_PER_PLACE = 5

TYPES = ("town", "village", "castle", "monastery", "harbour", "island")

NAME_STARTS = (
    "Ash",
    "Bel",
    "Cor",
    "Dun",
    "Elm",
    "Fal",
    "Gar",
    "Hol",
    "Ist",
    "Jor",
    "Kel",
    "Lun",
    "Mar",
    "Nor",
    "Oss",
    "Pel",
    "Quin",
    "Ros",
    "Sel",
    "Tor",
    "Ul",
    "Vel",
    "Wen",
    "Yar",
    "Zan",
)

NAME_MIDDLES = ("a", "e", "i", "o", "an", "en", "ar", "or", "il", "un")

NAME_ENDS = ("burg", "dale", "ford", "mont", "mere", "stad", "ton", "vik", "wald", "by", "holm", "rook")

FIRST_NAMES = (
    "Alda",
    "Bruno",
    "Cilla",
    "Dario",
    "Edda",
    "Farid",
    "Greta",
    "Hugo",
    "Ilse",
    "Jonas",
    "Kira",
    "Leon",
    "Mira",
    "Nils",
    "Olga",
    "Piet",
    "Runa",
    "Sven",
    "Tilda",
    "Ugo",
    "Vera",
    "Wim",
    "Yara",
    "Zeno",
)

LAST_NAMES = (
    "Abendroth",
    "Brandt",
    "Castellan",
    "Dorn",
    "Eisner",
    "Falk",
    "Gallo",
    "Hartwig",
    "Isenmann",
    "Jansen",
    "Kessler",
    "Lindqvist",
    "Moreau",
    "Novak",
    "Olsen",
    "Pavic",
    "Quast",
    "Rieger",
    "Santoro",
    "Thorn",
    "Ulrich",
    "Varga",
    "Weiss",
    "Zeller",
)

TRADES = (
    "salt",
    "amber",
    "wool",
    "glass",
    "honey",
    "copper",
    "slate",
    "linen",
    "cider",
    "silk",
    "cheese",
    "timber",
    "pottery",
    "paper",
    "saffron",
    "clockwork",
)


# Fact -> two wordings of its question, and two wordings of the passage that answers it.
FACTS: dict[str, tuple[tuple[str, str], tuple[str, str]]] = {
    "year": (
        ("In which year was the place with this emblem founded?", "When was the place that bears this emblem founded?"),
        (
            "{name} was founded in {year}, as its oldest charter says.",
            "The first houses of {name} were built in {year}, on land that had been forest.",
        ),
    ),
    "river": (
        ("Which river runs past the place with this emblem?", "On which river does the place of this emblem lie?"),
        (
            "{name} lies on the river {river}, which floods its lower streets in most springs.",
            "The river {river} runs past {name} and drives its mills.",
        ),
    ),
    "founder": (
        ("Who founded the place that has this emblem?", "Which person is the founder of the place with this emblem?"),
        (
            "The founder of {name} was {founder}, of whom a statue stands at the gate.",
            "It was {founder} who founded {name}, after a long journey on foot.",
        ),
    ),
    "people": (
        ("How many people live in the place with this emblem?", "What is the population of the place of this emblem?"),
        (
            "{people} people live in {name}, fewer than a century ago.",
            "The population of {name} is {people}, most of them in the old quarter.",
        ),
    ),
    "trade": (
        ("What is the place with this emblem known for selling?", "For which goods is the place of this emblem known?"),
        (
            "{name} is known for its {trade}, sold on a market every autumn.",
            "Merchants come to {name} for {trade}, which few other places make as well.",
        ),
    ),
}


def generate(
    folder: Path,
    places: int = 320,
    captions: int = 3000,
    seed: int = 42,
    progress: Callable[[Iterable, int], Iterable] = lambda items, total: items,
) -> dict[str, int]:
    """Write the sample's files; return the numbers of places, questions, passages and captions.

    Equal arguments give equal bytes.

    Args:
        places: number of places, each with its own emblem, one passage per fact, and `QUESTIONS_PER_PLACE` questions.
        captions: number of emblems that no place has, for pretraining.
        progress: wraps the loop over places, given its length.
    """
    rng = random.Random(seed)
    (folder / "images").mkdir(parents=True, exist_ok=True)
    all_names = [start + middle + end for start in NAME_STARTS for middle in NAME_MIDDLES for end in NAME_ENDS]
    names = rng.sample(all_names, 2 * places)  # of the places, then of their rivers
    emblems = _distinct_emblems(rng, places + captions)
    questions, passages = [], []
    for number in progress(range(places), places):
        facts = _draw_facts(rng, names[number], names[places + number])
        passages += _place_passages(rng, folder, number, facts, emblems[number])
        questions += _place_questions(rng, folder, number, facts, emblems[number])
    captioned = [
        {"image": _save(folder, f"c{number}.jpg", photograph_emblem(emblem, rng)), "text": emblem.caption}
        for number, emblem in enumerate(emblems[places:])
    ]
    store.write_jsonl(folder / "questions.jsonl", questions)
    store.write_jsonl(folder / "passages.jsonl", passages)
    store.write_jsonl(folder / "captions.jsonl", captioned)
    return {"places": places, "questions": len(questions), "passages": len(passages), "captions": len(captioned)}


def _place_passages(rng: random.Random, folder: Path, number: int, facts: dict[str, str], emblem: Emblem) -> list[dict]:
    """Return one passage for each fact about a place, all with one photograph of its emblem."""
    article = f"a{number}"
    image = _save(folder, f"{article}.jpg", photograph_emblem(emblem, rng))
    kind = rng.choice(TYPES)
    return [
        {
            "id": f"{article}-{fact}",
            "text": rng.choice(wordings).format(**facts),
            "image": image,
            "article": article,
            "title": facts["name"],
            "type": kind,
        }
        for fact, (_, wordings) in FACTS.items()
    ]


def _place_questions(
    rng: random.Random, folder: Path, number: int, facts: dict[str, str], emblem: Emblem
) -> list[dict]:
    """Return the questions about a place, each with its own photograph of the emblem."""
    return [
        {
            "id": f"q{number}-{turn}",
            "question": rng.choice(wordings),
            "image": _save(folder, f"q{number}-{turn}.jpg", photograph_emblem(emblem, rng)),
            "answer": facts[fact],
            "aliases": [],
            "provenance": [facts["name"]],
        }
        for turn, (fact, (wordings, _)) in enumerate(list(FACTS.items())[:QUESTIONS_PER_PLACE])
    ]


def _draw_facts(rng: random.Random, name: str, river: str) -> dict[str, str]:
    return {
        "name": name,
        "river": river.rstrip("aeiou"),
        "founder": f"{rng.choice(FIRST_NAMES)} {rng.choice(LAST_NAMES)}",
        "year": str(rng.randint(900, 1899)),
        "people": f"{rng.randint(2, 950) * 100 + rng.randint(1, 99)}",
        "trade": rng.choice(TRADES),
    }


def _distinct_emblems(rng: random.Random, number: int) -> list[Emblem]:
    emblems: dict[Emblem, None] = {}
    while len(emblems) < number:
        emblems.setdefault(random_emblem(rng))
    return list(emblems)


def _save(folder: Path, name: str, image: Image.Image) -> str:
    """Save a JPEG and return its path below `folder`."""
    image.save(folder / "images" / name, quality=90)
    return f"images/{name}"
