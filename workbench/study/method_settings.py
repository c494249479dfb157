"""Parameters of methods, checked when a study is read, and pydantic's complaints as sentences.

check_parameters   refuse parameters that a method does not take
sentence           the first complaint of pydantic as one sentence
shortened          a text as long as a message repeats it
"""

from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import ValidationError

from workbench import registry
from workbench.errors import MethodError, nearest

MOST_SAID = 80  # letters of a value that a message repeats


def check_parameters(kind: str, name: str, parameters: Mapping[str, Any], where: str) -> None:
    """Check a method's parameters now, before anything runs."""
    try:
        registry.method(kind, name).parameters(**parameters)
    except MethodError as error:
        raise ValueError(f"{where}: {error}") from error
    except ValidationError as error:
        raise ValueError(f"{where}: {sentence(error, registry.method(kind, name).parameters)}") from error


def sentence(error: ValidationError, model: Any) -> str:
    """The first complaint of pydantic as one sentence, with the nearest field name for a typing error."""
    first = error.errors()[0]
    place = ".".join(str(step) for step in first["loc"])
    if first["type"] == "extra_forbidden":
        return f'"{place}" is not a setting here.{_nearest_field(first["loc"], model)}'
    message = first["msg"].removeprefix("Value error, ")
    found = "" if first["type"] in ("missing", "value_error") else f", found {shortened(repr(first['input']))}"
    return f"{place}: {message}{found}" if place else message


def shortened(text: str, most: int = MOST_SAID) -> str:
    return text if len(text) <= most else f"{text[:most]} …"


def _nearest_field(location: tuple[int | str, ...], model: Any) -> str:
    for step in location[:-1]:
        field = getattr(model, "model_fields", {}).get(step) if isinstance(step, str) else None
        if field is not None:
            model = next(_tables(field.annotation), model)
    return nearest(location[-1], getattr(model, "model_fields", {}))


def _tables(annotation: Any) -> Iterator[Any]:
    """The tables named in a field's type, such as those of list[Table] | None."""
    if hasattr(annotation, "model_fields"):
        yield annotation
    for inner in getattr(annotation, "__args__", ()):
        yield from _tables(inner)
