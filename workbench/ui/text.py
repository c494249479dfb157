"""Text of a run on a page: no character of it is markup, none is longer than a page can hold."""

import re


def plain(text: object) -> str:
    """Text for a place that reads Markdown, so that every character stands for itself."""
    return re.sub(r"([\\`*_{}\[\]<>#$:|~!+-])", r"\\\1", str(text)).replace("\n", " ")


def short(text: object, most: int = 80) -> str:
    """Text of at most so many letters; of a longer one the beginning, and how long it is."""
    words = str(text)
    return words if len(words) <= most else f"{words[:most]}… ({len(words)} letters)"
