"""Rules that rewrite a text, as a language model would under a prompt, and the words that the prompts are made of.

A family is a kind of rewriting: its rule, and phrases that ask for it, each of which begins with a verb in lower case.
"""

import json
import random
import re
from collections.abc import Callable
from dataclasses import dataclass

from rounds.data.synthetic.rewrites.texts import DAYS, NAMES, Text

Rule = Callable[[Text], str]

PAST = {
    "takes": "took",
    "needs": "needed",
    "is": "was",
    "are": "were",
    "knows": "knew",
    "has": "had",
    "have": "had",
    "gets": "got",
    "sleeps": "slept",
    "work": "worked",
    "think": "thought",
    "walk": "walked",
    "follows": "followed",
    "sends": "sent",
    "hopes": "hoped",
    "washes": "washed",
    "cuts": "cut",
    "goes": "went",
    "taste": "tasted",
    "cooks": "cooked",
    "stays": "stayed",
    "adds": "added",
    "stirs": "stirred",
    "makes": "made",
    "get": "got",
    "opens": "opened",
    "repair": "repaired",
    "paints": "painted",
    "use": "used",
    "uses": "used",
    "answers": "answered",
    "wake": "woke",
    "begins": "began",
    "comes": "came",
    "find": "found",
    "finds": "found",
    "meet": "met",
    "waits": "waited",
    "read": "read",
    "runs": "ran",
    "ends": "ended",
    "go": "went",
    "escapes": "escaped",
    "see": "saw",
    "catches": "caught",
    "thanks": "thanked",
    "calls": "called",
    "brings": "brought",
    "expects": "expected",
    "weighs": "weighed",
    "lasts": "lasted",
    "like": "liked",
    "holds": "held",
    "lives": "lived",
    "guards": "guarded",
    "looks": "looked",
    "owns": "owned",
    "travel": "travelled",
    "hide": "hid",
    "hears": "heard",
    "serves": "served",
    "tastes": "tasted",
    "starts": "started",
    "turns": "turned",
    "passes": "passed",
    "carry": "carried",
    "shows": "showed",
    "greets": "greeted",
}
EMOJI = "😀🌟🎉🚀🌈🍀🔥🎵"
ABBREVIATIONS = {"you": "u", "are": "r", "for": "4", "to": "2", "and": "&", "with": "w/", "at": "@", "see": "c"}
SMALL_WORDS = frozenset("the a an of to in and with is are it its for at on my we i this that".split())
ROMAN = ("I", "II", "III", "IV", "V", "VI")


def _stem(sentence: str) -> str:
    """Return a sentence without its full stop."""
    return sentence.rstrip(".")


def _inner(sentence: str) -> str:
    """Return a sentence as it stands within another: names and `I` keep their capital."""
    keeps_capital = sentence.split()[0] in ("I", *NAMES, *DAYS)
    return _stem(sentence if keeps_capital else sentence[0].lower() + sentence[1:])


def _words(text: Text) -> list[str]:
    return re.findall(r"[\w']+", text.text)


def _keywords(text: Text, count: int) -> list[str]:
    """Return the longest different words in the order of the text."""
    words = list(dict.fromkeys(word.lower() for word in _words(text) if len(word) > 3))
    longest = set(sorted(words, key=lambda word: (-len(word), word))[:count])
    return [word for word in words if word in longest]


def _each(template: str, separator: str = "\n") -> Rule:
    """Return the rule that puts each sentence into a template.

    The template may name `whole` (the sentence), `stem` (without full stop), `inner` (within another sentence),
    `number`, `letter`, `roman`, `left` (counted down) and `hour`.
    """

    def rule(text: Text) -> str:
        count = len(text.sentences)
        return separator.join(
            template.format(
                whole=sentence,
                stem=_stem(sentence),
                inner=_inner(sentence),
                number=place + 1,
                letter="abcdef"[place],
                roman=ROMAN[place],
                left=count - place,
                hour=f"{8 + place:02d}:00",
            )
            for place, sentence in enumerate(text.sentences)
        )

    return rule


def _around(before: str, after: str = "") -> Rule:
    """Return the rule that puts words before and behind the text; `{name}` and `{other}` are its people."""

    def rule(text: Text) -> str:
        name, other = text.people
        return f"{before}{{text}}{after}".format(text=text.text, name=name, other=other)

    return rule


def _by_word(change: Callable[[str], str]) -> Rule:
    """Return the rule that changes every word and leaves the rest as it is."""
    return lambda text: re.sub(r"[\w']+", lambda match: change(match[0]), text.text)


