"""Rows and recipes for tests of generators: a random Mistral, and a few short rewritings."""

from rounds.config import generator
from rounds.config.generator import GeneratorRecipe
from rounds.config.sections.tuning import Lora, VirtualTokens
from rounds.generation.rows import PromptRow

PROMPT = "Write it as a list."


def make_rows(count: int, start: int = 0, prompt: str = PROMPT) -> list[PromptRow]:
    """Return rows of different lengths, all with one prompt."""
    return [
        PromptRow(f"r{number}", "one two three " * (1 + number % 4), f"{number}. one\n2. two", prompt)
        for number in range(start, start + count)
    ]


def make_recipe(method: str = "full", **training: object) -> GeneratorRecipe:
    """Return the tiny recipe with another tuning method, and other training settings."""
    lora = Lora(r=4, alpha=8, dropout=0.0, targets=["q_proj", "v_proj"])
    recipe = generator.load("tiny-generator").replace(
        "tuning", method=method, lora=lora, virtual=VirtualTokens(tokens=4)
    )
    recipe = recipe.replace("generation", max_new_tokens=12)
    return recipe.replace("training", **{"max_length": 96, "batch_size": 4, **training})
