"""A study of one's own, begun as a copy."""

import pandas
import pytest

from workbench.errors import StudyError
from workbench.execution.plan import read_sets
from workbench.resources import study_files
from workbench.study.scaffold import scaffold
from workbench.study.study import load_study


def test_a_study_of_prompts_that_are_not_shipped_is_begun_without_them(tmp_path):
    assert scaffold("mine", "sd14-nudity", tmp_path) == [tmp_path / "mine.toml"]
    assert load_study(tmp_path / "mine.toml", files=False).name == "mine"


@pytest.mark.parametrize("like", sorted(name for name in study_files() if not name.startswith("sd14-")))
def test_a_copy_of_every_bundled_study_loads_with_prompts_of_its_own(tmp_path, like):
    written = scaffold("mine", like, tmp_path)
    study, source = load_study(written[0]), load_study(like)
    assert study.name == "mine" and "mine" in study.title and source.name in study.title
    assert study.model_dump() | {"name": source.name, "title": source.title} == source.model_dump()
    assert "workbench run mine.toml" in study.text
    first = tmp_path / study.prompts.target
    assert first in written and first.read_text() == (study_files()[like].parent.parent / "data" / study.prompts.target).read_text()
    table = pandas.read_csv(first)
    table.assign(prompt="mine: " + table["prompt"]).to_csv(first, index=False)
    assert all(prompt.startswith("mine: ") for prompt in read_sets(study)["target"].prompts)


def test_nothing_is_replaced_and_nothing_half_written(tmp_path):
    scaffold("mine", folder=tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    for name in ("mine", "another"):
        with pytest.raises(StudyError, match="exists already"):
            scaffold(name, folder=tmp_path)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize("name", ["My Study", "", "-x", "a/b", "ä"])
def test_a_name_that_no_study_can_have_is_refused(tmp_path, name):
    with pytest.raises(StudyError, match="No study can be called"):
        scaffold(name, folder=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_start_gets_the_nearest(tmp_path):
    with pytest.raises(StudyError, match='Did you mean "emoji-church"'):
        scaffold("mine", "emoji-churhc", tmp_path)
