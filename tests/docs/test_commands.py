"""The commands, settings and code in README and guides are right: each command fits the command line, quick ones are run.

Blocks of `console` hold commands behind `$ `, blocks of `toml` parts of a study file, blocks of `python` code.
"""

import re
import shlex
import shutil
import tarfile
import tomllib

import pytest
import typer
from pydantic import BaseModel
from typer.testing import CliRunner

from docs.write import unwrapped
from tests.docs.pages import ROOT
from tests.frozen.make import HERE
from workbench.cli.main import app
from workbench.study.study import Study, load_study

PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs" / "guides").glob("*.md"))]
PAGES += sorted((ROOT / "docs" / "develop").glob("*.md"))
BLOCK = re.compile(r"^ *```(\w+)\n(.*?)^ *```", re.DOTALL | re.MULTILINE)
# commands that need neither a model nor minutes: run where the files they name are there
QUICK = ("list", "show", "report", "status", "verify", "init", "import-prompts", "mask show", "mask compare", "mask combine", "mask invert")
QUICK += ("sets show", "sets compare", "sets union")
# other programs; their commands are not checked
OTHERS = ("source", "pip", "git", "cd", "pre-commit")
# programs that start another one, which is checked
STARTERS = ("srun", "torchrun")
RUN = "emoji-ink-style"


def blocks(page, kind):
    return [text for found, text in BLOCK.findall(page.read_text(encoding="utf-8")) if found == kind]


def commands(page):
    """The words of every command of a page, without what stands behind #."""
    lines = [line for text in blocks(page, "console") for line in text.splitlines()]
    return [shlex.split(line.strip().removeprefix("$ "), comments=True) for line in lines if line.strip().startswith("$ ")]


ALL = [(page, words) for page in PAGES for words in commands(page)]


@pytest.mark.parametrize("page, words", ALL, ids=lambda value: value.name if hasattr(value, "name") else " ".join(value))
def test_a_command_fits_the_command_line(page, words):
    if words[0] == "make":
        targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
        assert set(words[1:]) <= set(targets)
    elif words[0] == "sbatch":
        assert (ROOT / words[1]).is_file()
    elif "workbench" in words and words[0] in ("workbench", *STARTERS):
        words = words[words.index("workbench") :]
        command, context, rest = typer.main.get_command(app), None, words[1:]
        while hasattr(command, "commands"):
            context = typer.Context(command, parent=context)
            assert rest and rest[0] in command.commands, f"{page.name}: no verb {rest[:1]}"
            command, rest = command.commands[rest[0]], rest[1:]
        command.make_context(command.name, list(rest), parent=context)  # raises for a word that does not fit
        if words[1] == "run" and "--set" in words:
            load_study(words[2]).with_values([words[place + 1] for place, word in enumerate(words) if word == "--set"])
    else:
        assert words[0] in OTHERS, f"{page.name}: say here how `{words[0]}` is checked"


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with a finished run, masks, neuron sets and a prompt list, under the names that the guides use."""
    folder = tmp_path_factory.mktemp("place")
    with tarfile.open(HERE / "run.tar.xz") as archive:
        archive.extractall(folder, filter="data")
    run = folder / "frozen" / "run"
    (folder / "church.csv").write_text("prompt,evaluation_seed\nA church at night,7\nAn old church,8\n")
    (folder / "prompts").mkdir()
    masks, sets = sorted((run / "nodes" / "erase").glob("*/mask.safetensors")), run / "report" / "neuron-sets"
    for name, given in {"masks": masks[:2], "sets": [sets / "concept.safetensors", sets / "both.safetensors"]}.items():
        (folder / name).mkdir()
        for letter, path in zip("AB", given, strict=True):
            shutil.copy(path, folder / name / letter)
    (folder / "masks" / "here").mkdir()
    shutil.copy(masks[0], folder / "masks" / "here" / "mask.safetensors")
    shutil.copy(sets / "concept.safetensors", folder / "sets" / "FILE")
    (folder / "runs").mkdir()
    shutil.move(run, folder / "runs" / RUN)
    return folder


def quick(words):
    return words[0] == "workbench" and (words[1] in QUICK or " ".join(words[1:3]) in QUICK)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_quick_commands_run(page, place, tmp_path, monkeypatch):
    part = place / {"masks.md": "masks", "attribute-cluster-ablate.md": "sets"}.get(page.name, ".")
    shutil.copytree(part, tmp_path / "here", dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path / "here")
    ran = 0
    for words in filter(quick, commands(page)):
        named = [word for word in words[2:4] if re.fullmatch(r"[A-Z]+|.+\.(csv|bin|safetensors)|.+/.+", word)]
        if not all((tmp_path / "here" / word).exists() for word in named):
            continue  # a file that only its reader has
        done = CliRunner().invoke(app, words[1:], catch_exceptions=False)
        expected = (0, 1) if words[1] == "verify" else (0,)  # the finished run of the tests has lost its images
        assert done.exit_code in expected, f"{' '.join(words)}\n{done.output}"
        ran += 1
    if page.name in ("README.md", "first-study.md", "masks.md", "attribute-cluster-ablate.md", "import-prompts.md"):
        assert ran


def unknown(data, model, path=""):
    """Keys of a part of a study file that no table of the study has."""
    for key, value in data.items():
        if key not in model.model_fields:
            yield f"{path}{key}"
            continue
        kind, _ = unwrapped(model.model_fields[key].annotation)
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            for one in value if isinstance(value, list) else [value]:
                yield from unknown(one, kind, f"{path}{key}.")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_parts_of_study_files_have_no_unknown_key(page):
    for text in blocks(page, "toml"):
        data = tomllib.loads(text)
        assert "project" in data or list(unknown(data, Study)) == [], text


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_python_blocks_are_python(page):
    for text in blocks(page, "python"):
        indent = len(text) - len(text.lstrip(" "))
        compile("\n".join(line[indent:] for line in text.splitlines()), page.name, "exec")


def test_what_the_readme_names_of_a_run_is_there(place):
    import workbench
    from workbench.execution.open_run import open_run

    text = "\n".join(blocks(ROOT / "README.md", "python"))
    run = open_run(place / "runs" / RUN)
    assert hasattr(workbench, "load_study") and hasattr(workbench, "run")
    for name in set(re.findall(r"\brun\.(\w+)", text)) - {"run"}:
        assert hasattr(run, name), name