def _pig_latin(word: str) -> str:
    start = re.match(r"[^aeiouAEIOU]*", word)[0]
    return f"{word[len(start) :]}{start}ay".lower()


def _abbreviate(word: str) -> str:
    return ABBREVIATIONS.get(word.lower(), word.lower())


def _past(word: str) -> str:
    return PAST.get(word, word)


def _redact(text: Text) -> str:
    return re.sub("|".join(text.people), "[redacted]", text.text)


def _dialogue(text: Text) -> str:
    speakers = text.people
    return "\n".join(f"{speakers[place % 2]}: {sentence}" for place, sentence in enumerate(text.sentences))


def _short_lines(text: Text) -> str:
    words = text.text.split()
    return "\n".join(" ".join(words[start : start + 4]) for start in range(0, len(words), 4))


def _refrain(text: Text) -> str:
    return "\n".join(f"{sentence}\nLa la la, sing along!" for sentence in text.sentences)


def _telegram(text: Text) -> str:
    kept = [[word for word in _stem(one).split() if word.lower() not in SMALL_WORDS] for one in text.sentences]
    return " STOP ".join(" ".join(words).upper() for words in kept) + " STOP"


def _as_json(text: Text) -> str:
    return json.dumps({"genre": text.genre, "sentences": list(text.sentences)}, indent=1)


def _as_html(text: Text) -> str:
    return "<ul>\n" + "\n".join(f"<li>{sentence}</li>" for sentence in text.sentences) + "\n</ul>"


def _as_table(text: Text) -> str:
    rows = "\n".join(f"| {place} | {_stem(one)} |" for place, one in enumerate(text.sentences, 1))
    return f"| no. | fact |\n| --- | --- |\n{rows}"


def _tweet(text: Text) -> str:
    return f"{text.sentences[0]} " + " ".join(f"#{word}" for word in _keywords(text, 3))


def _cloze(text: Text) -> str:
    hidden = set(_keywords(text, 4))
    return _by_word(lambda word: "____" if word.lower() in hidden else word)(text)


def _emoji(text: Text) -> str:
    return " ".join(f"{_stem(one)} {EMOJI[len(one) % len(EMOJI)]}" for one in text.sentences)


def _camel(text: Text) -> str:
    first, *rest = _words(text)
    return first.lower() + "".join(word.capitalize() for word in rest)


@dataclass(frozen=True)
class Family:
    """A kind of rewriting.

    Attributes:
        rule: rewrites a text.
        phrases: what the prompts ask for.
    """

    rule: Rule
    phrases: tuple[str, ...]


def _family(rule: Rule, phrases: str) -> Family:
    """Return a family whose phrases are divided by `|`."""
    return Family(rule, tuple(phrase.strip() for phrase in phrases.split("|")))


