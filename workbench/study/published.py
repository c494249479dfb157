"""Settings as the authors of a method had them, and what a study sets otherwise.

Published    the table an eraser keeps as PUBLISHED
settings     what a preset fills in
deviations   what a variant sets otherwise;  sentence: both, for a reader
column, about   {parameter: what was published}, and where that is from: what `workbench show` says
"""

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from workbench import registry
from workbench.errors import MethodError, nearest

if TYPE_CHECKING:
    from workbench.study.study import Study
    from workbench.study.variants import VariantTable

PRESET = "published"


@dataclass(frozen=True)
class Published:
    """Every parameter of a method stands in exactly one of values and tasks together, unknown, and ours.

    source    where the values are read
    values    {parameter: value} for every task
    tasks     {task: {parameter: value}} of what differs by what is erased; the tasks style and object are taken from the concept's kind
    unknown   {parameter: why its published value is not known}
    ours      parameters the publication does not have
    differs   sentences: what is done otherwise here, whatever is set
    """

    source: str
    values: dict = field(default_factory=dict)
    tasks: dict = field(default_factory=dict)
    unknown: dict = field(default_factory=dict)
    ours: tuple = ()
    differs: tuple = ()

    def task(self, preset: str, kind: str | None) -> str | None:
        """The task of a preset: what it names after the colon, else the kind of the concept; None where the table has no tasks.

        Raises   MethodError for a task that is not there, or when none is named and the kind is none
        """
        named = preset.partition(":")[2] if ":" in preset else None
        possible = "Possible: " + ", ".join(f'"{PRESET}:{task}"' for task in self.tasks) if self.tasks else f'Write "{PRESET}" only'
        if named is not None and named not in self.tasks:
            raise MethodError(f'the preset "{preset}" names the task "{named}", for which nothing was published. {possible}')
        if named is None and self.tasks and kind not in self.tasks:
            raise MethodError(
                f'the preset "{preset}" depends on what is erased, and the kind of concept "{kind}" does not say which '
                f"task applies. {possible}"
            )
        return named or (kind if self.tasks else None)

    def settings(self, preset: str, kind: str | None) -> dict[str, Any]:
        """{parameter: value} of a preset."""
        return self.values | self.tasks.get(self.task(preset, kind), {})


def table(name: str) -> Published:
    """The `Published` of an eraser.

    Raises   MethodError when it has none, with its reason, or when there is no such eraser
    """
    eraser = registry.method("erasers", name)
    found = eraser.published
    if found is None:
        having = ", ".join(one for one, method in registry.methods("erasers").items() if method.published)
        raise MethodError(f"{name} has no preset: {eraser.no_preset} Remove `preset` and give `parameters`. Erasers with one: {having}")
    return found


def settings(name: str, preset: str | None, kind: str | None) -> dict[str, Any]:
    """{parameter: value} that a preset gives an eraser; nothing without a preset.

    preset   None, "published", or "published:<task>"
    kind     of the concept
    Raises   MethodError for a preset that is not there
    """
    if preset is None:
        return {}
    if preset.partition(":")[0] != PRESET:
        raise MethodError(f'there is no preset "{preset}".{nearest(preset, [PRESET])} Possible: "{PRESET}", or "{PRESET}:<task>"')
    return table(name).settings(preset, kind)


def deviations(part: "VariantTable") -> list[tuple[str, Any, Any]]:
    """[(parameter, what the variant sets, what was published)] of a variant with a preset, in the order of the parameters."""
    if part.preset is None:
        return []
    given = settings(part.method, part.preset, part.kind)
    parameters = registry.method("erasers", part.method).parameters
    own, theirs = parameters(**part.settings).model_dump(), parameters(**given).model_dump()
    return [(name, own[name], theirs[name]) for name in own if name in given and own[name] != theirs[name]]


def sentence(part: "VariantTable") -> str | None:
    """Whether a variant is as published, in one or two sentences; None without a preset."""
    if part.preset is None:
        return None
    known, set_to = table(part.method), registry.method("erasers", part.method).parameters(**part.settings).model_dump()
    task = known.task(part.preset, part.kind)
    what = f"{part.method} as published" + (f" ({task})" if task else "")
    other = [f"{name} = {shown(own)} (published: {shown(theirs)})" for name, own, theirs in deviations(part)]
    said = f"{what}, but {', '.join(other)}: no replication." if other else f"{what}."
    unknown = [f"{name} = {shown(set_to[name])}" for name in known.unknown]
    return said + (f" The published value is not known for {', '.join(unknown)}." if unknown else "")


def sentences(study: "Study", deviating: bool = False) -> list[str]:
    """["<variant>: <sentence>"] of every variant with a preset; only of those that are not as published where `deviating`."""
    parts = [part for part in study.variants if part.preset and (deviations(part) or not deviating)]
    return [f"{part.name}: {sentence(part)}" for part in parts]


def column(method: registry.Method) -> dict[str, Any]:
    """{parameter: what was published, as text or value} of a method's PUBLISHED; empty without one."""
    found = method.published or {}
    if isinstance(found, dict):
        return found
    by_task: dict[str, dict[str, list[str]]] = {}
    for task, values in found.tasks.items():
        for name, value in values.items():
            by_task.setdefault(name, {}).setdefault(shown(value), []).append(task)
    texts = {name: "; ".join(f"{value} ({', '.join(tasks)})" for value, tasks in of.items()) for name, of in by_task.items()}
    texts |= {name: shown(value) + (f", or {texts[name]}" if name in texts else "") for name, value in found.values.items()}
    return texts | {name: f"not known: {why}" for name, why in found.unknown.items()} | dict.fromkeys(found.ours, "ours")


def about(method: registry.Method) -> list[str]:
    """Sentences on where an eraser's published values are from and what it does otherwise, or why it has none."""
    found = method.published
    if isinstance(found, Published):
        return [f"Published: {found.source}.", *(f"Otherwise here: {said}" for said in found.differs)]
    return [f"No preset: {method.no_preset}"] if method.kind == "erasers" and not method.reads_files else []


def shown(value: Any) -> str:
    """A value as a study file writes it."""
    return json.dumps(list(value) if isinstance(value, tuple) else value)
