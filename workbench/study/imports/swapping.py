"""The same list about something else: words swapped in every prompt, so that references and retained prompts pair with targets.

swapped   Found -> Found whose prompts name another thing, row by row
"""

import re
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from workbench.errors import PromptError
from workbench.study.imports.found import Found


def swapped(found: Found, path: str | Path, swaps: Iterable[str] = (), expect: str | None = None) -> Found:
    """Swap words in every prompt and say which label its image should show.

    swaps     "old=new" each; whole words in any case, an `s` behind one stays, `old=` takes it out
    expect    label for every row, for sets of retained prompts
    returns   Found; a row's unit is still told by the list's own prompt (`named`), so that all sets of a list share their units
    Raises    PromptError for a swap that is none, for pairs and embeddings, and when a prompt holds none of the words
    """
    if not swaps and expect is None:
        return found
    if found.kind != "prompts":
        raise PromptError(f"{path} holds {found.kind}; --swap and --expect go with prompts.")
    words = dict(_pair(swap) for swap in swaps)
    pattern = re.compile(r"\b(" + "|".join(map(re.escape, sorted(words, key=len, reverse=True))) + r")(s?)\b", re.IGNORECASE)
    rows, without = [], []
    for number, row in enumerate(found.rows, start=1):
        prompt = row["prompt"]
        if words:
            prompt, n = pattern.subn(lambda match: _like(match, words), prompt)
            if not n:
                without.append(number)
        own = {"named": row.get("named") or row["prompt"], "prompt": " ".join(prompt.split())}
        rows.append(row | own | ({"expect": expect} if expect is not None else {}))
    if without:
        listed = ", ".join(map(str, without[:5])) + (" ..." if len(without) > 5 else "")
        raise PromptError(
            f"{len(without)} of {len(rows)} prompts of {path} hold none of the words {', '.join(words)} (rows {listed}) and would "
            "stay as they are. Give --swap for what those prompts say too."
        )
    notes = [f"swapped in every prompt: {', '.join(f'{old} -> {new or chr(8709)}' for old, new in words.items())}"] if words else []
    return replace(found, rows=rows, notes=[*found.notes, *notes])


def _pair(swap: str) -> tuple[str, str]:
    old, equals, new = swap.partition("=")
    if not equals or not old.strip():
        raise PromptError(f'--swap "{swap}" swaps nothing. Write --swap church=castle, or --swap church= to take a word out.')
    return old.strip().casefold(), new.strip()


def _like(match: re.Match[str], words: dict[str, str]) -> str:
    """The new word in the old one's case and number."""
    new = words[match[1].casefold()]
    if match[1][:1].isupper():
        new = new[:1].upper() + new[1:]
    return new + (match[2] if new else "")