FAMILIES: dict[str, Family] = {
    # letters and words
    "capitals": _family(
        lambda text: text.text.upper(),
        "write the text in capital letters|put everything into upper case|change every letter to a capital",
    ),
    "lower case": _family(
        lambda text: text.text.lower(),
        "write everything in lower case|remove all capital letters|use small letters only",
    ),
    "title case": _family(
        lambda text: text.text.title(),
        "begin every word with a capital letter|set the text in title case|capitalise each word",
    ),
    "swapped case": _family(
        lambda text: text.text.swapcase(),
        "swap capital and small letters|invert the case of every letter|turn capitals small and small letters capital",
    ),
    "no vowels": _family(
        lambda text: re.sub("[aeiouAEIOU]", "", text.text),
        "leave out all vowels|write the text without vowels|delete every a, e, i, o and u",
    ),
    "stars for vowels": _family(
        lambda text: re.sub("[aeiouAEIOU]", "*", text.text),
        "put a star in the place of each vowel|replace vowels by asterisks|mask the vowels with stars",
    ),
    "no spaces": _family(
        lambda text: text.text.replace(" ", ""),
        "remove all spaces|write the words without gaps|join all words into one string",
    ),
    "spaced letters": _family(
        lambda text: " ".join(text.text.replace(" ", "_")),
        "put a space between all letters|spread the letters apart|space out each character",
    ),
    "first letters": _family(
        lambda text: " ".join(word[0].upper() for word in _words(text)),
        "keep only the first letter of each word|reduce the words to their initials|turn the text into initials",
    ),
    "backward words": _family(
        _by_word(lambda word: word[::-1]),
        "spell each word backwards|reverse the letters of every word|mirror the spelling of each word",
    ),
    "pig latin": _family(
        _by_word(_pig_latin),
        "translate the text into pig latin|speak pig latin|move first consonants to the end and add ay",
    ),
    "hyphens": _family(
        lambda text: "-".join(_words(text)),
        "join the words with hyphens|connect all words by dashes|put hyphens between the words",
    ),
    "snake case": _family(
        lambda text: "_".join(_words(text)).lower(),
        "write the text in snake case|use underscores between lower-case words|name it like a Python variable",
    ),
    "camel case": _family(
        _camel, "write the text in camel case|make one camelCase word of it|name it like a Java variable"
    ),
    "sorted words": _family(
        lambda text: " ".join(sorted(map(str.lower, _words(text)))),
        "sort the words alphabetically|list the words from A to Z|order all words by the alphabet",
    ),
    "one word a line": _family(
        lambda text: "\n".join(_words(text)),
        "put each word on a line of its own|write one word per line|break the line after every word",
    ),
    "hashtags": _family(
        lambda text: " ".join(f"#{word.lower()}" for word in _words(text)),
        "make a hashtag of every word|turn all words into hashtags|put a hash sign before each word",
    ),
    "keywords": _family(
        lambda text: "Keywords: " + ", ".join(_keywords(text, 6)),
        "extract the keywords|list the most important words|name six key terms of the text",
    ),
    "blanks": _family(
        _cloze, "hide some words as blanks|make a fill-in-the-blank exercise|turn it into a cloze test for pupils"
    ),
    "text message": _family(
        _by_word(_abbreviate),
        "write it as a text message with abbreviations|use texting shorthand|shorten the words as teenagers text",
    ),
    "past tense": _family(
        _by_word(_past),
        "put the verbs into the past tense|tell it as something that has happened|change the present tense to the past",
    ),
    "redacted": _family(_redact, "black out the names of people|redact all names|anonymise the persons in the text"),
    # order and choice of sentences
    "one sentence": _family(
        lambda text: text.sentences[0],
        "shorten the text to one sentence|keep only the first sentence|sum it up in a single sentence",
    ),
    "ending": _family(
        lambda text: text.sentences[-1],
        "say only how it ends|keep only the last sentence|skip to the ending",
    ),
    "longest sentence": _family(
        lambda text: max(text.sentences, key=len),
        "keep only the longest sentence|quote the sentence with the most letters|pick out the longest statement",
    ),
    "reversed sentences": _family(
        lambda text: " ".join(text.sentences[::-1]),
        "reverse the order of the sentences|begin with the last sentence and end with the first|tell it back to front",
    ),
    "cliffhanger": _family(
        lambda text: " ".join(text.sentences[:-1]) + " And then ...",
        "end with a cliffhanger|leave the ending open|break off before the last sentence to create suspense",
    ),
    "repeated": _family(
        _each("{whole} {whole}", " "),
        "say every sentence twice|repeat each sentence|double all sentences",
    ),
    "and then": _family(
        _each("{inner}", ", and then "),
        "join all sentences with and then|make one endless sentence of it|tell it breathlessly in one long sentence",
    ),
    "separate lines": _family(
        _each("{whole}"),
        "start a new line for each sentence|put every sentence on its own line|break the lines between sentences",
    ),
    # lists and formats
    "bullet points": _family(
        _each("- {stem}"),
        "use bullet points|rewrite the text as a bulleted list|list the facts with dashes",
    ),
    "numbered steps": _family(
        _each("{number}. {whole}"),
        "write it as numbered steps|number the sentences|turn the text into step-by-step instructions",
    ),
    "lettered list": _family(
        _each("{letter}) {stem}"),
        "make a list with letters a, b, c|letter the sentences|enumerate the facts by letters",
    ),
    "roman numerals": _family(
        _each("{roman}. {stem}"),
        "number the sentences with Roman numerals|make a list in Roman numbers|count the facts as ancient Rome did",
    ),
    "countdown": _family(
        _each("{left}... {whole}"),
        "count down through the sentences|number the sentences backwards|make a countdown of it",
    ),
    "checklist": _family(
        _each("[ ] {stem}"),
        "write it as a to-do list|make a checklist with boxes|turn the sentences into tasks to tick off",
    ),
    "timetable": _family(
        _each("{hour} {stem}"),
        "make a timetable of it|give each sentence a time of day|write the text as a schedule with hours",
    ),
    "table": _family(_as_table, "put the facts into a table|write it as a Markdown table|make two columns of it"),
    "json": _family(_as_json, "convert the text to JSON|return a JSON object|store the sentences as JSON"),
    "html": _family(_as_html, "write it as an HTML list|mark the sentences up in HTML|make list items for a web page"),
    "quotation": _family(
        _each("> {whole}"),
        "quote the text with angle brackets|make a block quotation of it|format it as a quote in an e-mail",
    ),
    "parentheses": _family(
        _each("({stem})", " "),
        "put each sentence into brackets|write everything in parentheses|enclose the sentences in round brackets",
    ),
    "heading": _family(
        lambda text: f"# About a {text.genre}\n\n{text.text}",
        "add a heading|give the text a Markdown title|put a headline with a hash sign above the text",
    ),
    "headline": _family(
        lambda text: " ".join(_stem(text.sentences[0]).split()[:6]).upper() + "!",
        "make a newspaper headline of it|turn the text into a headline|write only a catchy headline",
    ),
    "questions": _family(
        _each("Is it true that {inner}?", " "),
        "ask questions instead of stating facts|turn every sentence into a question|rewrite statements as questions",
    ),
    "did you know": _family(
        _each("Did you know that {inner}?", " "),
        "write it as fun facts|present the text as trivia|make did-you-know facts of it",
    ),
    "faq": _family(
        _each("Q: What about point {number}?\nA: {whole}"),
        "write it as frequently asked questions|make an FAQ with questions and answers|turn it into a Q and A page",
    ),
    "observations": _family(
        _each("Observation {number}: {inner}."),
        "write it as a scientist's observations|make a laboratory report of it|record the facts like a researcher",
    ),
    "contract": _family(
        _each("Article {number}. The parties agree that {inner}."),
        "write it as a legal contract|use the language of lawyers|make articles of an agreement of it",
    ),
    # forms and voices
    "letter": _family(
        _around("Dear {other},\n\n", "\n\nYours sincerely,\n{name}"),
        "write it as a letter|turn the text into a letter to a friend|add a salutation and a closing as in a letter",
    ),
    "e-mail": _family(
        _around("Subject: News from {name}\n\nHi {other},\n\n", "\n\nBest regards\n{name}"),
        "write it as an e-mail|make an e-mail with a subject line|draft an e-mail from this",
    ),
    "diary": _family(
        _around("Dear diary, today I write this down. ", " Good night, dear diary."),
        "write it as a diary entry|tell your diary about it|make it a page of a personal journal",
    ),
    "tweet": _family(_tweet, "write it as a tweet|make a short post with hashtags|post this on social media"),
    "telegram": _family(_telegram, "write it as a telegram|use telegram style with STOP|send it by telegraph"),
    "dialogue": _family(
        _dialogue, "write it as a dialogue|let two people talk about it|turn the text into a conversation"
    ),
    "song": _family(_refrain, "write it as a song|add a chorus to sing|turn the text into song lyrics with a refrain"),
    "poem": _family(_short_lines, "write it as a poem|break the text into short verses|use the form of a free poem"),
    "news": _family(
        _around("BREAKING NEWS: ", " This was our reporter {name}."),
        "write it as breaking news|report it like a news channel|present it as a television reporter would",
    ),
    "radio": _family(
        _around("Good evening, dear listeners. ", " Stay tuned for more music."),
        "read it on the radio|make a radio announcement of it|speak like a radio host",
    ),
    "speech": _family(
        _around("Ladies and gentlemen, it is an honour to speak to you. ", " Thank you for your attention."),
        "write it as a speech|address an audience|turn it into a formal talk to ladies and gentlemen",
    ),
    "fairy tale": _family(
        _around("Once upon a time, in a land far away, this happened. ", " And they lived happily ever after."),
        "write it as a fairy tale|tell it like a bedtime story|begin with once upon a time",
    ),
    "advertisement": _family(
        _around("Special offer! ", " Buy now and save half the price!"),
        "write it as an advertisement|advertise it|turn the text into a sales pitch",
    ),
    "invitation": _family(
        _around("You are warmly invited! ", " Please reply by Friday."),
        "write it as an invitation|invite the reader|make a card that invites guests",
    ),
    "birthday card": _family(
        _around("Happy birthday, dear {other}! ", " Many happy returns of the day!"),
        "write it as a birthday card|add birthday wishes|make it a greeting for somebody's birthday",
    ),
    "thanks": _family(
        _around("Thank you so much for everything. ", " With all my gratitude, {name}."),
        "write it as a thank-you note|express gratitude|thank the reader warmly",
    ),
    "apology": _family(
        _each("I am sorry to say that {inner}.", " "),
        "apologise for everything|write it as an apology|sound deeply sorry about all of it",
    ),
    "polite": _family(
        _each("If you would be so kind as to note, {inner}.", " "),
        "make it more polite|use very courteous language|rewrite the text with exquisite manners",
    ),
    "formal": _family(
        _each("It is hereby announced that {inner}.", " "),
        "write it as an official announcement|use a formal tone|sound like a public authority",
    ),
    "warning": _family(
        _around("WARNING! Danger! ", " Proceed at your own risk!"),
        "write it as a warning|warn the reader of danger|make a danger sign of it",
    ),
    "secret": _family(
        _each("Don't tell anyone, but {inner}.", " "),
        "write it as gossip|share it like a secret|whisper it as a rumour",
    ),
    "sarcastic": _family(
        _each("Oh great, {inner}. How wonderful.", " "),
        "be sarcastic|mock the text with irony|rewrite it in a sarcastic tone",
    ),
    "enthusiastic": _family(
        _each("Wow, {inner}!!! Amazing!", " "),
        "sound very enthusiastic|show great excitement|rewrite it with overflowing joy",
    ),
    "sad": _family(
        _each("Alas, {inner}...", " "),
        "make it sad|use a melancholy mood|mourn over every sentence",
    ),
    "emoji": _family(_emoji, "add emojis|end every sentence with an emoji|decorate the text with smileys"),
    "pirate": _family(
        _each("Arr, {inner}, matey!", " "),
        "talk like a pirate|rewrite it as a pirate captain would|use the speech of the seven seas",
    ),
    "cowboy": _family(
        _each("Howdy partner, {inner}, yee-haw!", " "),
        "talk like a cowboy|rewrite it in the style of the Wild West|sound like a rodeo rider",
    ),
    "robot": _family(
        _each("BEEP. {stem}. BOOP.", " "),
        "talk like a robot|rewrite it as a machine would speak|sound like an android",
    ),
    "shakespeare": _family(
        _each("Hark! Verily, {inner}, forsooth!", " "),
        "write it in the style of Shakespeare|use Elizabethan English|make a noble play of it",
    ),
    "sports": _family(
        _each("And here we go, {inner}! What a moment!", " "),
        "comment on it like a sports reporter|make a live commentary of a match|sound like a football commentator",
    ),
    "grandparent": _family(
        _each("Back in my day, my dear, {inner}.", " "),
        "tell it like an old grandmother|speak as grandfather does|remember it as an old person would",
    ),
    "child": _family(
        _around("Listen, little one, here is something easy to understand. ", " Isn't that fun?"),
        "explain it to a child|make it suitable for five-year-olds|tell it to a toddler",
    ),
    "detective": _family(
        _each("Clue number {number}: {inner}."),
        "write it as a detective's clues|make a crime case of it|investigate it like an inspector",
    ),
    "witness": _family(
        _each("The witness states that {inner}.", " "),
        "write it as a witness statement|report it as testimony in court|use indirect speech of a witness",
    ),
}

