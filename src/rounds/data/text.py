"""Text normalization shared by loaders, splits and mining."""


def normalize_text(text: str) -> str:
    """The form in which two passages count as one: white space collapsed, ends stripped.

    >>> normalize_text("Adds  instead\\n of multiplying\\n")
    'Adds instead of multiplying'
    """
    return " ".join(text.split())
