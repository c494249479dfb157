"""The form of a study: fields of its most used tables, made from the study model and the declarations of methods.

form   the data of a study -> the data as the fields say; tables and keys without a field stay as they are
fits   whether the data has the shape that the form needs
"""

import tomllib
import typing
from collections.abc import Callable, Collection, Mapping, Sequence
from copy import deepcopy
from typing import Any

import streamlit as st
from pydantic.fields import FieldInfo

from workbench import registry, resources
from workbench.study import as_toml
from workbench.study.concept import Concept
from workbench.study.neuron_choice import Choose
from workbench.study.parts import Detectors, ModelTable, Prompts, Record, Sampling
from workbench.study.variants import BASE, VariantTable
from workbench.ui.text import plain

Data = dict[str, Any]
OPEN = "open"
ROLES = ("erased", "pruned", "sham")
PROMPTS = ("target", "reference", "near", "far", "erase")
NEEDED = ("target", "reference")


def fits(data: Any) -> bool:
    """Whether tables are tables and lists are lists where the form reads them."""
    if not isinstance(data, dict):
        return False
    tables = ("concept", "model", "prompts", "sampling", "record", "choose", "detectors")
    lists = (data.get("variants", []), data.get("attacks", []))
    tables_of = [data.get(name, {}) for name in tables]
    if not all(isinstance(one, dict) for one in tables_of):
        return False
    several = [
        data.get("concept", {}).get("names", []),
        data.get("record", {}).get("sites", []),
        data.get("detectors", {}).get("labels", []),
    ]
    several += [one.get("against", []) for rows in lists if isinstance(rows, list) for one in rows if isinstance(one, dict)]
    roles = [data.get("detectors", {}).get(role, {}) for role in ("steer", "judge")]
    return (
        all(isinstance(one, list) for one in several)
        and all(isinstance(one, dict) for one in roles)
        and all(
            isinstance(rows, list) and all(isinstance(one, dict) and isinstance(one.get("parameters", {}), dict) for one in rows)
            for rows in lists
        )
    )


def still_open(version: int) -> list[str]:
    """Names of the boxes of the form of this version that are open."""
    begin = f"new-{version}-{OPEN}-"
    return [str(key).removeprefix(begin) for key, value in st.session_state.items() if str(key).startswith(begin) and value is True]


def form(given: Data, version: int, restructured: Callable[[Data], None], opened: Collection[str] = ()) -> Data:
    """The fields, filled in from the data; the data as they say now.

    version        part of every key: another one makes new fields
    restructured   called with the new data when a variant or attack was added, renamed, removed or given another method
    opened         names of the boxes that are open at first
    """
    data = deepcopy(given)
    field = Fields(f"new-{version}", opened)
    with st.container(border=True):
        st.markdown("**Study**")
        field.line(data, "name", "Name", "Small letters, digits, hyphens. Also the name of the run.", "top")
        field.line(data, "title", "Title", "What the report is called.", "top")
    with st.container(border=True):
        st.markdown("**Concept and base model**")
        concept, model = data.setdefault("concept", {}), data.setdefault("model", {})
        one, two = st.columns(2)
        with one:
            field.line(concept, "name", "Concept", "What is to be erased.", "concept")
        with two:
            field.choice(
                concept, "kind", "Kind", typing.get_args(Concept.model_fields["kind"].annotation), help_of(Concept, "kind"), "concept"
            )
        field.several(concept, "names", "Names of the concept", [], help_of(Concept, "names"), "concept", new=True)
        field.choice(model, "base", "Base model", ["emoji"], help_of(ModelTable, "base"), "model", new=True)
    with st.container(border=True):
        st.markdown("**Prompts and sampling**")
        prompts, sampling = data.setdefault("prompts", {}), data.setdefault("sampling", {})
        files = [f"prompts/{path.name}" for path in sorted((resources.folder("data") / "prompts").glob("*.csv"))]
        for name in PROMPTS:
            field.choice(prompts, name, PROMPT_LABELS[name], files, help_of(Prompts, name), "prompts", new=True, needed=name in NEEDED)
        cells = [*st.columns(2), *st.columns(2)]
        for cell, table, name, label, model_of in (
            (cells[0], prompts, "limit", "Prompts per set", Prompts),
            (cells[1], sampling, "steps", "Sampling steps", Sampling),
            (cells[2], sampling, "guidance", "Guidance", Sampling),
            (cells[3], sampling, "batch", "Batch", Sampling),
        ):
            with cell:
                field.written(table, name, label, model_of.model_fields[name], "prompts" if table is prompts else "sampling")
        if not sampling:
            data.pop("sampling")
        st.caption("The seed of each image stands in the prompt files, in the column seed.")
    _detectors(data, field, restructured)
    _variants(data, field, restructured)
    _attacks(data, field, restructured)
    with st.container(border=True):
        st.markdown("**Recorded neurons**")
        record, choose = data.setdefault("record", {}), data.setdefault("choose", {})
        one, two, three = st.columns([2, 1, 1])
        with one:
            field.several(record, "sites", "Sites", list(SITES), help_of(Record, "sites"), "record", default=["ff"])
        with two:
            field.written(record, "calls", "Calls", Record.model_fields["calls"], "record")
        with three:
            field.written(choose, "seed", "Seed", Choose.model_fields["seed"], "choose")
        for name in ("record", "choose"):
            if not data[name]:
                data.pop(name)
    return data


