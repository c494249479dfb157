"""Write the parts of the documentation that the code knows: `make docs`, or `python -m docs.write`.

pages   {path: text} of whole pages
parts   {(path, name): text} between `<!-- generated: NAME -->` and `<!-- end of generated -->` of pages that people write
check   what differs from the files; tests/docs/test_generated.py asks for nothing
"""

import ast
import json
import re
import types
import typing
from pathlib import Path

from annotated_types import Ge, Gt, Le, Lt, MaxLen, MinLen
from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from workbench import registry

ROOT = Path(__file__).resolve().parents[1]
REFERENCE = Path("docs") / "reference"
NOTE = "<!-- written by `make docs`; do not edit -->"
SYMBOLS = {Ge: ("ge", ">="), Gt: ("gt", ">"), Le: ("le", "<="), Lt: ("lt", "<")}
KINDS = {
    "erasers": "Remove a concept: return changed weights or a mask.",
    "attacks": "Make prompts or embeddings under which an erased concept may return; each has its own control.",
    "detectors": "Say whether an image shows the concept.",
    "scores": "Say how much evidence each neuron gives for the concept.",
}

METHODS = """# Methods

Every eraser, attack, detector and score with its settings. `workbench show NAME` says the same; a study sets them by
`parameters = { ... }`. Defaults are scaled for the emoji model; `published` is what the authors set for Stable Diffusion.
Formulas: [definitions](definitions.md)."""
STUDY_FILE = """# Study file

A study is one TOML file. Unknown keys, unknown methods and values out of range are refused before anything runs, with the
nearest name. Relative paths are looked for beside the study file first. `--set table.key=value` overrides a value. What the
tables are for: [your first study](../guides/first-study.md). Settings of methods: [methods](methods.md)."""
COMMAND_LINE = """# Command line

`workbench` is in `.venv/bin`. A study is the name of a bundled one or a file; a run is a name below `runs/` or a folder. Exit
codes: 0 done; 1 something is wrong with what was looked at; 2 an error with what to do about it; 130 stopped by Ctrl-C."""
REPORT = """# report.json

Schema version {version}. Keys are sorted and there is no NaN, so equal results are equal bytes. A table is a list of rows; each
is also a file `tables/NAME.csv`. Kinds: text, flag, count (whole number), number, share (a number in [0, 1]), p (a
probability), list, object; `?` may be null. Heading: what readers of the report see, where they see the column. A number has
its interval (`low`, `high`, 95 %) and its n; a null has its `reason`. Tables and columns that came later are empty in older
reports. What the columns mean: [read a report](../guides/read-a-report.md#columns). The same as a JSON Schema, for other programs:
[report.schema.json](report.schema.json), or `workbench show report-schema`."""


def table(head, rows):
    """A Markdown table; cells lose line breaks and escape the bar."""
    lines = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    return "\n".join(lines + [f"| {' | '.join(cell(value) for value in row)} |" for row in rows])


def cell(text):
    """A text as one cell; no tags."""
    plain = re.sub(r"\s+", " ", str(text)).replace("|", "\\|").strip()
    return re.sub(r"(`[^`]*`)|<(?=[a-z])", lambda found: found[1] or "&lt;", plain)


def code(value):
    """A value in code font, as a study file writes it; empty for None."""
    return "" if value is None else f"`{written(value)}`"


def written(value):
    """A value as TOML writes it."""
    if isinstance(value, (tuple, list)):
        return "[" + ", ".join(written(one) for one in value) + "]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key} = {written(one)}" for key, one in value.items()) + "}"
    return json.dumps(value)


def unwrapped(annotation):
    """(the type without None and Annotated, whether it is a list of it)."""
    many = False
    while True:
        origin, of = typing.get_origin(annotation), typing.get_args(annotation)
        if origin is typing.Annotated:
            annotation = of[0]
        elif origin in (typing.Union, types.UnionType):
            annotation = next(one for one in of if one is not type(None))
        elif origin is list:
            annotation, many = of[0], True
        else:
            return annotation, many


