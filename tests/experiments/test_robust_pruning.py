"""The claim about pruning, as it is asked: fair comparators, no development concept in the test, nothing measured that was trained on."""

from itertools import pairwise

import pytest

from experiments.robust_pruning import design as bench
from experiments.robust_pruning import run, tables
from workbench.execution import execute
from workbench.study.study import load_study


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    esd = load_study("emoji-ink-style").variants[0].parameters
    study = bench.study_of("ink", bench.tested_variants(esd, bench.MASK), 8)
    return execute.prepare(study, tmp_path_factory.mktemp("claim") / "ink")[1]


@pytest.fixture(scope="module")
def map_room(tmp_path_factory):
    esd = load_study("emoji-ink-style").variants[0].parameters
    study = bench.study_of("ink", bench.mapped_variants(esd, bench.MASK), 8, bench.MAPPED_WITH)
    return execute.prepare(study, tmp_path_factory.mktemp("map") / "ink")[1]


def test_the_comparators_of_the_issue_are_there_and_start_from_the_same_eraser(workspace):
    parts = {variant.name: variant for variant in workspace.study.variants}
    esd = parts["erased"].parameters
    assert parts["longer"].parent == "erased" and parts["longer"].parameters["iterations"] == bench.MASK["iterations"]
    assert parts["twice"].parameters["iterations"] == 2 * esd["iterations"] and parts["eta"].parameters["eta"] > esd["eta"]
    masks = [name for name in parts if name.startswith("masked")]
    assert len(masks) == 3 and len({parts[name].parameters["seed"] for name in masks}) == 3
    assert all(parts[name].parent == "erased" for name in masks)
    assert parts["random"].like == parts["smallest"].like == "masked-0"
    assert {"random", "smallest", "twice", "eta", "longer", "erased"} == set(bench.COMPARATORS)


def test_the_development_concept_is_not_tested_and_nothing_retained_in_training_is_measured(workspace):
    assert bench.DEVELOPMENT not in bench.TESTED
    kept = set(workspace.plan.node("erase:masked-0").parameters["retained"])
    measured = {prompt for name in ("target", "near", "far") for prompt in workspace.prompt_set(name).prompts}
    assert kept and not kept & measured


def test_every_attack_is_judged_only_on_its_own_variant(workspace):
    sets = workspace.plan.sets
    nodes = bench.picked(workspace)
    attacked = [node for node in nodes if node.stage == "generate" and sets[node.prompt_set].attack]
    assert all(sets[node.prompt_set].against == node.variant for node in attacked)
    assert {node.variant for node in attacked if sets[node.prompt_set].attack == "uda"} == set(bench.CORE)
    everyone = {v.name for v in workspace.study.variants if not v.name.startswith(bench.NOT_ATTACKED)}
    assert {node.variant for node in attacked if sets[node.prompt_set].attack == "pgd"} == everyone
    assert all(node.parameters["parameters"].get("looks", 0) == 0 for node in nodes if node.stage == "attack")


def test_an_attack_that_learns_one_vector_is_run_several_times_on_whatever_is_compared(workspace):
    shared = {name for name, given in bench.ATTACKS.items() if given["method"] == "concept_inversion"}
    assert shared == set(bench.REPEATS["inversion"]) and len(shared) >= 3
    assert len({bench.ATTACKS[name].get("seed", 0) for name in shared}) == len(shared)
    detected = {node.id for node in bench.picked(workspace) if node.stage == "detect"}
    compared = {*bench.COMPARATORS, *bench.CORE, *(f"masked-{seed}" for seed in bench.SEEDS)}
    assert {f"detect:{variant}:{name}@{variant}" for variant in compared for name in shared} <= detected
    assert not [name for name in detected if "inversion-2" in name and "control" in name]