PROMPT_LABELS = {
    "target": "Prompts with the concept",
    "reference": "The same prompts without it",
    "near": "Related concepts",
    "far": "Unrelated concepts",
    "erase": "Pairs that erasers train on",
}
SITES = ("ff", "attn_value", "conv", "update", "text_mlp")  # a test holds this equal to workbench.neurons.sites, which needs torch


def help_of(model: Any, name: str) -> str | None:
    """What the study model says of a field."""
    return plain(model.model_fields[name].description or "") or None


def _variants(data: Data, field: "Fields", restructured: Callable[[Data], None]) -> None:
    variants = data.setdefault("variants", [])
    with st.container(border=True):
        st.markdown("**Variants** of the base model")
        for place, variant in enumerate(variants):
            with field.box(f"variant-{place}", f"{variant.get('name', '')} · {variant.get('method', '')}") as box:
                if not box.open:
                    continue
                where = f"variants-{place}"
                earlier = [BASE, *(str(one.get("name")) for one in variants[:place])]
                one, two = st.columns(2)
                before = variant.get("name")
                with one:
                    field.line(variant, "name", "Name", "Small letters, digits, hyphens.", where)
                with two:
                    method, is_other = _method(variant, "erasers", field, where)
                if variant.get("name") != before:
                    _follow(data, before, variant.get("name"))
                if variant.get("name") != before or is_other:
                    restructured(data)
                one, two = st.columns(2)
                with one:
                    field.choice(variant, "parent", "Made from", earlier, "An earlier variant, or the base model.", where, default=BASE)
                with two:
                    field.choice(variant, "role", "Role", ROLES, "sham: it erases something else, for comparison.", where, default="erased")
                if method is not None:
                    if variant.get("role") == "sham" or variant.get("pairs"):
                        field.written(variant, "pairs", "Pairs that it erases instead", VariantTable.model_fields["pairs"], where)
                    _preset(variant, method, field, where)
                    _parameters(variant, method, field, where)
                    if "seed" in method.parameters.model_fields:
                        field.written(variant, "seeds", "Seeds of trainings", VariantTable.model_fields["seeds"], where)
                if st.button("Remove this variant", icon=":material/delete:", key=field.key(where, "remove")):
                    del variants[place]
                    restructured(data)
        if st.button("Add a variant", icon=":material/add:", key=field.key("variants", "add")):
            taken = {one.get("name") for one in variants}
            name = next(name for name in ("erased", *(f"erased-{n}" for n in range(2, 300))) if name not in taken)
            variants.append({"name": name, "method": "esd"})
            restructured(data)


def _attacks(data: Data, field: "Fields", restructured: Callable[[Data], None]) -> None:
    attacks, names = data.get("attacks", []), [str(one.get("name")) for one in data["variants"]]
    with st.container(border=True):
        st.markdown("**Attacks**, each with its own control")
        for place, attack in enumerate(attacks):
            with field.box(f"attack-{place}", str(attack.get("name") or attack.get("method", ""))) as box:
                if not box.open:
                    continue
                where = f"attacks-{place}"
                method, is_other = _method(attack, "attacks", field, where)
                if is_other:
                    restructured(data)
                if method is not None:
                    if method.optimised or attack.get("against"):
                        field.several(attack, "against", "Against", names, "Variants that it is optimised against.", where)
                    _preset(attack, method, field, where)
                    _parameters(attack, method, field, where)
                if st.button("Remove this attack", icon=":material/delete:", key=field.key(where, "remove")):
                    del attacks[place]
                    restructured(data)
        if st.button("Add an attack", icon=":material/add:", key=field.key("attacks", "add")):
            data["attacks"] = [*attacks, {"method": "embedding_pgd", "against": names[:1]}]
            restructured(data)


