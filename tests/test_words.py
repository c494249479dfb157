"""Texts a user reads use the words of docs/reference/glossary.md, none of its "not" column."""

import ast
import re
import tomllib
from functools import cache

import pytest

from tests.docs.pages import ROOT, prose

GLOSSARY = ROOT / "docs" / "reference" / "glossary.md"
PACKAGE = ROOT / "workbench"
# rooms whose words are being changed: take a room out as soon as it is clean
NOT_YET = [
    "analysis",
    "analyses",
    "cli",
    "execution",
    "methods",
    "study",
    "files",
]
ROOMS = ["docs", "diffusion", "models", "neurons", "pages", "report", "ui", *NOT_YET]


@cache
def forbidden():
    """The phrases in code font of the last column, as one regular expression over whole words."""
    phrases = []
    for line in GLOSSARY.read_text(encoding="utf-8").splitlines():
        cells = line.strip("|").split("|")
        if line.startswith("|") and len(cells) == 3:
            phrases += re.findall(r"`([^`]+)`", cells[2])
    # a phrase with a capital is a name, such as half A, and means just that; others in any case
    each = [re.escape(one).replace(r"\ ", r"\s+") for one in sorted(phrases, key=len, reverse=True)]
    each = [one if one != one.lower() else f"(?i:{one})" for one in each]
    return re.compile(rf"(?<![\w.-])(?:{'|'.join(each)})(?![\w-])")


def of_page(path):
    """The prose of a page: no fenced blocks, no code spans, no link targets, no generated parts."""
    if path.read_text(encoding="utf-8").startswith("<!-- written by"):
        return []  # made from the code, whose rooms are held
    text = re.sub(r"<!-- generated.*?<!-- end of generated[^>]*-->", "", prose(path), flags=re.DOTALL)
    text = re.sub(r"`[^`\n]*`", "` `", text)
    return [re.sub(r"\]\([^)]*\)", "]", text)]


def of_template(path):
    """The text of a template: no expressions, no statements, no tags."""
    return [re.sub(r"\{[{%#].*?[}%#]\}|<[^>]*>", " ", path.read_text(encoding="utf-8"), flags=re.DOTALL)]


def of_code(path):
    """String literals that may reach a user: of several words or with a capital first; docstrings of commands, first lines of methods."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    doc_of = {id(node.body[0].value): node for node in ast.walk(tree) if _has_docstring(node)}
    found, inside = [], set()
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            inside |= {id(part) for part in ast.walk(node)} - {id(node)}
            found.append("".join(part.value if isinstance(part, ast.Constant) else "x" for part in node.values))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in inside:
            owner = doc_of.get(id(node))
            command = isinstance(owner, ast.FunctionDef) and owner.decorator_list and path.is_relative_to(PACKAGE / "cli")
            if owner is None or command:
                found.append(node.value)
            elif isinstance(owner, ast.Module) and path.is_relative_to(PACKAGE / "methods"):
                found.append(node.value.strip().splitlines()[0])
    return [text for text in found if re.search(r"\S\s+\S", text) or text[:1].isupper()]


def _has_docstring(node):
    if not isinstance(node, (ast.Module, ast.FunctionDef, ast.ClassDef, ast.AsyncFunctionDef)) or not node.body:
        return False
    first = node.body[0]
    return isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and isinstance(first.value.value, str)


def of_study(path):
    """Title, question and note of a bundled study."""
    study = tomllib.loads(path.read_text(encoding="utf-8"))
    return [study["title"], study.get("question", ""), study["model"].get("note", "")]


def texts(room):
    """{place: texts} of a room."""
    if room == "docs":
        pages = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md"), *(ROOT / "experiments").rglob("*.md")]
        past = (ROOT / "docs" / "decisions", ROOT / "docs" / "results")
        return {path: of_page(path) for path in pages if path != GLOSSARY and path.parent not in past}
    if room == "analyses":
        return {path: of_study(path) for path in (ROOT / "analyses").glob("*.toml")}
    if room == "pages":
        return {path: of_code(path) for path in (ROOT / "pages").glob("*.py")}
    if room == "files":
        return {path: of_code(path) for path in PACKAGE.glob("*.py")}
    found = {path: of_code(path) for path in (PACKAGE / room).rglob("*.py")}
    return found | {path: of_template(path) for path in (PACKAGE / room).rglob("*.j2")}


def wrong(room):
    """Every word that a room should not say, with where."""
    return [
        f'{path.relative_to(ROOT)}: "{hit.group()}" in "{text[max(0, hit.start() - 40) : hit.end() + 40].strip()}"'
        for path, said in texts(room).items()
        for text in said
        for hit in forbidden().finditer(text)
    ]


@pytest.mark.parametrize("room", ROOMS)
def test_texts_a_user_reads_say_the_words_of_the_glossary(room):
    if room in NOT_YET and wrong(room):
        pytest.xfail(f"the words of {room} are being changed")
    assert not wrong(room), "\n".join(wrong(room))


def test_every_room_of_the_package_is_held():
    rooms = {path.name for path in PACKAGE.iterdir() if path.is_dir() and any(path.rglob("*.py"))}
    assert rooms - {"__pycache__"} <= set(ROOMS)


def test_a_room_is_held_by_its_commands_errors_and_labels(tmp_path):
    code = '"""Woken up."""\nraise ValueError(f"{3} neurons were woken")\nTITLE = "Woken"\nKEY = "woken"\n'
    path = tmp_path / "code.py"
    path.write_text(code)
    assert set(of_code(path)) == {"Woken", "x neurons were woken"}
    assert forbidden().search("neurons were woken") and not forbidden().search("the column `looks` and a near miss")
