"""Text normalization shared by loaders, splits and mining."""

import unicodedata


def normalize_text(text: str) -> str:
    """Collapse white space, strip both ends and compose accents (NFC); passages with equal results count as one.

    >>> normalize_text("Adds  instead\\n of multiplying\\n")
    'Adds instead of multiplying'
    """
    return unicodedata.normalize("NFC", " ".join(text.split()))
