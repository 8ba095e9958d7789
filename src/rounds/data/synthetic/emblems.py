"""Draw emblems (invented coats of arms), and variants of them that look like photographs."""

import math
import random
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

SIZE = 96  # side of an image in pixels

OVERSAMPLING = 2  # draw this many times larger, then shrink, for smooth edges

COLOURS = {
    "red": (196, 36, 48),
    "blue": (32, 84, 172),
    "green": (38, 128, 66),
    "black": (36, 36, 40),
    "purple": (118, 50, 140),
    "orange": (226, 120, 28),
    "gold": (232, 190, 46),
    "silver": (216, 218, 224),
    "teal": (24, 140, 146),
}

SHAPES = ("shield", "round", "square", "lozenge")

DIVISIONS = ("plain", "halved upright", "halved level", "halved slantwise", "quartered", "banded")

CHARGES = ("star", "disc", "cross", "tower", "tree", "crescent", "arrow", "diamond", "wave", "ring")

COUNTS = (1, 2, 3, 4)

PLACES = {
    1: [(0, 0)],
    2: [(-0.42, 0), (0.42, 0)],
    3: [(-0.42, -0.3), (0.42, -0.3), (0, 0.42)],
    4: [(-0.4, -0.4), (0.4, -0.4), (-0.4, 0.4), (0.4, 0.4)],
}

NUMBERS = {1: "one", 2: "two", 3: "three", 4: "four"}


@dataclass(frozen=True)
class Emblem:
    """An emblem's features; equal emblems look alike.

    Attributes:
        shape, division, charge: one of `SHAPES`, `DIVISIONS`, `CHARGES` (the drawn figures).
        field, second, colour: different keys of `COLOURS`, for the ground, its other part, and the charges.
        count: number of charges, one of `COUNTS`.
    """

    shape: str
    division: str
    field: str
    second: str
    charge: str
    colour: str
    count: int

    @property
    def caption(self) -> str:
        """A description in words.

        >>> Emblem("round", "quartered", "red", "gold", "star", "black", 3).caption
        'a round emblem, quartered red and gold, with three black stars'
        """
        ground = self.field if self.division == "plain" else f"{self.division} {self.field} and {self.second}"
        plural = "" if self.count == 1 else "es" if self.charge.endswith("s") else "s"
        return f"a {self.shape} emblem, {ground}, with {NUMBERS[self.count]} {self.colour} {self.charge}{plural}"


def random_emblem(rng: random.Random) -> Emblem:
    """Return an emblem with random features."""
    field, second, colour = rng.sample(list(COLOURS), 3)
    return Emblem(
        rng.choice(SHAPES), rng.choice(DIVISIONS), field, second, rng.choice(CHARGES), colour, rng.choice(COUNTS)
    )


# ---- drawing ---------------------------------------------------------------------------------------------------------
def draw_emblem(emblem: Emblem) -> Image.Image:
    """Return an RGB image of `SIZE` x `SIZE` pixels on white."""
    side = SIZE * OVERSAMPLING
    ground = Image.new("RGB", (side, side), COLOURS[emblem.field])
    _draw_division(ImageDraw.Draw(ground), emblem, side)
    radius = side * (0.30 if emblem.count == 1 else 0.17)
    for x, y in PLACES[emblem.count]:
        _draw_charge(ground, emblem, side / 2 + x * side * 0.5, side * 0.48 + y * side * 0.5, radius)
    mask = Image.new("L", (side, side), 0)
    outline = _outline(emblem.shape, side)
    ImageDraw.Draw(mask).polygon(outline, fill=255)
    sheet = Image.new("RGB", (side, side), "white")
    sheet.paste(ground, mask=mask)
    ImageDraw.Draw(sheet).line([*outline, outline[0]], fill=(20, 20, 20), width=2 * OVERSAMPLING)
    return sheet.resize((SIZE, SIZE), Image.Resampling.LANCZOS)


def _outline(shape: str, side: int) -> list[tuple[float, float]]:
    middle, reach = side / 2, side * 0.46
    if shape == "square":
        corners = [(-1, -1), (1, -1), (1, 1), (-1, 1)]
    elif shape == "lozenge":
        corners = [(0, -1.06), (1.06, 0), (0, 1.06), (-1.06, 0)]
    elif shape == "round":
        corners = [(math.cos(turn), math.sin(turn)) for turn in np.linspace(0, 2 * math.pi, 48, endpoint=False)]
    else:
        curve = [(math.cos(turn), 0.1 + 0.95 * math.sin(turn)) for turn in np.linspace(0, math.pi, 24)]
        corners = [(-1, -1), (1, -1), *curve]
    return [(middle + x * reach, middle + y * reach) for x, y in corners]