def _detectors(data: Data, field: "Fields", restructured: Callable[[Data], None]) -> None:
    detectors = data.setdefault("detectors", {})
    with st.container(border=True):
        st.markdown("**Detectors**")
        field.several(detectors, "labels", "Labels of the concept", [], help_of(Detectors, "labels"), "detectors", new=True)
        for role, title in (("steer", "Attack-visible detector"), ("judge", "Judge, which attacks never query")):
            table = dict(detectors.get(role, {}))
            with field.box(role, f"{title} · {table.get('method', '')}") as box:
                if not box.open:
                    continue
                before = table.get("method")
                method, is_other = _method(table, "detectors", field, role)
                if is_other:
                    detectors[role] = {"method": table["method"]}
                    restructured(data)
                if method is not None and table.get("method") == before:
                    _settings(table, method, field, role)
                detectors[role] = table


def _follow(data: Data, before: object, name: object) -> None:
    """Give a variant that was renamed its new name wherever the form knows it."""
    for one in data["variants"]:
        for key in ("parent", "like"):
            if one.get(key) == before:
                one[key] = name
    for attack in data.get("attacks", []):
        if isinstance(attack.get("against"), list):
            attack["against"] = [name if one == before else one for one in attack["against"]]


def _method(table: Data, kind: str, field: "Fields", where: str) -> tuple[registry.Method | None, bool]:
    """(the method of a variant or attack or None, whether it was changed). Another method drops what it cannot be given."""
    known, before = registry.methods(kind), table.get("method")
    helps = "\n\n".join(f"**{name}**: {plain(one.help)}" for name, one in known.items())
    field.choice(table, "method", "Method", list(known), helps, where)
    method = known.get(str(table.get("method")))
    is_other = method is not None and table["method"] != before
    if method is not None and is_other and kind != "detectors":
        table.pop("preset", None)
        table["parameters"] = {name: value for name, value in table.get("parameters", {}).items() if name in method.parameters.model_fields}
        if kind == "erasers" and method.is_mask and table.get("role", "erased") == "erased":
            table["role"] = "pruned"
        if kind == "attacks" and not method.optimised:
            table.pop("against", None)
    if method is not None:
        st.caption(plain(method.help))
    return method, is_other


def _preset(table: Data, method: registry.Method, field: "Fields", where: str) -> None:
    """Where the authors' settings are known: whether to start from them."""
    if method.published is not None or table.get("preset"):
        tasks = [f"published:{task}" for task in getattr(method.published, "tasks", {})]
        field.choice(table, "preset", "Preset", ["published", *tasks], "Start from the authors' settings.", where, needed=False)


def _parameters(table: Data, method: registry.Method, field: "Fields", where: str) -> None:
    """A field for each parameter of a method; an empty one is left to its default, or to the preset."""
    table["parameters"] = dict(table.get("parameters", {}))
    _settings(table["parameters"], method, field, where)
    if not table["parameters"]:
        table.pop("parameters")


def _settings(parameters: Data, method: registry.Method, field: "Fields", where: str) -> None:
    fields = method.parameters.model_fields
    if fields:
        st.caption("Settings; an empty one takes its default")
        columns: list[Any] = []
        for name, info in fields.items():
            columns = columns or list(st.columns(2))  # row by row, so that a narrow screen keeps their order
            with columns.pop(0):
                field.written(parameters, name, name, info, f"{where}-{method.name}")


