"""A study written as text is read as the same study."""

import tomllib

import pytest
from hypothesis import given
from hypothesis import strategies as some

from workbench import resources
from workbench.study import as_toml
from workbench.study.study import load_study, study_of_text


@pytest.mark.parametrize("name", resources.study_files())
def test_every_bundled_study_keeps_its_content(name):
    path = resources.study_files()[name]
    data = tomllib.loads(path.read_text())
    assert tomllib.loads(as_toml.text(data)) == data
    study = load_study(path, files=False)
    short = as_toml.text(as_toml.concise(study.model_dump(mode="json")))
    assert study_of_text(short, path, files=False).digest() == study.digest()


VALUES = some.recursive(
    some.booleans() | some.integers(-(2**60), 2**60) | some.floats(allow_nan=False, allow_infinity=False) | some.text(max_size=20),
    lambda inner: some.lists(inner, max_size=3) | some.dictionaries(some.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@given(some.dictionaries(some.text(max_size=6), VALUES, max_size=4))
def test_any_table_comes_back(table):
    def plain(value):  # what is left out: empty tables
        if isinstance(value, dict):
            return {key: plain(one) for key, one in value.items()}
        return [plain(one) for one in value] if isinstance(value, list) else value

    assert tomllib.loads(f"v = {as_toml.value(table)}")["v"] == plain(table)


def test_what_is_none_or_an_empty_table_is_left_out():
    assert as_toml.text({"a": None, "concept": {"b": None, "c": {}}, "variants": [{"name": "x", "parameters": {}}]}) == (
        '[concept]\n\n[[variants]]\nname = "x"\n'
    )
