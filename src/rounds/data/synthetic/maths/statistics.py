"""Averages and charts."""

# ruff: noqa: E501 - the tables keep one slip a line
from __future__ import annotations

from fractions import Fraction

from .fractions import REMAINS
from .question import Slip, Template, degrees, family

WRONG_SUMMARY = "Gives the {} where another summary is wanted"
SPREAD, MIDDLE, COMMON, LEVEL = (
    WRONG_SUMMARY.format(word) for word in ("spread", "middle one", "commonest one", "levelled-out one")
)
UNSORTED = "Leaves a list as it comes and does not put it in order"
DENIES = "Finds how likely it is that something does not happen"


def data(r, count: int) -> dict:
    """A list with one repeated value."""
    values = r.sample(range(2, 25), count - 1)
    values.append(r.choice(values))
    r.shuffle(values)
    return {"list": tuple(values)}


def shown(p) -> dict:
    """The list as the question prints it."""
    return {"s": ", ".join(map(str, p.list))}


def middle(values) -> Fraction:
    """The centre of values as they stand."""
    values = list(values)
    half = len(values) // 2
    return Fraction(values[half]) if len(values) % 2 else Fraction(values[half - 1] + values[half], 2)


def mode(p) -> int:
    """The commonest value."""
    return max(p.list, key=p.list.count)


def spread(p) -> int:
    """Largest minus smallest."""
    return max(p.list) - min(p.list)


def mean(p) -> Fraction:
    """Total over count."""
    return Fraction(sum(p.list), len(p.list))


def whole_mean(r) -> dict:
    """A list whose mean is a whole number."""
    while True:
        drawn = data(r, r.randint(5, 6))
        if sum(drawn["list"]) % len(drawn["list"]) == 0:
            return drawn


def table(p) -> str:
    """Values and frequencies in a ruled table."""
    rows = "\n".join(
        f"\\hline \\( {value} \\) & \\( {count} \\) \\\\" for value, count in zip(p.values, p.counts, strict=True)
    )
    return "\\begin{tabular}{|c|c|}\n\\hline Goals & Frequency \\\\\n" + rows + "\n\\hline\n\\end{tabular}"


def frequencies(r) -> dict:
    """Values 0 to 4 with frequencies that give a mean with at most two decimals."""
    while True:
        counts = r.sample(range(1, 13), 5)
        if sum(counts) in (20, 25, 40, 50) and counts.index(max(counts)) > 0:
            return {"values": (0, 1, 2, 3, 4), "counts": tuple(counts)}


def total(p) -> int:
    """The sum of values, each as often as it occurs."""
    return sum(value * count for value, count in zip(p.values, p.counts, strict=True))


def expanded(p) -> list[int]:
    """Every value as often as it occurs."""
    return [value for value, count in zip(p.values, p.counts, strict=True) for _ in range(count)]