def _draw_division(pen: ImageDraw.ImageDraw, emblem: Emblem, side: int) -> None:
    colour, half = COLOURS[emblem.second], side / 2
    if emblem.division == "halved upright":
        pen.rectangle((half, 0, side, side), fill=colour)
    elif emblem.division == "halved level":
        pen.rectangle((0, half, side, side), fill=colour)
    elif emblem.division == "halved slantwise":
        pen.polygon([(0, 0), (side, 0), (side, side)], fill=colour)
    elif emblem.division == "quartered":
        pen.rectangle((half, 0, side, half), fill=colour)
        pen.rectangle((0, half, half, side), fill=colour)
    elif emblem.division == "banded":
        pen.rectangle((0, side * 0.36, side, side * 0.64), fill=colour)


def _draw_charge(ground: Image.Image, emblem: Emblem, x: float, y: float, radius: float) -> None:
    """Draw one charge around the point x, y."""
    pen, colour, edge = ImageDraw.Draw(ground), COLOURS[emblem.colour], (20, 20, 20)

    def scale(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
        return [(x + px * radius, y + py * radius) for px, py in points]

    if emblem.charge in OUTLINES:
        pen.polygon(scale(OUTLINES[emblem.charge]), fill=colour, outline=edge)
    elif emblem.charge == "disc":
        pen.ellipse([*scale([(-0.9, -0.9)])[0], *scale([(0.9, 0.9)])[0]], fill=colour, outline=edge)
    elif emblem.charge == "ring":
        pen.ellipse([*scale([(-1, -1)])[0], *scale([(1, 1)])[0]], outline=colour, width=max(2, int(radius * 0.35)))
    else:  # a crescent: one disc cut out of another
        mask = Image.new("L", ground.size, 0)
        cut = ImageDraw.Draw(mask)
        cut.ellipse([*scale([(-1, -1)])[0], *scale([(1, 1)])[0]], fill=255)
        cut.ellipse([*scale([(-0.45, -1.05)])[0], *scale([(1.35, 0.75)])[0]], fill=0)
        ground.paste(colour, mask=mask)


def _star() -> list[tuple[float, float]]:
    turns = [math.pi * step / 5 - math.pi / 2 for step in range(10)]
    return [((1, 0.42)[n % 2] * math.cos(turn), (1, 0.42)[n % 2] * math.sin(turn)) for n, turn in enumerate(turns)]


def _wave() -> list[tuple[float, float]]:
    across = np.linspace(-1, 1, 25)
    top = [(float(x), 0.4 * math.sin(2 * math.pi * x) - 0.25) for x in across]
    return top + [(x, y + 0.5) for x, y in reversed(top)]


OUTLINES = {
    "star": _star(),
    "wave": _wave(),
    "cross": [
        (-0.3, -1),
        (0.3, -1),
        (0.3, -0.3),
        (1, -0.3),
        (1, 0.3),
        (0.3, 0.3),
        (0.3, 1),
        (-0.3, 1),
        (-0.3, 0.3),
        (-1, 0.3),
        (-1, -0.3),
        (-0.3, -0.3),
    ],
    "tower": [
        (-0.6, 1),
        (-0.6, -0.4),
        (-0.8, -0.4),
        (-0.8, -1),
        (-0.4, -1),
        (-0.4, -0.7),
        (-0.2, -0.7),
        (-0.2, -1),
        (0.2, -1),
        (0.2, -0.7),
        (0.4, -0.7),
        (0.4, -1),
        (0.8, -1),
        (0.8, -0.4),
        (0.6, -0.4),
        (0.6, 1),
    ],
    "tree": [(0, -1), (0.8, 0.4), (0.2, 0.4), (0.2, 1), (-0.2, 1), (-0.2, 0.4), (-0.8, 0.4)],
    "arrow": [(0, -1), (0.7, -0.1), (0.25, -0.1), (0.25, 1), (-0.25, 1), (-0.25, -0.1), (-0.7, -0.1)],
    "diamond": [(0, -1), (0.6, 0), (0, 1), (-0.6, 0)],
}


# ---- photographs -----------------------------------------------------------------------------------------------------
def photograph_emblem(emblem: Emblem, rng: random.Random) -> Image.Image:
    """Return a variant: rotated by up to 20 degrees, cropped by up to 12 percent, relighted, with noise."""
    image = draw_emblem(emblem).rotate(
        rng.uniform(-20, 20), Image.Resampling.BICUBIC, fillcolor=tuple(rng.randint(200, 255) for _ in range(3))
    )
    margin = [int(rng.uniform(0, 0.12) * SIZE) for _ in range(4)]
    image = image.crop((margin[0], margin[1], SIZE - margin[2], SIZE - margin[3])).resize((SIZE, SIZE))
    pixels = np.asarray(image, dtype=np.float32)
    light = np.array([rng.uniform(0.8, 1.15) for _ in range(3)], dtype=np.float32)
    noise = np.random.default_rng(rng.getrandbits(32)).normal(0, 10, pixels.shape)
    return Image.fromarray(np.clip(pixels * light + noise, 0, 255).astype(np.uint8))
