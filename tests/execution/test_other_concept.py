"""A study that names another concept: what is recorded, chosen, measured and refused."""

import numpy as np
import pytest

import workbench
from tests.tiny_study import written
from workbench.errors import PromptError, StudyError
from workbench.execution import execute
from workbench.execution import plan as planning
from workbench.statistics import jackknife, sign_flip_p
from workbench.storage import read_table

OTHER = '[prompts.other]\nname = "lineart"\ntarget = "other.csv"\nreference = "plain.csv"\n'
THINGS = ["owl", "cat", "house", "church", "mountain", "bridge"]
SHAM = (
    '[[variants]]\nname = "sham"\nmethod = "esd"\nrole = "sham"\nparameters = { iterations = 2, steps = 3, trajectories = 2, batch = 2 }\n'
)


def study_of(folder, model, other="a lineart picture of {}", units="u", sham=True):
    path = written(folder, model)
    for name, template in (("other", other), ("plain", "a picture of {}")):
        rows = [f"{units}{i},{template.format(thing)},{i}" for i, thing in enumerate(THINGS)]
        (folder / f"{name}.csv").write_text("unit,prompt,seed\n" + "\n".join(rows) + "\n")
    text = path.read_text().replace("[detectors]", OTHER + "[detectors]", 1)
    path.write_text(text.replace("[[attacks]]", SHAM + "[[attacks]]", 1) if sham else text)
    return path


@pytest.fixture(scope="module")
def study(tmp_path_factory, tiny_folder):
    return study_of(tmp_path_factory.mktemp("other"), tiny_folder)


@pytest.fixture(scope="module")
def done(tmp_path_factory, study, finished):
    return workbench.run(workbench.load_study(study), tmp_path_factory.mktemp("runs") / "tiny", others=[finished.folder])


def test_other_prompts_are_recorded_on_the_same_latents_and_make_no_image(study, study_file):
    plan, before = planning.build(workbench.load_study(study), "model", 10), planning.build(workbench.load_study(study_file), "model", 10)
    new = {(node.stage, node.variant, node.prompt_set) for node in plan.nodes if node.prompt_set in ("other-target", "other-reference")}
    assert new == {("record", "base", "other-reference")} | {
        ("record", name, "other-target") for name in ("base", "erased", "pruned", "sham")
    }
    keys = {node.id: node.key for node in plan.nodes}
    for node in before.nodes:
        if node.stage not in ("measure", "report"):
            assert keys[node.id] == node.key, node.id
    inputs = plan.node("record:erased:other-target").inputs
    assert set(inputs) == {"generate:base:target", "generate:base:reference", "erase:erased"}


def test_numbers_are_those_of_the_definition(done, study):
    """Every number of the table from the recordings, by loops over units."""
    workspace = execute.prepare(workbench.load_study(study), done.folder)[1]
    table = read_table(done.folder / "report" / "neurons.parquet")
    half_b = ~workspace.units_in_half_a()
    concept, other = (table[name].to_numpy() & (table["site"] == "ff").to_numpy() for name in ("in_concept", "in_other"))
    assert other.any() and not (concept & other).any()

    def of(variant, name, members, trajectory):
        return (
            workspace.unit_means(name, workspace.mean_abs(variant, name, trajectory))
            .mean(axis=1)[half_b][:, members]
            .sum(axis=1, dtype=float)
        )

    rows = done.document["other_concept"]
    assert {(row["effect"], row["variant"], row["prompts"]) for row in rows} == {
        *(("deactivation", name, prompts) for name in ("erased", "pruned", "sham") for prompts in ("target", "other-target")),
        *(("reactivation", name, "target") for name in ("erased", "pruned")),
    }
    measured = 0
    for row in rows:
        assert (row["reason"] is None) == (row["value"] is not None)
        if row["reason"]:
            continue
        measured += 1
        at = row["trajectory"]
        scale = of("base", "other-target", other, at) - of("base", "other-reference", other, at)
        if row["effect"] == "deactivation":
            difference = of("base", row["prompts"], other, at) - of(row["variant"], row["prompts"], other, at)
        else:
            name = f"{row['attack']}@{row['against']}" if row["against"] else row["attack"]
            difference = of(row["variant"], name, other, at) - of(row["variant"], f"{name}~control", other, at)
        found = jackknife(np.divide, np.arange(half_b.sum()), difference, scale)
        assert row["value"] == pytest.approx(difference.mean() / scale.mean()) and row["n"] == half_b.sum()
        assert (row["low"], row["high"]) == pytest.approx((found.low, found.high))
        assert row["p_change"] == pytest.approx(sign_flip_p(difference))
        assert row["difference"] == pytest.approx(row["own"] - row["value"])
        assert row["difference_low"] <= row["difference"] <= row["difference_high"]
    assert measured


def test_the_concept_stands_beside_it_on_its_own_scale(done):
    effects = {
        (r["effect"], r["variant"], r["attack"], r["against"], r["trajectory"]): r
        for r in done.document["effects"]
        if r["neuron_set"] == "concept"
    }
    rows = [row for row in done.document["other_concept"] if row["own"] is not None and row["n_shared"] == 0 and row["variant"] != "pruned"]
    for row in rows:
        same = effects[row["effect"], row["variant"], row["attack"], row["against"], row["trajectory"]]
        assert (row["own"], row["own_low"], row["own_high"]) == pytest.approx((same["value"], same["low"], same["high"]))
        assert row["own_p_change"] == same["p_change"]


