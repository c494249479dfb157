"""StudyTable: a table of the study file, and what its fields may hold.

NonEmpty    text that is neither empty nor blank
Seed        of a random generator
MOST_*      the bounds that fields of one kind share; the help of each field states its own
check_plain   what any study file may hold, before its tables are looked at
"""

import datetime
import math
from typing import Annotated, Any, ClassVar, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SerializerFunctionWrapHandler, model_serializer

T = TypeVar("T")

MOST_SEED = 2**32 - 1  # what every library takes that draws for us
MOST_STEPS = 1000  # sampling steps; the scheduler of the model may allow fewer
MOST_GUIDANCE = 100
MOST_ROWS = 4096  # of one UNet call
MOST_ITERATIONS = 1_000_000
MOST_RATE = 1000  # learning rates and the like
MOST_RESAMPLES = 100_000
MOST_SETS = 10_000  # random sets beside one
MOST_UNITS = 1_000_000
MOST_CALL = 10_000
MOST_NAME = 100  # letters of what becomes part of a file's name

MOST_DEPTH = 12
MOST_ENTRIES = 1000
MOST_LETTERS = 10_000
MOST_NUMBER = 2**63 - 1
LINES = "\n\r\t"


def non_empty(value: str) -> str:
    """The text itself; ValueError when it is empty or blank."""
    if not value.strip():
        raise ValueError("it is empty. Write a value, or remove the key")
    return value


def unique(values: list[T] | None) -> list[T] | None:
    """The list itself; ValueError when it holds something twice."""
    seen = set()
    for value in values or []:
        if value in seen:
            raise ValueError(f'"{value}" is listed twice. Keep one')
        seen.add(value)
    return values


NonEmpty = Annotated[str, AfterValidator(non_empty)]
Unique = AfterValidator(unique)
Seed = Annotated[int, Field(ge=0, le=MOST_SEED)]
Call = Annotated[int, Field(ge=0, le=MOST_CALL)]
Share = Annotated[float, Field(gt=0, lt=1)]


class StudyTable(BaseModel):
    """A table of the study file; unknown keys are refused.

    added_later   fields that came after the first studies: a dump has them only where they differ from their default, so that older runs
                  keep their keys
    """

    model_config = ConfigDict(extra="forbid")
    added_later: ClassVar[tuple[str, ...]] = ()

    @model_serializer(mode="wrap")
    def _serialized(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        dump = serialize(self._as_written())
        fields = type(self).model_fields
        return {key: value for key, value in dump.items() if key not in self.added_later or getattr(self, key) != fields[key].default}

    def _as_written(self) -> "StudyTable":
        """What a dump is made of: the table itself."""
        return self


def check_plain(data: Any) -> None:
    """Refuse what no study needs: nesting beyond MOST_DEPTH, endless lists and texts, control characters, numbers that are not finite.

    Raises   ValueError that names the place
    """
    waiting = [("", data, 0)]
    while waiting:
        place, value, depth = waiting.pop()
        if isinstance(value, dict | list):
            if depth > MOST_DEPTH:
                raise ValueError(f"{_short(place)}: tables and lists are nested more than {MOST_DEPTH} deep. No setting needs that")
            if len(value) > MOST_ENTRIES:
                raise ValueError(f"{_short(place) or 'the file'}: {len(value):,} entries, more than the limit of {MOST_ENTRIES:,}")
            named = value.items() if isinstance(value, dict) else enumerate(value)
            for key, inner in named:
                _check_text(f"{place}: a key", str(key), MOST_NAME * 2)
                waiting.append((f"{place}.{key}" if place else str(key), inner, depth + 1))
        elif isinstance(value, str):
            _check_text(place, value, MOST_LETTERS)
        elif isinstance(value, bool | None):
            pass
        elif isinstance(value, int | float):
            if not math.isfinite(value) or abs(value) > MOST_NUMBER:
                found = str(value) if isinstance(value, float) else f"a number of {value.bit_length()} bits"
                raise ValueError(f"{place}: a finite number of at most 63 bits is needed, found {found}")
        elif isinstance(value, datetime.date | datetime.time):
            raise ValueError(f"{place}: no setting is a date or a time, found {value}. Put it into quotation marks if it is text")


def control_character(text: str) -> str | None:
    """The first control character in a text other than line ends and tabs, as U+001B; None when there is none."""
    found = next((letter for letter in text if (letter < " " or "\x7f" <= letter < "\xa0") and letter not in LINES), None)
    return None if found is None else f"U+{ord(found):04X}"


def _check_text(place: str, text: str, most: int) -> None:
    if len(text) > most:
        raise ValueError(f"{_short(place)}: {len(text):,} letters, more than the limit of {most:,}")
    if code := control_character(text):
        raise ValueError(f"{_short(place)}: it contains the control character {code}, which no name or text needs. Remove it")


def _short(place: str) -> str:
    return place if len(place) <= 60 else f"{place[:60]}…"
