"""The guide to attacks states the settings the code has."""

import json
from pathlib import Path

from workbench.registry import methods

GUIDE = Path(__file__).parents[2] / "docs" / "guides" / "attacks.md"
BEGIN, END = "<!-- settings -->\n", "<!-- end of settings -->"


def settings():
    """The table of every attack with published values: default and published value of each such parameter, as Markdown."""
    lines = ["| attack | parameter | default | published |", "|---|---|---:|---:|"]
    for name, one in methods("attacks").items():
        for parameter, value in (one.published or {}).items():
            default = one.parameters.model_fields[parameter].default
            lines.append(f"| `{name}` | `{parameter}` | {json.dumps(default)} | {json.dumps(value)} |")
    return "\n".join(lines) + "\n"


def test_the_guide_lists_default_and_published_value_of_every_attack():
    text = GUIDE.read_text()
    stated = text[text.index(BEGIN) + len(BEGIN) : text.index(END)]
    assert stated == settings(), f"docs/guides/attacks.md is behind the code. Put this between its marks:\n{settings()}"


def test_published_values_are_settings_the_attack_takes():
    for one in methods("attacks").values():
        published = one.published or {}
        if published:
            assert one.parameters(**published).model_dump().items() >= published.items()