AVERAGES = (
    Template(
        key="mean",
        construct="Calculate the mean from a list of data",
        subject="Averages of a List",
        draw=whole_mean,
        answer=mean,
        say=shown,
        wordings=(
            "What is the mean of these numbers?\n\\( <s> \\)",
            "Find the mean of \\( <s> \\)",
            "<name> counts the birds in the garden each day: \\( <s> \\) What is the mean number of birds?",
        ),
        slips=(
            *family(
                "When calculating the mean, shares a total among <k>",
                (("one fewer than were counted", -1), ("one more than were counted", 1)),
                lambda p, k: Fraction(sum(p.list), len(p.list) + k),
            ),
            Slip(
                "When calculating the mean, shares a total between two, however many were counted",
                lambda p: Fraction(sum(p.list), 2),
            ),
            Slip("Collects everything and shares nothing out", lambda p: sum(p.list)),
            Slip(MIDDLE, lambda p: middle(sorted(p.list))),
            Slip(COMMON, mode),
            Slip(SPREAD, spread),
            Slip(
                "Levels out the two extremes and ignores what lies between",
                lambda p: Fraction(max(p.list) + min(p.list), 2),
            ),
            Slip(
                "When calculating the mean, counts equal entries once when collecting",
                lambda p: Fraction(sum(set(p.list)), len(p.list)),
            ),
        ),
    ),
    Template(
        key="median_odd",
        construct="Find the median of an odd number of values",
        subject="Averages of a List",
        draw=lambda r: data(r, r.choice((5, 7))),
        answer=lambda p: middle(sorted(p.list)),
        say=shown,
        wordings=(
            "What is the median of \\( <s> \\)?",
            "Find the median.\n\\(\n<s>\n\\)",
            "The ages of some cousins are \\( <s> \\). What is their median age?",
        ),
        slips=(
            Slip(UNSORTED, lambda p: middle(p.list)),
            Slip(LEVEL, mean),
            Slip(COMMON, mode),
            Slip(SPREAD, spread),
            Slip(
                "Levels out the two extremes and ignores what lies between",
                lambda p: Fraction(max(p.list) + min(p.list), 2),
            ),
            Slip("Reports the place of an entry and not the entry", lambda p: (len(p.list) + 1) // 2),
            Slip(
                "Strikes out repeated entries before looking for the centre when finding the median",
                lambda p: middle(sorted(set(p.list))),
            ),
        ),
    ),
    Template(
        key="median_even",
        construct="Find the median of an even number of values",
        subject="Averages of a List",
        draw=lambda r: data(r, r.choice((6, 8))),
        answer=lambda p: middle(sorted(p.list)),
        say=shown,
        wordings=(
            "What is the median of \\( <s> \\)?",
            "Work out the median of this list:\n\\( <s> \\)",
            "The shoe sizes of a team, in a foreign system, are \\( <s> \\). Find the median.",
        ),
        slips=(
            Slip(UNSORTED, lambda p: middle(p.list)),
            Slip(
                "Chooses the lower of two central entries when finding the median of an even number of values",
                lambda p: sorted(p.list)[len(p.list) // 2 - 1],
            ),
            Slip(
                "When finding the median of an even number of values, chooses the upper of two central entries",
                lambda p: sorted(p.list)[len(p.list) // 2],
            ),
            Slip(
                "When finding the median of an even number of values, adds two central entries without halving",
                lambda p: 2 * middle(sorted(p.list)),
            ),
            Slip(
                "When finding the median of an even number of values, takes the gap of two central entries",
                lambda p: sorted(p.list)[len(p.list) // 2] - sorted(p.list)[len(p.list) // 2 - 1],
            ),
            Slip(LEVEL, mean),
            Slip(COMMON, mode),
            Slip(SPREAD, spread),
        ),
    ),
    Template(
        key="mode",
        construct="Find the mode from a list of data",
        subject="Averages of a List",
        draw=lambda r: data(r, r.choice((6, 7, 8))),
        answer=mode,
        say=shown,
        wordings=(
            "What is the mode of \\( <s> \\)?",
            "Find the mode of this list:\n\\(\n<s>\n\\)",
            "<name> rolls special dice and notes \\( <s> \\). What is the modal score?",
        ),
        slips=(
            Slip(
                "When finding the mode, says how often a winner occurs and not who it is",
                lambda p: p.list.count(mode(p)),
            ),
            Slip(
                "Takes the largest entry for the one that occurs most when finding the mode",
                lambda p: max(p.list),
            ),
            Slip(MIDDLE, lambda p: middle(sorted(p.list))),
            Slip(LEVEL, mean),
            Slip(SPREAD, spread),
            Slip(
                "Takes the entry that comes first for the one that occurs most when finding the mode",
                lambda p: p.list[0],
            ),
        ),
    ),
    Template(
        key="range",
        construct="Work out the range of a short list of values",
        subject="Measures of Spread",
        draw=lambda r: data(r, r.choice((5, 6, 7))),
        answer=spread,
        say=shown,
        wordings=(
            "What is the range of \\( <s> \\)?",
            "Find the range of these values:\n\\( <s> \\)",
            "The masses of some parcels in kilograms are \\( <s> \\). What is the range of the masses?",
        ),
        slips=(
            Slip(
                "Compares the ends of a list as it was written down when finding the range",
                lambda p: abs(p.list[-1] - p.list[0]),
            ),
            Slip(
                "When finding the range, takes the largest entry for the distance between extremes",
                lambda p: max(p.list),
            ),
            Slip("When finding the range, counts entries instead of comparing extremes", lambda p: len(p.list)),
            Slip("Joins extremes by adding when finding the range", lambda p: max(p.list) + min(p.list)),
            Slip(
                "When finding the range, includes both extremes when counting from one to the other",
                lambda p: spread(p) + 1,
            ),
            Slip(MIDDLE, lambda p: middle(sorted(p.list))),
            Slip(COMMON, mode),
            Slip(LEVEL, mean),
        ),
    ),
    Template(
        key="mean_from_table",
        construct="Work out the mean of data given in a frequency table",
        subject="Averages from Tables",
        draw=frequencies,
        answer=lambda p: Fraction(total(p), sum(p.counts)),
        say=lambda p: {"table": table(p)},
        wordings=(
            "The table shows the goals in some matches. What is the mean number of goals?\n<table>",
            "<table> Find the mean number of goals per match.",
            "A team records its goals:\n<table>\nWork out the mean.",
        ),
        slips=(
            Slip(
                "Shares a correct total among the lines of a table when finding the mean from a frequency table",
                lambda p: Fraction(total(p), len(p.values)),
            ),
            Slip(
                "When finding the mean from a frequency table, shares how many were asked among the lines of a table",
                lambda p: Fraction(sum(p.counts), len(p.values)),
            ),
            Slip(
                "When finding the mean from a frequency table, levels out the headings and ignores how often each occurs",
                lambda p: Fraction(sum(p.values), len(p.values)),
            ),
            Slip(
                "When finding the mean from a frequency table, shares the headings among all who were asked",
                lambda p: Fraction(sum(p.values), sum(p.counts)),
            ),
            Slip("Collects everything and shares nothing out", lambda p: total(p)),
            Slip(
                "When finding the mean from a frequency table, shares a correct total by the sum of the headings",
                lambda p: Fraction(total(p), sum(p.values)),
            ),
            Slip(COMMON, lambda p: p.values[p.counts.index(max(p.counts))]),
        ),
    ),
    Template(
        key="median_from_table",
        construct="Find the median from a frequency table",
        subject="Averages from Tables",
        draw=frequencies,
        answer=lambda p: middle(expanded(p)),
        say=lambda p: {"table": table(p)},
        wordings=(
            "What is the median number of goals?\n<table>",
            "<table>\nFind the median of these data.",
            "A club writes down how often each number of goals was scored.\n<table> What is the median?",
        ),
        slips=(
            Slip(
                "When reading the median from a frequency table, chooses the central heading of a table, whatever stands beside it",
                lambda p: middle(p.values),
            ),
            Slip(
                "When reading the median from a frequency table, chooses the centre of how often things occur, as listed",
                lambda p: middle(p.counts),
            ),
            Slip(
                "When reading the median from a frequency table, chooses the centre of how often things occur, once sorted",
                lambda p: middle(sorted(p.counts)),
            ),
            Slip(COMMON, lambda p: p.values[p.counts.index(max(p.counts))]),
            Slip("Reports the place of an entry and not the entry", lambda p: Fraction(sum(p.counts) + 1, 2)),
            Slip(LEVEL, lambda p: Fraction(total(p), sum(p.counts))),
        ),
    ),
    Template(
        key="missing_value",
        construct="Find a missing value given the mean",
        subject="Averages of a List",
        draw=lambda r: {"list": tuple(r.sample(range(2, 15), 4)), "m": r.randint(10, 16)},
        answer=lambda p: 5 * p.m - sum(p.list),
        say=shown,
        wordings=(
            "The mean of five numbers is <m>. Four of them are \\( <s> \\). What is the fifth?",
            "\\( <s>, \\bigstar \\)\nThe mean of these five numbers is <m>. What is behind the star?",
            "After five games <name> has a mean score of <m>. Four of the scores were \\( <s> \\). What was the other score?",
        ),
        ok=lambda v: v > 0,
        slips=(
            Slip(
                "When finding a missing value from the mean, offers a summary as the entry that is missing",
                lambda p: p.m,
            ),
            Slip(
                "When finding a missing value from the mean, leaves the unknown out of the count when rebuilding a total",
                lambda p: abs(4 * p.m - sum(p.list)),
            ),
            Slip(
                "When finding a missing value from the mean, rebuilds a total and offers that",
                lambda p: 5 * p.m,
            ),
            Slip(
                "Levels out the entries on show when finding a missing value from the mean",
                lambda p: Fraction(sum(p.list), 4),
            ),
            Slip(
                "Takes a summary from the entries on show when finding a missing value from the mean",
                lambda p: abs(sum(p.list) - p.m),
            ),
            Slip(
                "When finding a missing value from the mean, counts the unknown twice when rebuilding a total",
                lambda p: 6 * p.m - sum(p.list),
            ),
        ),
    ),
    Template(
        key="pie_angle",
        construct="Work out the angle of one sector for a pie chart",
        subject="Drawing Pie Charts",
        draw=lambda r: (lambda n: {"n": n, "a": r.randint(3, n - 2)})(r.choice((18, 20, 24, 30, 36, 40, 60, 72))),
        answer=lambda p: Fraction(360 * p.a, p.n),
        show=degrees,
        wordings=(
            "<a> of <n> pupils chose hockey. What angle should hockey have in a pie chart?",
            "A survey of <n> people is drawn as a pie chart. <a> of them have a cat. How many degrees does their sector get?",
            "\\begin{tabular}{|c|c|}\n\\hline Colour & Cars \\\\\n\\hline red & <a> \\\\\n\\hline all colours & <n> \\\\\n\\hline\n\\end{tabular}\nFind the angle for red in a pie chart.",
        ),
        slips=(
            Slip("Uses how many there are as a turn when drawing a pie chart", lambda p: p.a),
            *family(
                "Shares a circle of <k> degrees among everyone when drawing a pie chart",
                (100, 180, 400),
                lambda p, k: Fraction(k * p.a, p.n),
            ),
            Slip(
                "When drawing a pie chart, finds one person's part of a circle and stops",
                lambda p: Fraction(360, p.n),
            ),
            Slip(
                "Shares a circle among the chosen ones alone when drawing a pie chart",
                lambda p: Fraction(360, p.a),
            ),
            Slip(REMAINS, lambda p: Fraction(360 * (p.n - p.a), p.n)),
            Slip("When drawing a pie chart, makes a slice ten times the count", lambda p: 10 * p.a),
        ),
    ),
    Template(
        key="pictogram",
        construct="Read values from a pictogram with part symbols",
        subject="Reading Pictograms",
        draw=lambda r: {"k": 4 * r.randint(1, 6), "f": r.randint(2, 6), "q": r.choice((1, 2, 3))},
        answer=lambda p: p.k * p.f + p.k * p.q // 4,
        say=lambda p: {"part": ("a quarter", "half", "three quarters")[p.q - 1]},
        wordings=(
            "How many letters arrived on Monday? ![A pictogram with a key: one envelope stands for <k> letters. Monday has <f> full envelopes and <part> of an envelope]()",
            "In a pictogram one circle means <k> trees. A row has <f> circles and <part> of a circle. How many trees is that?",
            "Each picture of a sun stands for <k> sunny hours. June has <f> suns and <part> of a sun. How many sunny hours had June?",
        ),
        slips=(
            Slip(
                "Counts pictures and disregards what each is worth when reading a pictogram",
                lambda p: p.f + 1,
            ),
            Slip("When reading a pictogram, treats a cut picture like an uncut one", lambda p: p.k * (p.f + 1)),
            Slip("When reading a pictogram, leaves a cut picture out", lambda p: p.k * p.f),
            Slip("When reading a pictogram, gives a cut picture the worth of one item", lambda p: p.k * p.f + 1),
            Slip(
                "Takes every cut picture to be a half when reading a pictogram",
                lambda p: p.k * p.f + p.k // 2 if p.q != 2 else None,
            ),
            Slip(
                "Counts the quarters of a cut picture as items when reading a pictogram",
                lambda p: p.k * p.f + p.q,
            ),
        ),
    ),
)


TEMPLATES = AVERAGES