def type_of(annotation):
    """A type in words: a number, one of some words, a list of texts."""
    kind, many = unwrapped(annotation)
    if typing.get_origin(kind) is typing.Literal:
        text = " or ".join(f"`{written(one)}`" for one in typing.get_args(kind))
    elif typing.get_origin(kind) is tuple:
        inner = typing.get_args(kind)
        text = type_of(inner[0])
        return f"list of {text}" if inner[-1] is Ellipsis else f"{len(inner)} of {text}"
    elif isinstance(kind, type) and issubclass(kind, BaseModel):
        text = "table"
    else:
        names = {str: "text", int: "whole number", float: "number", bool: "true or false", dict: "table"}
        text = names.get(kind, names.get(typing.get_origin(kind), getattr(kind, "__name__", str(kind))))
    return f"list of {text}" if many else text


def bounds(field):
    """What a field may hold, such as `>= 1, <= 100`."""
    found = list(field.metadata)
    found += getattr(unwrapped_metadata(field.annotation), "metadata", []) if not found else []
    said = []
    for one in found:
        for kind, (name, symbol) in SYMBOLS.items():
            if isinstance(one, kind):
                said.append(f"{symbol} {number(getattr(one, name))}")
        if isinstance(one, MinLen):
            said.append(f"at least {one.min_length}")
        if isinstance(one, MaxLen):
            said.append(f"at most {one.max_length}")
    return ", ".join(said)


def number(value):
    """A bound as people write it."""
    return f"{value:,}" if isinstance(value, int) else f"{value:g}"


def unwrapped_metadata(annotation):
    """The field information inside Annotated, where a field shares the bounds of its kind."""
    while typing.get_origin(annotation) in (typing.Union, types.UnionType):
        annotation = next(one for one in typing.get_args(annotation) if one is not type(None))
    inner = typing.get_args(annotation)[1:] if typing.get_origin(annotation) is typing.Annotated else ()
    return next((one for one in inner if hasattr(one, "metadata")), None)


def default_of(field):
    """The default of a field; "required" where it has none, empty where leaving it out means None."""
    if field.is_required():
        return "required"
    if field.default_factory is not None:
        return code(field.default_factory()) if field.default_factory in (list, dict) else ""
    if field.default is PydanticUndefined or field.default is None or isinstance(field.default, BaseModel):
        return ""
    return code(field.default)


def fields_table(model, published=None):
    """What a pydantic model may hold, a row per field."""
    head = ["field", "type", "default", *(["published"] if published else []), "meaning"]
    rows = []
    for name, field in model.model_fields.items():
        limits = bounds(field)
        row = [f"`{name}`", type_of(field.annotation) + (f", {limits}" if limits else ""), default_of(field)]
        if published:
            row.append(code(published[name]) if name in published else "")
        rows.append([*row, field.description or ""])
    return table(head, rows)


def methods_page():
    """docs/reference/methods.md: every method with its settings."""
    parts = [
        NOTE,
        METHODS,
    ]
    for kind, about in KINDS.items():
        parts.append(f"## {kind.capitalize()}\n\n{about}")
        parts += [method_part(one) for one in bundled(kind).values()]
    return "\n\n".join(parts) + "\n"


def bundled(kind):
    """{name: Method} of the methods that come with the workbench."""
    known = registry.methods(kind)
    return {name: one for name, one in known.items() if one.module.__name__.startswith("workbench.")}


def method_part(method):
    """A method: what it is, what it declares, what can be set."""
    given = getattr(method.module, "PUBLISHED", None)
    values = given if isinstance(given, dict) else getattr(given, "values", None)
    parts = [f"### `{method.name}`", method.help, *declared(method)]
    if method.parameters.model_fields:
        parts.append(fields_table(method.parameters, values))
    else:
        parts.append("Nothing to set.")
    tasks = getattr(given, "tasks", None)
    if tasks:
        rows = [[f"`{task}`", ", ".join(f"`{name}` = {code(value)}" for name, value in own.items())] for task, own in tasks.items()]
        parts.append(table(["published for", "settings"], rows))
    if getattr(given, "source", None):
        parts.append(f"Published settings from: {given.source}.")
    if getattr(given, "differs", ()):
        parts.append("What differs here, whatever is set:\n\n" + "\n".join(f"- {one}" for one in given.differs))
    if getattr(method.module, "NO_PRESET", None):
        parts.append(f"No preset: {method.module.NO_PRESET}")
    return "\n\n".join(parts)


