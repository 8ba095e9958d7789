"""Text normalization shared by loaders, splits and mining."""


def normalize_text(text: str) -> str:
    """Collapse white space and strip both ends; passages with equal results count as one.

    >>> normalize_text("Adds  instead\\n of multiplying\\n")
    'Adds instead of multiplying'
    """
    return " ".join(text.split())