def test_each_direction_of_the_map_changes_the_frozen_mask_in_one_thing_and_has_no_attack_in_its_loop(map_room):
    parts = {variant.name: variant for variant in map_room.study.variants}
    before = parts[bench.PEERS[0]]
    assert len(bench.DIRECTIONS) >= 5 and not before.parameters["adversarial_steps"]
    for name in bench.DIRECTIONS:
        mask = parts[name]
        changed = {key for key in {*mask.parameters, *before.parameters} if mask.parameters.get(key) != before.parameters.get(key)}
        changed |= {"parent"} if mask.parent != before.parent else set()
        again = {other for names in bench.SEEDS_OF_THE_MAP.values() for other in names[1:]}
        beside = {"layers"} if "unit" in changed else {"seed"} if name in again else set()
        assert len(changed - beside) == (name != before.name) and beside <= changed, name
        assert mask.parameters["adversarial_steps"] == 0 and mask.spare == before.spare
    for names in bench.SEEDS_OF_THE_MAP.values():
        alike = [{**parts[name].parameters, "seed": None} for name in names]
        assert all(one == alike[0] for one in alike) and len({parts[name].parameters["seed"] for name in names}) == len(names) >= 3
    assert all(parts[name].like == like for name, like in bench.RANDOM_OF_THE_MAP.items())


def test_the_map_takes_one_variant_after_the_other_and_shares_what_the_test_has_computed(workspace, map_room):
    nodes = bench.picked(map_room, bench.turn_of_map)
    ids = [node.id for node in nodes]
    assert all(map_room.plan.sets[n.prompt_set].against in (None, n.variant) for n in nodes if n.stage == "generate")
    for one, two in pairwise(bench.DIRECTIONS):
        assert ids.index(f"detect:{one}:pgd@{one}") < ids.index(f"attack:pgd@{two}")
    shared = [
        name for name in ids if name in {node.id for node in workspace.plan.nodes} and name.partition(":")[0] in ("generate", "detect")
    ]
    keys = [{name: [part.key for part in one.plan.node(name).shards] for name in shared} for one in (workspace, map_room)]
    same = [name for name in shared if keys[0][name] == keys[1][name]]
    assert "detect:erased:target" in same and f"detect:{bench.PEERS[0]}:pgd@{bench.PEERS[0]}" in same


def test_the_pages_of_what_is_not_computed_yet_say_so(workspace, map_room):
    short, everything = tables.page("ink", workspace, map_room, list(bench.ATTACKS), "Asked.")
    assert f"Not finished: {len(bench.picked(workspace))} of" in short and "## Stress" in everything and "**ink**" in short
    assert "no correlation can be told" in everything
    assert not [figure for figure in tables.drawn("ink", workspace, map_room).values() if figure is not None]
    assert f"Not finished: {len(bench.picked(map_room, bench.turn_of_map))} of" in tables.page_of_the_map("ink", workspace, map_room)


@pytest.mark.parametrize("how", [[], ["--map"], ["--search"]])
def test_tables_of_an_empty_folder_overwrite_no_page(how, tmp_path, monkeypatch, capsys):
    (tmp_path / "index.md").write_text("kept")
    monkeypatch.setattr(run, "RESULTS", tmp_path)
    run.main(["--tables", "--concepts", "ink", "--out", str(tmp_path / "runs"), *how])
    assert [path.name for path in tmp_path.glob("*.md")] == ["index.md"] and (tmp_path / "index.md").read_text() == "kept"
    assert how == ["--search"] or "Not finished" in capsys.readouterr().out


def test_every_tested_concept_has_its_place_among_the_results():
    content = (run.RESULTS / "index.md").read_text()
    for concept in bench.TESTED:
        begin, end = (content.index(mark.format(concept)) for mark in run.MARKS)
        assert f"**{concept}**" in content[begin:end]
        assert (run.RESULTS / f"robust-pruning-{concept}.md").read_text().startswith(f"# Does pruning keep {concept} erased?")


def test_every_node_that_is_picked_comes_once_and_after_its_inputs(workspace):
    done = set()
    for node in bench.picked(workspace):
        assert node.id not in done and set(node.inputs) <= done
        done.add(node.id)


def test_a_run_that_stops_early_knows_the_masks_beside_no_pruning_first(workspace):
    ids = [node.id for node in bench.picked(workspace)]
    masks = ["erased", "longer", "masked-0", "masked-1", "masked-2"]
    core = [f"detect:{name}:{about}" for name in masks for about in ("target", f"inversion@{name}", "near", "far")]
    last = max(ids.index(name) for name in core)
    assert last < min(ids.index(f"detect:{name}:target") for name in ("twice", "random", "revived-0", "relearned-erased-10"))
    assert last < ids.index("attack:uda@masked-0")
    assert not [name for name in ids if name.startswith("generate:revived") and name.endswith((":near", ":far"))]