def declared(method):
    """Sentences on what a module declares."""
    module, said = method.module, []
    if method.kind == "attacks":
        said.append("Optimised against a variant." if module.OPTIMISED else "Static: needs no variant to work against.")
        if getattr(module, "SHARED", False):
            said.append("One search serves many prompts, so intervals hold for that search.")
    if method.kind == "erasers":
        said.append("Returns a mask." if getattr(module, "MASK", False) else "Returns weights.")
    if method.kind == "scores" and hasattr(module, "UNIT"):
        said.append(f"Unit: {module.UNIT}.")
        said += ["Needs the erased model: listed beside other scores, never chooses."] if "erased" in module.NEEDS else []
    return [" ".join(said)] if said else []


def study_page():
    """docs/reference/study-file.md: every table of a study file."""
    from workbench.study.study import Study

    parts = [
        NOTE,
        STUDY_FILE,
        "## Top level",
        _doc(Study),
        fields_table(Study),
    ]
    parts += list(study_tables(Study))
    return "\n\n".join(part for part in parts if part) + "\n"


def study_tables(model, above=""):
    """A section for every table inside a model, in the order of its fields."""
    for name, field in model.model_fields.items():
        kind, many = unwrapped(field.annotation)
        if not (isinstance(kind, type) and issubclass(kind, BaseModel)):
            continue
        path = f"{above}{name}"
        title = f"[[{path}]]" if many else f"[{path}]"
        yield f"## `{title}`"
        yield _doc(kind) or field.description or ""
        yield fields_table(kind)
        yield from study_tables(kind, f"{path}.")


def _doc(model):
    """The docstring of a model's own, its first paragraph."""
    text = model.__doc__ or ""
    return re.sub(r"\s+", " ", text.strip().split("\n\n")[0])


def cli_page():
    """docs/reference/cli.md: every command with its arguments and options."""
    import typer

    from workbench.cli.main import app

    parts = [
        NOTE,
        COMMAND_LINE,
        *commands(typer.main.get_command(app), "workbench"),
    ]
    return "\n\n".join(parts) + "\n"


def commands(command, path):
    """A section for a command, or for each of a group, in the order they are listed."""
    inner = getattr(command, "commands", None)
    if inner is not None:
        for name, one in inner.items():
            yield from commands(one, f"{path} {name}")
        return
    arguments = [one for one in command.params if one.param_type_name == "argument"]
    options = [one for one in command.params if one.param_type_name == "option" and not getattr(one, "hidden", False)]
    usage = " ".join([path, *(argument_name(one) for one in arguments), *(["[OPTIONS]"] if options else [])])
    yield f"## {path.removeprefix('workbench ')}"
    yield f"```\n{usage}\n```"
    yield re.sub(r"[ \t]*\n[ \t]*(?!\n)", " ", (command.help or "").strip()).replace("\f", "")
    rows = [[f"`{argument_name(one)}`", getattr(one, "help", None) or "", default_option(one)] for one in arguments]
    rows += [[f"`{', '.join((*one.opts, *one.secondary_opts))}`", getattr(one, "help", None) or "", default_option(one)] for one in options]
    if rows:
        yield table(["argument or option", "meaning", "default"], rows)


def argument_name(parameter):
    """An argument as usage shows it."""
    name = parameter.name.upper() + ("..." if parameter.nargs == -1 else "")
    return name if parameter.required else f"[{name}]"


def default_option(parameter):
    """The default of an argument or option; "required" where it has none."""
    if parameter.required:
        return "required"
    value = parameter.default() if callable(parameter.default) else parameter.default
    plain = isinstance(value, (str, int, float)) and not isinstance(value, bool) and value != ""
    return f"`{value}`" if plain else ""