class Fields:
    """Fields whose keys begin alike. Each writes its value into a table, and leaves the key out while it is empty or its default."""

    def __init__(self, prefix: str, opened: Collection[str] = ()) -> None:
        self.prefix, self.opened = prefix, opened

    def box(self, name: str, title: str) -> Any:
        """An expander whose content is made only while it is open; open at first where it was before the form was drawn again."""
        return st.expander(plain(title), expanded=name in self.opened, key=self.key(OPEN, name), on_change="rerun")

    def key(self, *parts: object) -> str:
        """The key of a field."""
        return "-".join(map(str, (self.prefix, *parts)))

    def line(self, table: Data, name: str, label: str, about: str, where: str) -> None:
        """A line of text that a study must have."""
        text = st.text_input(label, str(table.get(name, "")), key=self.key(where, name), help=about)
        self._set(table, name, text, "")

    def choice(
        self,
        table: Data,
        name: str,
        label: str,
        options: Sequence[str],
        about: str | None,
        where: str,
        new: bool = False,
        needed: bool = True,
        default: str | None = None,
    ) -> None:
        """One of some words, or with `new` any other text too."""
        value = table.get(name, default)
        known = list(dict.fromkeys([*options, *([str(value)] if value is not None else [])]))
        chosen = st.selectbox(
            label,
            known,
            index=known.index(str(value)) if value is not None else None,
            key=self.key(where, name),
            help=about,
            accept_new_options=new,
            placeholder="Choose or write" if new else "Choose" if needed else "None",
            required=needed and value is not None,
        )
        self._set(table, name, chosen, default)

    def several(
        self,
        table: Data,
        name: str,
        label: str,
        options: Sequence[str],
        about: str | None,
        where: str,
        new: bool = False,
        default: Sequence[str] | None = None,
    ) -> None:
        """Several of some words, or with `new` any others too."""
        value = [str(one) for one in table.get(name, default or []) or []]
        known = list(dict.fromkeys([*options, *value]))
        chosen = st.multiselect(label, known, value, key=self.key(where, name), help=about, accept_new_options=new)
        self._set(table, name, list(chosen), None if default is None else list(default))

    def written(self, table: Data, name: str, label: str, info: FieldInfo, where: str) -> None:
        """A setting as TOML writes it, or one of its words; empty for its default, which stands there in grey."""
        words = _words(info.annotation)
        key, about = self.key(where, name), plain(info.description or "") or None
        given = as_toml.value(table[name]) if table.get(name) is not None else ""
        default = "required" if info.is_required() else shown_default(info)
        if words and (name not in table or table[name] in words):
            shown = [as_toml.value(word).strip('"') for word in words]
            index = words.index(table[name]) if name in table else None
            chosen = st.selectbox(label, shown, index=index, key=key, help=about, placeholder=default or "default")
            self._set(table, name, None if chosen is None else words[shown.index(chosen)], None)
            return
        text = st.text_input(label, given.strip('"') if _is_text(table.get(name)) else given, key=key, help=about, placeholder=default)
        self._set(table, name, None if not text.strip() else read(text, _takes_text(info.annotation)), None)

    def _set(self, table: Data, name: str, value: Any, default: Any) -> None:
        if value is None or (value == default and name not in table):
            table.pop(name, None)
        else:
            table[name] = value


def read(text: str, as_text: bool = False) -> Any:
    """What a reader wrote into a field: a list where commas stand between numbers, a value of TOML, else the text itself.

    as_text   whether the setting is text, so that 12 is "12"
    """
    if as_text:
        return text
    for candidate in (text, f"[{text}]"):
        try:
            found = tomllib.loads(f"v = {candidate}")
        except (ValueError, RecursionError):
            continue
        if set(found) == {"v"}:
            return found["v"]
    return text


def shown_default(info: FieldInfo) -> str:
    """The default of a setting, for the place where its value would stand."""
    default = info.get_default(call_default_factory=True)
    return "" if default is None or isinstance(default, Mapping) else as_toml.value(default).strip('"')


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _takes_text(annotation: Any) -> bool:
    """Whether a setting is text and nothing else."""
    return {one for one in _kinds(annotation) if one is not type(None)} == {str}


def _kinds(annotation: Any) -> list[Any]:
    if typing.get_origin(annotation) is typing.Annotated:
        return _kinds(typing.get_args(annotation)[0])
    inner = [one for one in typing.get_args(annotation)]
    is_union = bool(inner) and typing.get_origin(annotation) not in (list, tuple, dict, typing.Literal)
    return [kind for one in inner for kind in _kinds(one)] if is_union else [annotation]


def _words(annotation: Any) -> list[Any]:
    """The closed set of values of a setting; empty when it has none."""
    found: list[Any] = []
    for kind in _kinds(annotation):
        if kind is bool:
            found += [True, False]
        elif typing.get_origin(kind) is typing.Literal:
            found += typing.get_args(kind)
        elif kind is not type(None):
            return []
    return found