def test_what_is_frozen_is_a_candidate_of_the_search_setting_for_setting():
    (tested,) = bench.masks_over("erased", bench.MASK, [0], bench.SPARE)
    assert bench.candidate(bench.FROZEN) == tested | {"name": bench.FROZEN}
    one_changed = [name for name, settings in bench.CANDIDATES.items() if len(settings) == 1]
    assert len(one_changed) >= 4 and bench.candidate("not-spared").keys() == tested.keys() - {"spare"}


def test_a_target_is_met_only_by_a_large_and_certain_reduction_that_costs_nothing():
    row = {"attack": "uda", "n_runs": 1, "cut": 0.5, "cut_low": 0.2, "cut_high": 0.7, "retained_difference": 0.0, "plain_low": -0.1}
    row |= {"kid_difference": 0.001, "kid_low": -0.001, "kid_noise": 0.002}
    assert tables.judged(row, 0.4, ()) == "met"
    assert tables.judged(row | {"cut_low": -0.1}, 0.4, ()) == "undecided"
    assert tables.judged(row | {"cut": 0.1, "cut_low": -0.2, "cut_high": 0.3}, 0.4, ()) == "not met"
    assert tables.judged(row | {"retained_difference": -0.05}, 0.4, ()) == "not met"
    assert tables.judged(row | {"plain_low": 0.01}, 0.4, ()) == "not met"
    assert tables.judged(row | {"kid_difference": 0.0021}, 0.4, ()) == "not met"
    assert tables.judged(row | {"kid_low": 0.0001}, 0.4, ()) == "met; KID +0.0010, interval above 0"
    assert tables.judged(row | {"kid_difference": None}, 0.4, ()) == "undecided"
    assert tables.judged(row | {"cut": None, "cut_low": None, "cut_high": None}, 0.4, ()).startswith("undecided")
    dearer = row | {"cut": -2.0, "cut_low": -4.0, "cut_high": -1.0, "retained_difference": 0.24}
    assert tables.judged(dearer, 0.4, ()) == "not met; the comparator retains 0.24 less"


def test_the_family_in_the_loop_is_never_scored():
    row = {"attack": "pgd", "cut": 0.9, "cut_low": 0.8, "cut_high": 1.0, "retained_difference": 0.0, "plain_low": -0.1}
    row |= {"comparator": "erased", "asr": 0.5, "masked": 0.05, "lowest": 0.0, "highest": 0.1, "p": 0.01, "n_runs": 1, "n_masks": 1}
    row |= {"retained_low": -0.1, "retained_high": 0.1, "plain_difference": 0.0, "plain_high": 0.1}
    row |= {"kid_difference": 0.0, "kid_low": -0.001, "kid_high": 0.001, "kid_noise": 0.001}
    assert bool(bench.MASK.get("adversarial_steps")) == ("pgd" in bench.IN_THE_LOOP)
    assert "inversion" not in bench.IN_THE_LOOP
    assert tables.judged(row, 0.4, ()) == "met" and tables.judged(row, 0.4, ["pgd"]).startswith("not scored")
    assert "not scored" in tables.beside([row], 0.4, ["pgd"]) and "not scored" not in tables.beside([row], 0.4, ())
    assert ("not scored" in tables.beside([row], 0.4)) == bool(bench.IN_THE_LOOP)
    assert "0.05 (one mask)" in tables.beside([row], 0.4) and "(0.00, 0.10)" in tables.beside([row | {"n_masks": 3}], 0.4)


def test_one_learned_vector_beside_another_is_never_scored():
    row = {"attack": "inversion", "n_runs": 1, "cut": 0.5, "cut_low": 0.2, "cut_high": 0.7, "retained_difference": 0.0}
    row |= {"plain_low": -0.1, "kid_difference": 0.001, "kid_low": -0.001, "kid_noise": 0.002}
    assert tables.judged(row, 0.4, ()).startswith("not scored")
    assert tables.judged(row | {"attack": "inversion", "n_runs": 3}, 0.4, ()) == "met"
