"""Words and phrases looked for in prompts, such as the names of a concept.

any_of   a pattern for any of them as whole words
saying   which prompts say one of them
"""

import re
from collections.abc import Iterable


def any_of(names: Iterable[str], plural: bool = False) -> re.Pattern[str]:
    """A pattern for any of these words or phrases in any case, the longest first; part of a longer word is no match.

    plural   an `s` or `es` behind counts as the same word
    """
    words = "|".join(r"\s+".join(map(re.escape, name.split())) for name in sorted(names, key=len, reverse=True))
    return re.compile(rf"(?<![^\W_])({words}){'(?:e?s)?' if plural else ''}(?![^\W_])", re.IGNORECASE)


def saying(prompts: Iterable[str], names: Iterable[str]) -> list[bool]:
    """[bool]: does a prompt say one of the names, or the plural of one?"""
    pattern = any_of(names, plural=True)
    return [pattern.search(prompt) is not None for prompt in prompts]
