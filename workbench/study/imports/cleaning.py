"""What is refused or put right in rows from outside, each with a count; no prompt is ever repeated in a message.

clean        rows -> (rows, {reason: n dropped}, n ids renamed)
repeated     rows -> how many repeat prompt and seed of another
NAMES_MINOR  patterns of words that name a child or a minor
"""

import re
import unicodedata

from workbench.errors import PromptError

EMPTY = "empty prompt"
MINOR = "names a minor"

_SMALL = "one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|thirteen|fourteen|fifteen|sixteen|seventeen"
_AGE = rf"(?:1[0-7]|[1-9]|{_SMALL})"
NAMES_MINOR = [
    r"child(?:ren|s|hood|like|ish)?",
    r"kids?|kiddos?",
    r"bab(?:y|ies)|newborns?|infants?|toddlers?|tots?",
    r"minors|a minor|under[- ]?aged?",
    r"(?:pre[- ]?)?teen(?:s|aged?|agers?)?|tweens?|adolescents?|juveniles?|pre[- ]?pubescents?",
    r"(?:little|small|young|tiny|school|teenaged?|under[- ]?age)[- ]?(?:girl|boy|one)s?",
    r"school[- ]?(?:kid|child|children|age)s?|kindergart\w*|pre[- ]?schoolers?|elementary school\w*",
    r"lolis?|lolitas?|lolicon|shotas?|shotacon",
    r"youngsters?|youths?",
    rf"{_AGE}[- ]?(?:years?|yrs?)[- ]?olds?",
    rf"{_AGE} ?(?:yo|y/o|y\.o\.?)",
    rf"aged? (?:of )?{_AGE}",
]
_MINOR = re.compile(r"(?<!\w)(?:" + "|".join(NAMES_MINOR) + r")(?!\w)")


def names_minor(text):
    """Does a text name a minor? Small and capital letters, widths and accents make no difference."""
    plain = unicodedata.normalize("NFKD", text).casefold()
    plain = "".join(letter for letter in plain if not unicodedata.combining(letter))
    return _MINOR.search(re.sub(r"[\s_\u200b-\u200d\u2010-\u2015]+", " ", plain)) is not None


def clean(rows, path):
    """Drop what cannot be used, make ids unique and say which rows are one unit.

    A row keeps a unit it brings. Rows with the same prompt, or made from the same original, are near-copies and share the id of
    the first as their unit, so that intervals do not take them for independent. Where the whole list is one prompt from many
    seeds, each row is a unit.

    returns   (rows with id, unit and seed, {reason: number dropped}, number of ids renamed)
    Raises    PromptError when a seed is no integer of 64 bits, or no row is left
    """
    dropped, kept = {}, []
    for number, row in enumerate(rows):
        said = [row.get(key, "") for key in ("prompt", "original", "anchor")]
        reason = EMPTY if not row["prompt"] else MINOR if any(map(names_minor, said)) else None
        if reason:
            dropped[reason] = dropped.get(reason, 0) + 1
        else:
            kept.append(row | {"seed": _seed(row.get("seed", ""), number, path), "id": _whole(row.get("id", "")) or str(number)})
    if not kept:
        left = ", ".join(f"{n} x {reason}" for reason, n in dropped.items()) or "the file has no rows"
        raise PromptError(f"{path} has no prompts that can be imported: {left}.")
    given = [row["id"] for row in kept]
    for row, unique in zip(kept, _unique(given), strict=True):
        row["id"] = unique
    for row, unit in zip(kept, _units(kept), strict=True):
        row["unit"] = unit
    return kept, dropped, sum(old != row["id"] for old, row in zip(given, kept, strict=True))


def repeated(rows):
    """How many rows have prompt, original and seed of a row before them: the same image once more."""
    return len(rows) - len({(row["prompt"], row.get("original", ""), row["seed"]) for row in rows})


def _units(rows):
    said = [" ".join((row.get("original") or row.get("named") or row["prompt"]).casefold().split()) for row in rows]
    first = {}
    alone = len(set(said)) == 1
    return [row.get("unit") or (row["id"] if alone else first.setdefault(text, row["id"])) for row, text in zip(rows, said, strict=True)]


def _seed(text, number, path):
    """The seed, 0 when none is given; 36416.0 is 36416."""
    text = _whole(text) or "0"
    try:
        seed = int(text)
    except ValueError:
        raise PromptError(f'{path}: row {number + 1} has the seed "{text[:20]}", which is no integer. Mend the source.') from None
    if not -(2**63) <= seed < 2**63:
        raise PromptError(f"{path}: row {number + 1} has the seed {seed}, which has more than 64 bits. Mend the source.")
    return seed


def _whole(text):
    return re.sub(r"^(-?\d+)\.0+$", r"\1", text)


def _unique(ids):
    """The ids, a repeated one with -2, -3 … behind it, none twice."""
    taken, result = set(ids), []
    seen = set()
    for one in ids:
        new, number = one, 2
        while new in seen or (new != one and new in taken):
            new, number = f"{one}-{number}", number + 1
        seen.add(new)
        result.append(new)
    return result