def report_tables():
    """{table: {column: (kind, meaning)}} of report.json, from wherever the report declares it; a kind with `?` may be null."""
    from workbench.report.document import tables

    return {name: {column.name: (_json_kind(column), _title(column)) for column in one.columns} for name, one in tables().items()}


def _json_kind(column):
    """The kind of a column; shares and p values are numbers."""
    return {"share": "number in [0, 1]", "p": "number in [0, 1]"}.get(column.type, column.type) + ("?" if column.optional else "")


def _title(column):
    """What the report calls it; "" where readers of the report do not see it by itself."""
    return column.title if isinstance(column.title, str) and not column.cell else ""


def report_page():
    """docs/reference/report-json.md: every table with its columns and their kinds."""
    from workbench.report.document import SCHEMA_VERSION, objects

    parts = [
        NOTE,
        REPORT.format(version=SCHEMA_VERSION),
        "## Objects",
        table(["object", "keys"], [[f"`{name}`", ", ".join(f"`{key.name}`" for key in one.columns)] for name, one in objects().items()]),
        "## Tables",
    ]
    for name, columns in report_tables().items():
        head = ["column", "kind", *(["shown as"] if any(about for _, about in columns.values()) else [])]
        rows = [[f"`{column}`", kind, about][: len(head)] for column, (kind, about) in columns.items()]
        parts.append(f"### `{name}`\n\n{table(head, rows)}")
    return "\n\n".join(parts) + "\n"


def report_schema():
    """docs/reference/report.schema.json: report.json as a JSON Schema."""
    from workbench.report.json_schema import json_schema

    return json.dumps(json_schema(), indent=1, ensure_ascii=False) + "\n"


def readme_methods():
    """The README's table of methods."""
    rows = []
    for kind in KINDS:
        names = [f"`{name}`" for name in bundled(kind)]
        rows.append([f"[{kind}](docs/reference/methods.md#{kind})", ", ".join(names)])
    return table(["kind", "methods"], rows)


def rooms():
    """The rooms of the package in the order of their imports, with the first line of each."""
    from tests.test_architecture import ORDER

    package, rows = ROOT / "workbench", []
    for name in ORDER:
        path = package / name / "__init__.py" if (package / name).is_dir() else package / f"{name}.py"
        if path.exists():
            text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
            rows.append([f"`{name}`", text.split("\n")[0]])
    return table(["room", "holds"], rows)


def pages():
    """{path: text} of the pages that are written whole."""
    return {
        REFERENCE / "methods.md": methods_page(),
        REFERENCE / "study-file.md": study_page(),
        REFERENCE / "cli.md": cli_page(),
        REFERENCE / "report-json.md": report_page(),
        REFERENCE / "report.schema.json": report_schema(),
    }


def parts():
    """{(path, name): text} of parts of pages."""
    return {(Path("README.md"), "methods"): readme_methods(), (Path("docs/develop/architecture.md"), "rooms"): rooms()}


def between(text, name, part):
    """The text of a page with one generated part replaced; ValueError where the page has no such marks."""
    pattern = re.compile(rf"(<!-- generated: {re.escape(name)} -->\n).*?(<!-- end of generated -->)", re.DOTALL)
    if not pattern.search(text):
        raise ValueError(f'The page has no marks for the part "{name}".')
    return pattern.sub(lambda found: f"{found[1]}{part}\n{found[2]}", text)


def wanted():
    """{path: text} of every page that is written, in whole or in part."""
    found = dict(pages())
    for (path, name), part in parts().items():
        found[path] = between(found.get(path) or (ROOT / path).read_text(encoding="utf-8"), name, part)
    return found


def check():
    """Paths whose text is behind the code."""
    return [str(path) for path, text in wanted().items() if not (ROOT / path).exists() or (ROOT / path).read_text(encoding="utf-8") != text]


def main():
    """Write what is behind."""
    texts = wanted()
    for path in check():
        (ROOT / path).write_text(texts[Path(path)], encoding="utf-8")
        print(f"written: {path}")


if __name__ == "__main__":
    main()
