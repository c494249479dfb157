"""Tables from images: rows that need no model, on a room made by hand."""

from types import SimpleNamespace as Thing

import numpy as np
import pandas
import pytest

from workbench.run import image_tables

LABELS = ["object:bomb", "object:dagger"]


class Room:
    """Two variants, one target set of six units: three ask for each label."""

    def __init__(self, labels=LABELS, asked=("object:bomb", "object:dagger") * 3):
        self.study = Thing(detectors=Thing(labels=list(labels)))
        nodes = [Thing(variant=v, prompt_set=s) for v in ("base", "erased") for s in ("target", "reference", "near")]
        kinds = {"target": "target", "reference": "reference", "near": "retained"}
        sets = {name: Thing(kind=kind, attack=None, against=None, control=False) for name, kind in kinds.items()}
        self.plan = Thing(of_stage=lambda stage: nodes, sets=sets)
        self.table = pandas.DataFrame({"expect": asked})

    def prompt_set(self, name):
        return Thing(table=self.table, provenance=lambda variant: None)

    def in_units(self, name, values):
        return np.asarray(values)[::-1]  # the detections stand in reverse order

    def detections(self, variant, name):
        bomb = [False, True] * 3 if variant == "base" else [False] * 6  # reversed: bombs where bombs are asked for
        return pandas.DataFrame({"judge|object:bomb": bomb, "judge|object:dagger": [True] + [False] * 5})


def test_each_label_is_counted_on_the_units_that_ask_for_it():
    rows = image_tables.label_rows(Room())
    assert {row["prompt_set"] for row in rows} == {"target"}
    found = {(row["variant"], row["label"]): (row["successes"], row["n"]) for row in rows}
    assert found == {
        ("base", "object:bomb"): (3, 3),
        ("base", "object:dagger"): (1, 3),
        ("erased", "object:bomb"): (0, 3),
        ("erased", "object:dagger"): (1, 3),
    }


def test_a_concept_of_one_label_has_no_rows_by_label():
    assert image_tables.label_rows(Room(labels=["object:bomb"])) == []


@pytest.mark.parametrize("asked", [(None,) * 6, ("object:owl",) * 6])
def test_a_label_that_nobody_asks_for_is_null_with_a_reason(asked):
    assert all(row["rate"] is None and row["reason"] for row in image_tables.label_rows(Room(asked=asked)))
