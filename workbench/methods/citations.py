"""BibTeX of the publications that methods implement: the entries of citations.bib, and what a method from elsewhere brings itself.

A method declares CITATIONS: keys of citations.bib, or whole BibTeX entries.
"""

import re
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import NamedTuple

from workbench.errors import MethodError, nearest

FILE = Path(__file__).with_name("citations.bib")
ACCENTS = {"\\'n": "ń", "\\l": "ł", "\\'e": "é", '\\"o': "ö", '\\"u': "ü", '\\"a': "ä"}


class Entry(NamedTuple):
    """A publication: its key, its BibTeX, and how a sentence cites it, such as "Gandikota et al. 2023"."""

    key: str
    bibtex: str
    short: str


@cache
def known() -> dict[str, Entry]:
    """{key: entry} of citations.bib."""
    return {entry.key: entry for entry in map(read, re.split(r"\n(?=@)", FILE.read_text(encoding="utf-8").strip()))}


def entries(citations: Iterable[str]) -> list[Entry]:
    """The entries of what methods declare as CITATIONS, each once.

    Raises   MethodError for a key that citations.bib does not have, or BibTeX that cannot be read
    """
    found: dict[str, Entry] = {}
    for one in citations:
        if not one.lstrip().startswith("@") and one not in known():
            raise MethodError(f'citations.bib has no entry "{one}".{nearest(one, known())}')
        entry = read(one) if one.lstrip().startswith("@") else known()[one]
        found.setdefault(entry.key, entry)
    return list(found.values())


def read(bibtex: str) -> Entry:
    """One BibTeX entry: it needs a key, an author and a year.

    Raises   MethodError when one of them is missing
    """
    key = re.match(r"\s*@\w+\s*\{\s*([^\s,{}]+)\s*,", bibtex)
    fields = {name.lower(): " ".join(value.split()) for name, value in re.findall(r"(?m)^\s*(\w+)\s*=\s*\{(.*?)\}\s*,?\s*$", bibtex)}
    if key is None or not {"author", "year"} <= fields.keys():
        raise MethodError(f'A BibTeX entry needs a key, an author and a year, one field on each line: "{bibtex.strip()[:80]}".')
    return Entry(key[1], bibtex.strip(), f"{_authors(fields['author'])} {fields['year']}")


def _authors(field: str) -> str:
    """'Chavhan et al.', 'Benjamini and Hochberg' or 'Wilson'."""
    names = [_plain(name.partition(",")[0] if "," in name else name.split()[-1]) for name in re.split(r"\s+and\s+", field)]
    return names[0] if len(names) == 1 else " and ".join(names) if len(names) == 2 and names[1] != "others" else f"{names[0]} et al."


def _plain(name: str) -> str:
    """A name without the braces of LaTeX."""
    for latex, letter in ACCENTS.items():
        name = name.replace("{" + latex + "}", letter)
    return re.sub(r"[{}]", "", name)
