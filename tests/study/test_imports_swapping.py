"""A list about something else: the same units and seeds, other words."""

import pandas
import pytest
from typer.testing import CliRunner

from tests.study.imported import table
from workbench.cli import main
from workbench.errors import PromptError
from workbench.study import prompts

TEXTS = ["Old church on a hill.", "Two Churches? No: two churchs.", "a chapel by the sea", "a child by a church", "Old church on a hill."]


def read(tmp_path, name, kind, *options):
    source = table(tmp_path / "church.csv", "UnlearnDiffAtk", TEXTS)
    out = tmp_path / f"{name}.csv"
    done = CliRunner().invoke(main.app, ["import-prompts", str(source), "--provenance", "static", "--out", str(out), *options])
    if done.exception:
        raise done.exception
    return prompts.read_prompts(out, name, kind), pandas.read_csv(out), done.output


def test_sets_of_one_list_pair_by_unit_and_seed(tmp_path):
    target, _, _ = read(tmp_path, "target", "target")
    near, table_, said = read(
        tmp_path,
        "near",
        "retained",
        "--swap",
        "church=castle",
        "--swap",
        "chapel=castle",
        "--swap",
        "churches=castles",
        "--expect",
        "castle",
    )
    assert near.prompts[:3] == ["Old castle on a hill.", "Two Castles? No: two castles.", "a castle by the sea"]
    assert near.units == target.units and near.seeds == target.seeds and len(set(near.units)) == 3
    assert set(table_["expect"]) == {"castle"} and "church -> castle" in said
    prompts.paired([target, near])


def test_a_word_can_be_taken_out(tmp_path):
    reference, _, _ = read(tmp_path, "reference", "reference", "--swap", "church=", "--swap", "chapel=", "--swap", "churches=")
    assert reference.prompts[0] == "Old on a hill." and reference.prompts[2] == "a by the sea"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--swap", "church=castle"], "contain none of the words church (rows 3)"),
        (["--swap", "church"], "is not a replacement. Write --swap church=castle"),
        (["--swap", "=castle"], "is not a replacement"),
    ],
)
def test_a_swap_that_leaves_prompts_as_they_are_is_refused(tmp_path, options, said):
    with pytest.raises(PromptError) as error:
        read(tmp_path, "near", "retained", *options)
    assert said in str(error.value) and "chapel" not in str(error.value)


def test_pairs_take_no_swap(tmp_path):
    (tmp_path / "pairs.csv").write_text("prompt,anchor\na church,a house\n")
    done = CliRunner().invoke(main.app, ["import-prompts", str(tmp_path / "pairs.csv"), "--swap", "church=castle"])
    assert isinstance(done.exception, PromptError) and "holds pairs" in str(done.exception)