def test_too_few_units_give_numbers_and_no_word_and_a_study_without_the_part_has_none_of_it(done, finished):
    assert not [word for word in done.document["verdict"]["words"] if word["kind"] == "another concept"]
    assert [row for row in done.document["set_validity"] if row["neuron_set"] == "other"]
    assert finished.document["other_concept"] == [] and "in_other" not in read_table(finished.folder / "report" / "neurons.parquet")
    assert "another concept, lineart" in (done.folder / "report" / "report.md").read_text()
    assert "another concept, lineart" in (done.folder / "report" / "report.html").read_text()


@pytest.mark.parametrize("table", ["activity", "rates", "retention", "selection", "neurons"])
def test_adding_the_part_changes_no_other_number(done, finished, table):
    before, after = (run.document[table] for run in (finished, done))
    assert before and [row for row in before if row not in after] == []


@pytest.mark.parametrize(
    ("other", "units", "error", "message"),
    [
        ("{} in ink style", "u", StudyError, 'prompts.other.target has a prompt of the study\'s own target set, "owl in ink style"'),
        ("a lineart picture", "u", StudyError, 'prompts.other.target has one prompt for 6 units of the study, "a lineart picture"'),
        ("a lineart picture of {}", "v", PromptError, 'The set "other-target" has no prompt for 6 units of "target", e.g. "u0"'),
    ],
)
def test_prompts_that_cannot_be_compared_are_refused(tmp_path, tiny_folder, other, units, error, message):
    study = workbench.load_study(study_of(tmp_path, tiny_folder, other, units))
    with pytest.raises(error, match=message):
        planning.build(study, "model", 10)


def test_seeds_may_count_as_units_where_the_study_says_so(tmp_path, tiny_folder):
    study = workbench.load_study(study_of(tmp_path, tiny_folder, "a lineart picture"))
    assert planning.build(study.with_values(["prompts.units=column"]), "model", 10).n_units == 6


def test_what_an_eraser_learns_from_is_not_measured_here_either(tmp_path, tiny_folder):
    path = study_of(tmp_path, tiny_folder)
    (tmp_path / "pairs.csv").write_text("prompt,anchor\na lineart picture of cat,a cat\nink owl,an owl\n")
    path.write_text(path.read_text().replace("[prompts.other]", 'erase = "pairs.csv"\n[prompts.other]', 1))
    with pytest.raises(StudyError, match='the prompt "a lineart picture of cat" \\(set other-target\\)'):
        planning.build(workbench.load_study(path), "model", 10)


def test_a_file_that_is_not_there_is_told_when_the_study_is_read(tmp_path, tiny_folder):
    path = study_of(tmp_path, tiny_folder)
    (tmp_path / "plain.csv").unlink()
    with pytest.raises(StudyError, match="plain.csv"):
        workbench.load_study(path)


def test_the_same_neurons_for_both_concepts_are_said_to_be_that(done, study, monkeypatch):
    from workbench.execution.rows import other_concept

    workspace = execute.prepare(workbench.load_study(study), done.folder)[1]
    table = read_table(workspace.result("score") / "neurons.parquet")
    same = table["in_concept"].to_numpy()[(table["site"] == "ff").to_numpy()]
    monkeypatch.setattr(other_concept.choice.Rule, "on", lambda self, evidence: lambda rows: same)
    found = other_concept.pair(workspace, table)
    assert found.other is None and found.shared == same.sum()
    assert other_concept.caveats(found) == [
        "The verdict says nothing about neurons of another concept. lineart: The rule chooses the same neurons for both concepts, so it "
        "cannot distinguish them."
    ]
    assert other_concept.with_column(table, found) is table


@pytest.mark.parametrize("rule", [["choose.score=contrast"], ["choose.score=wanda_contrast"], ['choose.agree=["contrast","auroc"]']])
def test_the_rule_is_the_one_that_chose_the_concepts_neurons(study, tmp_path, rule):
    """Asked for the study's own prompts, it chooses what the stage score chose."""
    from workbench.execution.rows import choice

    given = workbench.load_study(study).with_values([*rule, "attacks=[]"])
    plan, workspace = execute.prepare(given, tmp_path / "run")
    execute.run_nodes(
        workspace,
        [n for n in plan.nodes if n.variant == "base" and n.stage in ("generate", "record") and n.prompt_set != "near"]
        + [plan.node("score")],
    )
    table = read_table(workspace.result("score") / "neurons.parquet")
    ff = (table["site"] == "ff").to_numpy()
    one = choice.Rule(workspace, ff, {})
    assert one.on(one.units(one.rows("target", "reference")))(workspace.units_in_half_a()).tolist() == table["in_concept"][ff].tolist()
    found = one.on(one.units(one.rows("other-target", "other-reference")))(workspace.units_in_half_a())
    assert found.any()
