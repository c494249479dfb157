"""The guide to erasers states the settings the code has."""

import json
from pathlib import Path

from workbench.registry import methods
from workbench.study import published

GUIDE = Path(__file__).parents[2] / "docs" / "guides" / "erasers.md"
BEGIN, END = "<!-- settings -->\n", "<!-- end of settings -->"


def settings():
    """The table of every eraser with a preset: default and published value of each parameter, as Markdown."""
    lines = ["| eraser | parameter | default | published |", "|---|---|---:|---|"]
    for name, one in methods("erasers").items():
        for parameter, value in published.column(one).items():
            if value != "ours":
                known = one.parameters.model_fields[parameter]
                default = "to be given" if known.is_required() else json.dumps(known.default)
                lines.append(f"| `{name}` | `{parameter}` | {default} | {value} |")
    return "\n".join(lines) + "\n"


def test_the_guide_lists_default_and_published_value_of_every_eraser():
    text = GUIDE.read_text()
    stated = text[text.index(BEGIN) + len(BEGIN) : text.index(END)]
    assert stated == settings(), f"docs/guides/erasers.md is behind the code. Put this between its marks:\n{settings()}"
