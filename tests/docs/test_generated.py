"""The parts of the documentation that the code knows are up to date."""

import pytest

from docs import write
from workbench import registry


def test_generated_parts_are_up_to_date():
    assert write.check() == [], "Run `make docs` and look at what changed."


def test_every_method_and_every_setting_has_its_row():
    text = write.methods_page()
    for kind in registry.VERBS:
        for name, method in write.bundled(kind).items():
            assert f"### `{name}`" in text
            for field in method.parameters.model_fields:
                assert f"| `{field}` |" in text


def test_every_field_of_a_study_has_a_row():
    from workbench.study.study import Study

    text = write.study_page()
    assert all(f"| `{name}` |" in text for name in Study.model_fields)
    assert "## `[prompts.other]`" in text and "## `[[variants]]`" in text


def test_every_command_has_a_section():
    import typer

    from workbench.cli.main import app

    text = write.cli_page()
    for name, command in typer.main.get_command(app).commands.items():
        assert f"## {name}\n" in text or all(f"## {name} {inner}\n" in text for inner in command.commands)


def test_a_part_without_marks_is_refused():
    text = "a\n<!-- generated: x -->\nold\n<!-- end of generated -->\nb"
    assert write.between(text, "x", "new") == "a\n<!-- generated: x -->\nnew\n<!-- end of generated -->\nb"
    with pytest.raises(ValueError, match="no marks"):
        write.between(text, "y", "new")