# How a person puts a phrase into a prompt.
FRAMES = (
    "{Phrase}.",
    "{Phrase}, please.",
    "Please {phrase}.",
    "Could you {phrase}?",
    "I would like you to {phrase}.",
    "Your task is to {phrase}.",
    "Rewrite the following: {phrase}.",
    "Take this text and {phrase}.",
    "Now {phrase}",
    "Rework this passage. {Phrase}.",
)

# Words that prompts of the family `replace` ask to exchange, and what for.
REPLACED = "the|is|and|to|with|at"
REPLACEMENTS = ("banana", "dragon", "spoon", "moon", "cactus", "pickle", "wizard", "penguin")
REPLACE_PHRASES = (
    "replace every '{old}' by '{new}'",
    "write '{new}' wherever '{old}' stands",
    "exchange the word '{old}' for '{new}'",
)


def prompts(family: str) -> list[str]:
    """Return all prompts of a family of `FAMILIES`."""
    return [_frame(frame, phrase) for phrase in FAMILIES[family].phrases for frame in FRAMES]


def _frame(frame: str, phrase: str) -> str:
    return frame.format(phrase=phrase, Phrase=phrase[0].upper() + phrase[1:])


def replacement_prompt(text: Text, rng: random.Random) -> tuple[str, str]:
    """Return a prompt that replaces a word of the text, and the rewriting."""
    present = [word for word in REPLACED.split("|") if re.search(rf"\b{word}\b", text.text, re.IGNORECASE)]
    old, new = rng.choice(present or ["the"]), rng.choice(REPLACEMENTS)
    phrase = rng.choice(REPLACE_PHRASES).format(old=old, new=new)
    rewriting = re.sub(rf"\b{old}\b", new, text.text, flags=re.IGNORECASE)
    return _frame(rng.choice(FRAMES[:4]), phrase), rewriting
