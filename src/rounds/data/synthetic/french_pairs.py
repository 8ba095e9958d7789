"""Generate French question and answer pairs about invented animals: what they eat, where and when they live.

A question describes its animal without naming it, so that it shares few words with the passage that answers it.
"""

import csv
import random
from pathlib import Path

HABITATS = [
    "la forêt humide",
    "les falaises du nord",
    "le désert de sel",
    "les marais salants",
    "la steppe froide",
    "les îles du large",
    "la vallée des brumes",
    "les grottes calcaires",
]

FOODS = [
    "de racines",
    "d'insectes",
    "de petits poissons",
    "de graines",
    "d'algues",
    "de champignons",
    "de miel",
    "de feuilles mortes",
]

TIMES = ["à l'aube", "au crépuscule", "en pleine nuit", "aux heures chaudes", "après la pluie", "par temps de brume"]

SIZES = [
    "pas plus lourd qu'une pomme",
    "de la taille d'un chat",
    "haut comme un poney",
    "long comme un bras",
    "aussi grand qu'un ours",
    "gros comme le poing",
    "plus petit qu'une souris",
    "de la taille d'un renard",
    "aussi long qu'une barque",
    "léger comme une plume",
]

COATS = [
    "au pelage rayé",
    "au plumage bleu",
    "à la carapace lisse",
    "à la fourrure argentée",
    "aux écailles dorées",
    "à la crinière rousse",
    "aux oreilles pointues",
    "à la queue plate",
    "au dos épineux",
    "aux pattes palmées",
    "au bec recourbé",
    "à la peau tachetée",
]

NAME_STARTS = ("bra", "cou", "dri", "fal", "gue", "lor", "mou", "nar", "pli", "ser")

NAME_ENDS = ("bin", "cou", "dole", "gnon", "lette", "mard", "quet", "rasse", "tin", "veau")

FACTS = {
    "habitat": ("Dans quel milieu rencontre-t-on l'animal {size} et {coat} ?", "Le {name} habite {habitat}."),
    "food": ("De quoi se nourrit l'animal {coat}, {size} ?", "Le régime du {name} se compose surtout {food}."),
    "time": ("Quand sort l'animal {size} et {coat} ?", "On voit le {name} chercher sa nourriture {time}."),
}

DESCRIPTION = "C'est un animal {coat}, {size}."


def generate(path: Path, animals: int = 120, seed: int = 42) -> int:
    """Write a CSV file with the columns `question`, `passage`, `animal`; return its number of rows.

    Equal arguments give equal bytes.

    Args:
        animals: number of animals, with three rows each; at most as many as there are names.
    """
    rng = random.Random(seed)
    names = [start + end for start in NAME_STARTS for end in NAME_ENDS]
    rng.shuffle(names)
    appearances = [(size, coat) for size in SIZES for coat in COATS]
    with open(path, "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["question", "passage", "animal"])
        chosen = names[: min(animals, len(names), len(appearances))]
        for name, (size, coat) in zip(chosen, rng.sample(appearances, len(chosen)), strict=True):
            facts = {
                "name": name,
                "size": size,
                "coat": coat,
                "habitat": rng.choice(HABITATS),
                "food": rng.choice(FOODS),
                "time": rng.choice(TIMES),
            }
            for question, answer in FACTS.values():
                description = DESCRIPTION.format(**facts)
                writer.writerow([question.format(**facts), f"{answer.format(**facts)} {description}", name])
    return len(chosen) * len(FACTS)
