"""Short English texts of several genres, drawn from templates, as lists of sentences in the present tense."""

import random
import re
from dataclasses import dataclass

NAMES = tuple(
    "Anna Bruno Carla David Elsa Farid Greta Hugo Irene Jonas Karin Liam Marta Noah Olga Pedro Rosa Samir Tara Victor"
    " Wanda Yusuf Zoe Milo Nora Oscar Petra Quentin Rita Simon".split()
)
PLACES = tuple(
    "the library,the harbour,the old mill,the market,the station,the school,the museum,the bakery,the town hall,"
    "the park,the lighthouse,the workshop,the theatre,the hospital,the farm,the river bank,the post office,the gym,"
    "the garden,the castle".split(",")
)
DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
TIMES = ("at nine", "at noon", "at half past three", "before sunset", "in the early morning", "after lunch", "at ten")
FOODS = tuple(
    "carrots,lentils,apples,mushrooms,onions,potatoes,chickpeas,pears,tomatoes,beans,plums,pumpkins,cabbages,leeks".split(
        ","
    )
)
SPICES = ("salt", "pepper", "cinnamon", "thyme", "ginger", "cumin", "basil", "paprika", "nutmeg", "mint")
THINGS = tuple(
    "lamp,bicycle,umbrella,clock,radio,kettle,suitcase,guitar,camera,ladder,blanket,telescope,teapot,drum,mirror,"
    "chair,basket,lantern,violin,compass".split(",")
)
COLOURS = ("red", "green", "blue", "yellow", "grey", "white", "brown", "purple", "orange", "black")
ANIMALS = ("dog", "cat", "goat", "horse", "parrot", "rabbit", "donkey", "goose", "hedgehog", "pony", "fox", "owl")
WEATHER = ("rain", "fog", "snow", "sunshine", "a storm", "hail", "a cold wind", "heavy clouds")
ADJECTIVES = ("heavy", "small", "strange", "cheap", "shiny", "quiet", "broken", "famous", "dusty", "warm", "narrow")
NUMBERS = ("two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "twelve")

# Sentences of each genre: one of each line is drawn. {name} and {other} are two people; each slot keeps its value
# within a text, so that sentences speak of the same things.
GENRES: dict[str, tuple[tuple[str, ...], ...]] = {
    "note": (
        ("{name} takes the {thing} to {place} {time}.", "{name} needs the {colour} {thing} on {day}."),
        ("The key is under the {adjective} {thing2}.", "The door of {place} is open until {day}."),
        ("{other} knows the way to {place2}.", "{other} has {number} spare tickets for {place2}."),
        ("The {animal} gets its food {time2}.", "The {animal} sleeps in the kitchen."),
    ),
    "letter": (
        ("The days at {place} are long and full of {weather}.", "Life near {place} is {adjective} this year."),
        ("{other} and I work {number} hours a day.", "I think of you every {day}."),
        ("Every {day} we walk to {place2} with the {animal}.", "The {animal} follows us to {place2}."),
        ("I still have your {colour} {thing}.", "Your {thing} is on my {adjective} table."),
        ("{name} sends you greetings.", "{name} hopes to see you {time}."),
    ),
    "recipe": (
        ("The cook washes {number} cups of {food}.", "The cook cuts the {food} into {adjective} pieces."),
        ("The {food2} go into the pot with {spice}.", "A spoon of {spice} goes over the {food2}."),
        ("Everything cooks for {number2} minutes.", "The soup stays on the fire for {number2} minutes."),
        ("The cook adds {spice2} and stirs slowly.", "A pinch of {spice2} makes the taste complete."),
        ("The dish needs a {colour} bowl.", "The guests get it with bread {time}."),
    ),
    "notice": (
        ("{place} is closed on {day}.", "{place} opens {time} on {day}."),
        ("{number} workers repair the {adjective} roof.", "A team of {number} paints the walls {colour}."),
        ("Visitors use the entrance at {place2}.", "The tickets are on sale at {place2}."),
        ("{name} answers questions {time2}.", "{name} at the desk has a list of all changes."),
    ),
    "diary": (
        ("I wake up to {weather}.", "The morning begins with {weather}."),
        ("{name} comes to my house with a {colour} {thing}.", "I find a {adjective} {thing} behind the house."),
        ("We walk to {place} and meet {other}.", "{other} waits for us at {place}."),
        ("Later I read a book about a {animal}.", "Later a {animal} runs across the road."),
        ("The day ends with tea and {food}.", "I go to bed {time}."),
    ),
    "news": (
        ("A {animal} escapes from {place}.", "{number} people see a {animal} at {place}."),
        ("{name} finds it near {place2} {time}.", "{name} catches it with a {colour} {thing}."),
        ("The mayor thanks {other} for the help.", "{other} calls it a {adjective} day."),
        ("The weather brings {weather} on {day}.", "The town expects {weather} until {day}."),
    ),
    "product": (
        ("This {thing} is {adjective} and {colour}.", "The new {thing} comes in {colour} and {colour2}."),
        ("It weighs {number} pounds and needs no tools.", "It lasts for {number} years."),
        ("{name} uses it every {day} at {place}.", "Customers at {place} like it."),
        ("The box holds a {thing2} as well.", "A {colour2} {thing2} comes with it."),
    ),
    "story": (
        ("A {adjective} {animal} lives near {place}.", "An old {animal} guards {place}."),
        ("Every {day} it looks for {food}.", "It owns a {colour} {thing} and nothing else."),
        ("{name} brings it a {thing2} {time}.", "{name} follows its tracks through {weather}."),
        ("Together they travel to {place2}.", "They hide behind {place2} for {number} days."),
        ("{other} never hears of it.", "In the end {other} opens the gate."),
    ),
    "review": (
        ("The café beside {place} serves {food} with {spice}.", "The new hotel near {place} has {number} rooms."),
        ("The {thing} on the wall is {colour}.", "Every table has a {adjective} {thing}."),
        ("{name} brings the bill {time}.", "The waiter {name} knows every guest."),
        ("The {food2} taste of {spice2}.", "The {food2} are cold but the tea is hot."),
    ),
    "guide": (
        ("The path begins at {place}.", "The tour starts {time} in front of {place}."),
        ("After {number} bridges it turns to {place2}.", "It passes {place2} and a {colour} house."),
        ("Hikers carry a {thing} and some {food}.", "{name} shows the visitors a {adjective} {thing}."),
        ("In {weather} the way is dangerous.", "On {day} a {animal} greets the guests."),
    ),
}


@dataclass(frozen=True)
class Text:
    """A text before it is rewritten.

    Attributes:
        genre: a key of `GENRES`.
        sentences: in their order, each with its full stop.
        people: the two names that it may hold.
    """

    genre: str
    sentences: tuple[str, ...]
    people: tuple[str, str]

    @property
    def text(self) -> str:
        """The sentences in one paragraph."""
        return " ".join(self.sentences)


def draw(rng: random.Random) -> Text:
    """Return a text of a random genre."""
    genre = rng.choice(list(GENRES))
    slots = _draw_slots(rng)
    sentences = [_correct(rng.choice(line).format(**slots)) for line in GENRES[genre]]
    return Text(genre, tuple(sentences), (slots["name"], slots["other"]))


def _correct(sentence: str) -> str:
    """Begin with a capital, and write `an` before vowels."""
    return re.sub(r"\b([Aa]) (?=[aeiou])", r"\1n ", sentence[0].upper() + sentence[1:])


def _draw_slots(rng: random.Random) -> dict[str, str]:
    pairs = {
        ("name", "other"): NAMES,
        ("place", "place2"): PLACES,
        ("time", "time2"): TIMES,
        ("food", "food2"): FOODS,
        ("spice", "spice2"): SPICES,
        ("thing", "thing2"): THINGS,
        ("colour", "colour2"): COLOURS,
        ("number", "number2"): NUMBERS,
    }
    slots = {}
    for names, values in pairs.items():
        slots |= dict(zip(names, rng.sample(values, 2), strict=True))
    for name, values in {"day": DAYS, "animal": ANIMALS, "weather": WEATHER, "adjective": ADJECTIVES}.items():
        slots[name] = rng.choice(values)
    return slots
