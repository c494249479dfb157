"""Units follow the prompt: rows that say the same are one unit, unless the study says otherwise."""

import pytest

import workbench
from workbench.errors import StudyError
from workbench.execution import execute
from workbench.execution import plan as planning
from workbench.study.prompts import following_prompts, read_prompts

ROWS = [("u0", "an owl", 1), ("u1", "a cat", 2), ("u2", "an owl", 3), ("u3", "a house", 4), ("u4", "a cat", 5), ("u5", "a dog", 6)]


def written(path, rows, template="{}"):
    lines = [f"{unit},{template.format(text)},{seed},style:fluent" for unit, text, seed in rows]
    path.write_text("unit,prompt,seed,expect\n" + "\n".join(lines) + "\n")
    return path


def read(tmp_path, rows):
    return read_prompts(written(tmp_path / "prompts.csv", rows), "target", "target")


def test_rows_with_the_same_prompt_are_one_unit_by_the_name_of_the_first(tmp_path):
    plain = read(tmp_path, ROWS)
    found = following_prompts(plain)
    assert plain.units == plain.pair_units == [unit for unit, *_ in ROWS]
    assert found.units == ["u0", "u1", "u0", "u3", "u1", "u5"] and found.pair_units == plain.pair_units
    assert found.keys == plain.keys and found.digest() == plain.digest()  # what pairs, and what is drawn, stays
    assert found.rows(2, 5).units == ["u0", "u3", "u1"]


def test_units_that_share_one_of_their_prompts_are_one(tmp_path):
    rows = [("u0", "a", 1), ("u0", "b", 2), ("u1", "b", 3), ("u1", "c", 4), ("u2", "d", 5), ("u3", "c", 6)]
    assert following_prompts(read(tmp_path, rows)).units == ["u0", "u0", "u0", "u0", "u2", "u0"]


def test_prompts_that_differ_keep_their_units_and_the_set_as_it_was(tmp_path):
    plain = read(tmp_path, [(f"u{i}", f"thing {i}", i) for i in range(5)])
    assert following_prompts(plain) is plain
    several = read(tmp_path, [("u0", "a", 1), ("u0", "a", 2), ("u1", "b", 1), ("u1", "b", 2)])
    assert following_prompts(several) is several


@pytest.fixture
def repeated(study_file, tmp_path):
    """The tiny study with six rows of four different target prompts, two of them twice under units of their own."""
    for name, template in {"target": "{} in ink style", "reference": "{} in noto style", "near": "{} in fluent style"}.items():
        written(tmp_path / f"{name}.csv", ROWS, template)
    (tmp_path / "tiny.toml").write_text(study_file.read_text())
    return workbench.load_study(tmp_path / "tiny.toml").with_values(["sampling.steps=2", "record.calls=[0, 1]", "attacks=[]"])


def test_a_study_counts_prompts_unless_it_says_that_the_column_counts(repeated, tmp_path):
    by_column = repeated.with_values(['prompts.units="column"'])
    first, second = (execute.prepare(study, tmp_path / "run")[1] for study in (repeated, by_column))
    assert (len(first.units), len(second.units)) == (4, 6) and (first.plan.n_units, second.plan.n_units) == (4, 6)
    half = dict(zip(first.prompt_set("target").prompts, first.half_a(), strict=True))
    assert [half[prompt] for prompt in first.prompt_set("target").prompts] == first.half_a().tolist()  # no prompt is on both halves
    # images and recordings are the same, what depends on the halves is not
    keys = {node.id: [shard.key for shard in node.shards] for node in first.plan.nodes}
    other = {node.id: [shard.key for shard in node.shards] for node in second.plan.nodes}
    same = {name for name in keys if keys[name] == other[name]}
    assert {"generate:base:target", "record:base:target", "detect:base:near"} <= same and not same & {"score", "measure", "report"}


def test_an_older_study_without_repeated_prompts_keeps_its_keys(study_file, tmp_path):
    study = workbench.load_study(study_file)
    assert "units" not in study.model_dump(mode="json")["prompts"]
    first, second = (
        {node.id: [shard.key for shard in node.shards] for node in execute.prepare(one, tmp_path / "run")[0].nodes}
        for one in (study, study.with_values(['prompts.units="column"']))
    )
    assert {name for name in first if first[name] != second[name]} == {"measure", "report"}  # which hold the study as it is written


def test_rates_of_a_set_go_by_its_own_prompts_and_pairs_by_those_of_the_targets(repeated, tmp_path):
    written(tmp_path / "near.csv", [(unit, "a tree", seed) for unit, _, seed in ROWS])
    run = workbench.run(repeated, tmp_path / "run")
    (kept, *_) = run.document["retention"]
    assert (kept["n"], kept["n_units"]) == (6, 1) and kept["rate"] is None and "one unit" in kept["reason"]
    (ceiling,) = [row for row in run.document["rates"] if row["definition"] == "ceiling"]
    assert (ceiling["n"], ceiling["n_units"]) == (6, 4) and run.document["study"]["n_units"] == 4
    assert all((row["n"], row["n_units"]) == (6, 4) for row in run.document["comparisons"] if row["n"])
    assert {row["n"] for row in run.document["activity"] if row["neuron_set"] == "concept"} == {2}
    workspace = execute.prepare(repeated, run.folder)[1]
    assert workspace.units_of("near") == ["u0"] * 6 and workspace.units_of("target") == ["u0", "u1", "u0", "u3", "u1", "u5"]


def test_a_list_of_one_prompt_says_how_its_seeds_may_count(repeated, tmp_path):
    written(tmp_path / "target.csv", [(unit, "an owl", seed) for unit, _, seed in ROWS])
    with pytest.raises(StudyError, match=r'1 units; at least 4 .* The file names 6, but .* units = "column" under \[prompts\]'):
        planning.read_sets(repeated)
    assert len(set(planning.read_sets(repeated.with_values(['prompts.units="column"']))["target"].units)) == 6
