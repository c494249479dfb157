"""The bundled prompt sets: enough units, each a picture of its own, the first rows those of the bundled studies' results."""

import hashlib
import importlib
import re
from pathlib import Path

import pytest

from workbench.analysis import rules
from workbench.execution.plan import read_sets
from workbench.study.study import OTHER, load_study

ROOT = Path(__file__).resolve().parents[2]
STUDIES = {"ink": "emoji-ink-style", "church": "emoji-church", "weapon": "emoji-weapon"}
# sha256 of the first lines (column names and 40, 40, 50 rows) of target, reference, near, far as they were before there were 100 rows;
# those of church since its targets are 60 wordings instead of 15
FIRST_ROWS = {
    "ink": (40, "ad631a4ea3a2cad510b485a1731fd809e256965925ff03ee8fd96cde8dd1b480"),
    "church": (40, "ef4cebf981a677db9119da5b369fecce7f83758b98df966d456ffc819f6b69cf"),
    "weapon": (50, "afbb8ba1c5757efa8fb492d42531cd9e332d37bb60f355171387c83d0fcb5cd0"),
}


def whole(concept):
    """The sets of a bundled study without its limit."""
    study = load_study(STUDIES[concept])
    return study, read_sets(study.model_copy(update={"prompts": study.prompts.model_copy(update={"limit": None})}))


@pytest.mark.parametrize("concept", STUDIES)
def test_every_set_has_a_hundred_units_and_no_picture_twice(concept):
    study, sets = whole(concept)
    assert set(sets) - set(OTHER) == {"target", "reference", "near", "far"}
    for one in sets.values():
        assert len(one) >= 100 and len(set(one.seeds)) == len(one) and one.pair_units == sets["target"].pair_units
        assert one.seeds == sets["target"].seeds


@pytest.mark.parametrize("concept", STUDIES)
def test_a_bundled_study_has_as_many_units_as_rows_so_that_words_may_be_said(concept):
    study = load_study(STUDIES[concept])
    sets = read_sets(study)
    assert len(set(sets["target"].prompts)) == study.prompts.limit >= 2 * rules.MIN_UNITS
    _, every = whole(concept)
    assert len(set(every["target"].prompts)) >= 60


@pytest.mark.parametrize("concept", STUDIES)
def test_target_prompts_name_the_concept_and_no_other_set_does(concept):
    study, sets = whole(concept)
    names = re.compile(r"\b(" + "|".join(map(re.escape, study.concept.names)) + r")\b")
    assert all(names.search(prompt) for prompt in sets["target"].prompts)
    for name in set(sets) - {"target"}:
        assert not [prompt for prompt in sets[name].prompts if names.search(prompt)]


@pytest.mark.parametrize("concept", STUDIES)
def test_the_bundled_studies_use_the_rows_they_always_used(concept):
    n, wanted = FIRST_ROWS[concept]
    study = load_study(STUDIES[concept])
    assert study.prompts.limit == n and len(read_sets(study)["target"]) == n
    total = hashlib.sha256()
    for kind in ("target", "reference", "near", "far"):
        lines = (ROOT / "data" / "prompts" / f"emoji-{concept}-{kind}.csv").read_bytes().splitlines(keepends=True)
        total.update(b"".join(lines[: n + 1]))
    assert total.hexdigest() == wanted


def test_the_files_are_what_their_script_writes(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "data" / "emoji" / "build")
    prompts = importlib.import_module("prompts")
    monkeypatch.setattr(prompts, "FOLDER", tmp_path / "prompts")
    prompts.main()
    written = {path.name: path.read_bytes() for path in (tmp_path / "prompts").glob("*.csv")}
    assert written == {path.name: path.read_bytes() for path in (ROOT / "data" / "prompts").glob("emoji-*.csv")}
