"""preset = "published" of erasers: what it fills in, what is told when a study sets otherwise, and what keys rest on."""

import re
import tomllib

import pytest

from workbench.execution import plan as planning
from workbench.registry import methods
from workbench.resources import study_files
from workbench.study import published
from workbench.study.published import Published
from workbench.study.study import Study

INK = tomllib.loads(study_files()["emoji-ink-style"].read_text())
ERASERS = methods("erasers")
WITH = sorted(name for name, one in ERASERS.items() if one.published)


def study(kind="style", **variant):
    concept = INK["concept"] | {"kind": kind}
    first = {"name": "erased", "method": "esd"} | variant
    return Study(**(INK | {"concept": concept, "variants": [first], "attacks": []}))


def refused(message, **more):
    with pytest.raises(ValueError, match=re.escape(message)):
        study(**more)


def settings(one):
    part = one.variant("erased")
    return ERASERS[part.method].parameters(**part.settings).model_dump()


def test_every_eraser_says_what_was_published_or_why_nothing_was():
    known = [
        "ac",
        "adv_unlearn",
        "bilevel",
        "cad",
        "conceptprune",
        "esd",
        "fia",
        "rece",
        "receler",
        "revive",
        "safree",
        "salun",
        "scissorhands",
        "sld",
        "spm",
        "stereo",
    ]
    assert [*known, "uce"] == WITH
    for name, one in ERASERS.items():
        says = [hasattr(one.module, what) for what in ("PUBLISHED", "NO_PRESET", "files")]
        assert sum(says) == 1, name  # what reads a file is what the file says


@pytest.mark.parametrize("name", WITH)
def test_a_table_accounts_for_every_parameter_once_and_its_values_can_be_set(name):
    one, table = ERASERS[name], ERASERS[name].published
    assert isinstance(table, Published) and table.source and table.differs
    by_task = {parameter for values in table.tasks.values() for parameter in values}
    own = {name: "ink" for name, field in one.parameters.model_fields.items() if field.is_required()}  # what no publication can say
    assert own.keys() <= table.unknown.keys()
    stated = [*table.values, *(by_task - set(table.values)), *table.unknown, *table.ours]
    assert sorted(stated) == sorted(one.parameters.model_fields)
    for task in table.tasks or [None]:
        given = table.settings(f"published:{task}" if task else "published", None)
        set_to = one.parameters(**given, **own).model_dump()
        assert given.items() <= set_to.items()
        assert set_to != one.parameters(**own).model_dump() or name in (
            "uce",
            "safree",
        )  # nothing is trained, so a small model takes the same
    for values in table.tasks.values():
        assert {*table.values, *values} == {*table.values, *by_task}


@pytest.mark.parametrize(("kind", "modules"), [("style", "x"), ("object", "u")])
def test_the_concepts_kind_says_which_task_it_is(kind, modules):
    found = settings(study(kind, preset="published"))
    assert found["modules"] == modules and found["form"] == "concept" and found["trajectories"] == 0
    assert (found["iterations"], found["learning_rate"], found["eta"], found["batch"]) == (200, 5e-5, 2.0, 1)


def test_a_task_may_be_named():
    found = settings(study("object", preset="published:nudity-2023"))
    assert (found["modules"], found["form"], found["iterations"], found["learning_rate"], found["eta"]) == ("u", "empty", 1000, 1e-5, 1.0)
    assert settings(study("group", method="revive", preset="published"))["start"] == "mean"


def test_a_preset_that_cannot_be_meant_is_told_with_those_that_can():
    refused(
        'the kind of concept "group" does not say which task applies. Possible: "published:style", "published:object"',
        kind="group",
        preset="published",
    )
    refused('names the task "celebrity", for which nothing was published. Possible: "published:style"', preset="published:celebrity")
    refused('variant "erased": there is no preset "publshed". Did you mean "published"?', preset="publshed")
    refused('names the task "style", for which nothing was published. Write "published" only', method="revive", preset="published:style")
    refused(
        "learned_mask has no preset: what its model, P-ESD (arXiv 2405.16534), was trained with is not known",
        method="learned_mask",
        preset="published",
    )
    refused(f"Erasers with one: {', '.join(WITH)}", method="magnitude", preset="published")
    refused('"etta" is not a setting here. Did you mean "eta"', preset="published", parameters={"etta": 1})
    refused('No eraser is called "esdd"', method="esdd", preset="published")


def test_what_is_set_beside_the_preset_wins_and_is_told():
    one = study(preset="published", parameters={"eta": 0.4, "iterations": 25, "seed": 3, "batch": 1})
    part = one.variant("erased")
    assert settings(one)["eta"] == 0.4 and settings(one)["steps"] == 50
    assert published.deviations(part) == [("iterations", 25, 200), ("eta", 0.4, 2.0)]
    said = "erased: esd as published (style), but iterations = 25 (published: 200), eta = 0.4 (published: 2.0): no replication."
    assert published.sentences(one) == published.sentences(one, deviating=True) == [said]


def test_who_sets_nothing_is_as_published():
    one = study(preset="published", parameters={"seed": 3, "eta": 2})
    assert published.sentences(one) == ["erased: esd as published (style)."] and published.sentences(one, deviating=True) == []
    assert published.sentences(study()) == []
    cad = study(method="cad", preset="published")
    assert published.sentences(cad) == ["erased: cad as published. The published value is not known for draws = 20."]
    fia = study(method="fia", preset="published", parameters={"layers": ["reads"], "concepts": ["ink", "lineart"]})
    assert published.deviations(fia.variant("erased")) == []
    other = study(method="fia", preset="published", parameters={"layers": ["feeds", "reads"], "form": "paper"})
    assert published.deviations(other.variant("erased")) == [("form", "paper", "code"), ("layers", ("feeds", "reads"), ("reads",))]
    assert 'form = "paper" (published: "code"), layers = ["feeds", "reads"] (published: ["reads"])' in published.sentences(other)[0]


def test_a_preset_has_the_key_of_the_same_settings_written_out_and_a_study_without_one_says_none():
    def key(one):
        return planning.build(one, "model", 10).node("erase:erased").key

    written = {"modules": "x", "form": "concept", "iterations": 200, "learning_rate": 5e-5, "eta": 2.0, "steps": 50, "batch": 1}
    assert key(study(preset="published")) == key(study(parameters=written | {"trajectories": 0})) != key(study())
    assert "preset" not in study().model_dump(mode="json")["variants"][0]
    again = Study(**study(preset="published").model_dump(mode="json"))
    assert settings(again) == settings(study(preset="published"))


def test_the_table_is_listed_by_parameter():
    listed = published.column(ERASERS["esd"])
    assert listed["iterations"] == "200, or 1000 (style-2023, object-2023, nudity-2023)"
    assert listed["modules"].startswith('"x" (style, style-2023); "u" (object, nudity') and listed["seed"] == "ours"
    assert published.column(ERASERS["cad"])["draws"].startswith("not known: of the form amplify")
    assert published.column(methods("attacks")["p4d"])["form"] == "N"  # attacks keep plain values
    assert published.column(ERASERS["magnitude"]) == {}
    assert published.about(ERASERS["magnitude"]) == ["No preset: it is a control of this project."]
