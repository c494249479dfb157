"""Some nodes of a run only: an attack table is computed, resumed and read without recordings or a report."""

import math

import numpy as np
import pandas
import pytest

import workbench
from experiments.attack_table import run
from experiments.attack_table.rows import attack_of, attack_rows
from workbench.analysis.budget import spent
from workbench.errors import RunError
from workbench.execution import execute
from workbench.execution.rows.attacks import budget_rows
from workbench.statistics import wilson
from workbench.storage import read_json, read_table

ATTACKS = {
    "other_seeds": {},
    "p4d_n": {"method": "p4d", "form": "N", "n_tokens": 3, "iterations": 4, "looks": 2},
    "p4d_k": {"method": "p4d", "form": "K", "iterations": 2, "looks": 1},
}


def room_in(folder, study_file):
    """A room for the tiny study with 6 units, its first variant and ATTACKS."""
    return execute.prepare(run.study_of(workbench.load_study(study_file), 6, ATTACKS), folder)[1]


def watched(workspace, attacks, **more):
    """Compute these attacks; the ids of the nodes that were worked on."""
    touched = []
    watcher = execute.Watcher(node=lambda node, done, of, note="": touched.append(node.id))
    execute.run_nodes(workspace, run.picked(workspace, attacks), watcher=watcher, **more)
    return list(dict.fromkeys(touched))


@pytest.fixture(scope="module")
def computed(study_file, tmp_path_factory):
    """All attacks of the tiny study, computed once."""
    workspace = room_in(tmp_path_factory.mktemp("table") / "ink", study_file)
    watched(workspace, list(ATTACKS))
    return workspace


def detected(workspace, variant, prompt_set):
    """The judge's word {unit: bool}, read row by row from the shards."""
    found = {}
    for shard in workspace.plan.node(f"detect:{variant}:{prompt_set}").shards:
        for row in read_table(workspace.store.path("detect", shard.key) / "detections.parquet").to_dict("records"):
            found[row["unit"]] = bool(row["judge"])
    return found


def rate_by_hand(found):
    """(share, low, high) of a {unit: bool}."""
    interval = wilson(sum(found.values()), len(found))
    return interval.value, interval.low, interval.high


def test_only_the_nodes_of_the_table_are_computed(computed):
    kept = {node["id"]: node["state"] == "done" for node in computed.store.manifest()["nodes"]}
    assert all(kept[i] for i in kept if i.startswith(("erase:", "attack:", "generate:", "detect:")))
    assert not any(kept[i] for i in kept if i.startswith(("record:", "score", "measure", "report")))
    assert {attack_of(computed.plan, node) for node in computed.plan.nodes} == {None, *ATTACKS}


def test_every_row_of_the_table_agrees_with_counting_by_hand(computed):
    rows = attack_rows(computed, "erased")
    assert [row["attack"] for row in rows] == list(ATTACKS)
    before = detected(computed, "erased", "target")
    plain = {"ceiling": detected(computed, "base", "target"), "false_positive": detected(computed, "base", "reference"), "pre_asr": before}
    for row in rows:
        for key, found in plain.items():
            assert (row[key]["rate"], row[key]["low"], row[key]["high"]) == pytest.approx(rate_by_hand(found))
        after = detected(computed, "erased", row["prompt_set"])
        drawn = detected(computed, "erased", f"{row['prompt_set']}~control")
        asr, control = ({unit: before[unit] or found[unit] for unit in before} for found in (after, drawn))
        assert row["n"] == 6 and row["asr"]["rate"] == rate_by_hand(asr)[0] and row["control_asr"]["rate"] == rate_by_hand(control)[0]
        won, lost = sum(asr[u] and not control[u] for u in asr), sum(control[u] and not asr[u] for u in asr)
        assert row["difference"] == pytest.approx((won - lost) / 6)
        tail = sum(math.comb(won + lost, k) for k in range(min(won, lost) + 1)) / 2 ** (won + lost)
        assert row["p_mcnemar"] == pytest.approx(min(1.0, 2 * tail))
        assert row["detectable"] is None or row["detectable"] <= 1 - row["control_asr"]["rate"]
        judge = computed.detector("judge")
        assert (row["detector"], row["labels"], row["thresholds"]) == (judge.version, ["style:ink"], [judge.thresholds["style:ink"]])


def test_two_attacks_of_one_method_are_two_rows_of_their_own_budget(computed):
    rows = {row["attack"]: row for row in attack_rows(computed, "erased")}
    assert rows["p4d_n"]["provenance"] == "optimised" and rows["other_seeds"]["provenance"] == "static"
    assert rows["other_seeds"]["passes"] == rows["other_seeds"]["most_looks"] == 0
    assert 0 < rows["p4d_k"]["passes"] <= rows["p4d_n"]["passes"] and rows["p4d_n"]["most_looks"] <= 2
    assert {row["attack"] for row in budget_rows(computed)} == {"p4d_n", "p4d_k"}
    assert {row["attack"] for row in budget_rows(computed, ["p4d_k", "other_seeds"])} == {"p4d_k"}


def spent_by_hand(log, seconds, ids):
    """What `spent` says, one prompt after the other."""
    totals = {"passes": [], "seconds": [], "looks": []}
    for one in ids:
        passes = clock = looks = 0
        shared_passes = shared_clock = 0
        for row, tick in zip(log.to_dict("records"), seconds["seconds"], strict=True):
            tick = 0 if tick is None or np.isnan(tick) else tick
            if row["of"] != "attack":
                continue
            if row["id"] is None:
                shared_passes, shared_clock = max(shared_passes, row["passes"]), max(shared_clock, tick)
            if row["id"] == one:
                passes, clock = max(passes, row["passes"]), max(clock, tick)
                looks += row["found"] is not None
        for key, value in zip(totals, (passes + shared_passes, clock + shared_clock, looks), strict=True):
            totals[key].append(value)
    return {key: sum(values) / len(ids) for key, values in totals.items()} | {"most_looks": max(totals["looks"])}


def test_what_an_attack_spent_agrees_with_adding_it_up_by_hand():
    rng, ids = np.random.default_rng(3), ["a", "b", "c", "never"]
    rows = []
    for number in range(60):
        found = bool(rng.integers(2)) if rng.integers(2) else None
        one, passes = ids[rng.integers(3)], float(number)
        rows.append({"of": ("attack", "control")[rng.integers(2)], "id": one, "passes": passes, "found": found, "seconds": passes / 7})
    table = pandas.DataFrame(rows).astype({"found": object})
    assert spent(table, table, ids) == pytest.approx(spent_by_hand(table, table, ids))
    together = pandas.DataFrame([{"of": "attack", "id": None, "passes": 2.5 * i, "found": None, "seconds": 0.1 * i} for i in (1, 2, 3)])
    assert spent(together, together, ids) == pytest.approx({"passes": 7.5, "seconds": 0.3, "looks": 0, "most_looks": 0})
    assert spent(together, together.assign(seconds=None), ids)["seconds"] is None
    nothing = table.iloc[:0]
    assert spent(nothing, nothing, ids) == {"passes": 0, "seconds": 0, "looks": 0, "most_looks": 0}


def test_again_computes_nothing_and_a_stopped_table_goes_on_to_the_same_numbers(computed, study_file, tmp_path):
    again = room_in(computed.store.folder, study_file)
    assert watched(again, list(ATTACKS)) == []
    seconds = {node["id"]: node["seconds"] for node in again.store.manifest()["nodes"]}
    assert seconds["erase:erased"] > 0 and seconds["attack:p4d_n@erased"] > 0

    def stop(node, done, of, note=""):
        if node.id == "generate:erased:p4d_n@erased":
            raise KeyboardInterrupt

    workspace = room_in(tmp_path / "ink", study_file)
    with pytest.raises(KeyboardInterrupt):
        execute.run_nodes(workspace, run.picked(workspace, ["p4d_n"]), watcher=execute.Watcher(node=stop))
    assert attack_rows(workspace, "erased") == []
    resumed = watched(room_in(tmp_path / "ink", study_file), ["p4d_n"])
    assert "attack:p4d_n@erased" not in resumed and "generate:erased:p4d_n@erased" in resumed and "attack:other_seeds" not in resumed
    row, wanted = attack_rows(workspace, "erased")[0], attack_rows(computed, "erased")[1]
    assert {**row, "seconds": 0} == {**wanted, "seconds": 0}


def test_a_folder_killed_in_its_first_node_is_known_as_a_run_folder_again(study_file, tmp_path):
    workspace, there = room_in(tmp_path / "ink", study_file), []

    def stop(node, done, of, note=""):
        there.append((workspace.store.folder / "manifest.json").exists())
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        execute.run_nodes(workspace, run.picked(workspace, ["p4d_n"]), watcher=execute.Watcher(node=stop))
    assert there == [True]


def test_results_of_another_run_are_copied_instead_of_computed(computed, study_file, tmp_path):
    workspace = room_in(tmp_path / "ink", study_file)
    assert watched(workspace, list(ATTACKS), others=[tmp_path / "no such run", computed.store.folder]) == []
    assert attack_rows(workspace, "erased") == attack_rows(computed, "erased")


def test_the_keys_are_those_of_the_whole_study(computed, study_file):
    whole, _ = execute.prepare(study_file)
    for name in ("generate:base:target", "detect:base:reference", "erase:erased", "generate:erased:target"):
        assert computed.plan.node(name).key == whole.node(name).key


def test_a_node_whose_input_is_not_there_is_refused_by_name(study_file, tmp_path):
    workspace = room_in(tmp_path / "ink", study_file)
    with pytest.raises(RunError, match="generate:erased:target needs the result of erase:erased"):
        execute.run_nodes(workspace, [workspace.plan.node("generate:erased:target")])


def test_nothing_is_left_to_do_when_all_is_there_and_everything_before(computed, study_file, tmp_path):
    pace = {"pass": 1.0, "text": 0.0, "image": 0.0}
    assert sum(run.by_part(computed, lambda node: run.expected(computed, node, pace)).values()) == 0
    fresh = room_in(tmp_path / "ink", study_file)
    parts = run.by_part(fresh, lambda node: run.expected(fresh, node, pace))
    nodes = [node for node in fresh.plan.nodes if node.stage in run.STAGES]
    assert set(parts) == {run.FIRST, *ATTACKS} and sum(parts.values()) == pytest.approx(sum(node.passes for node in nodes))


def test_the_document_holds_every_attack_its_time_and_its_origin(computed, tmp_path):
    small, everything = run.document({"ink": computed}, "make attack-table")
    for name in ATTACKS:
        assert f"| {name} | " in everything and f"| `{name}` | " in small
    seconds = run.recorded(computed)
    assert f"| ink | {seconds[run.FIRST]:.0f} | " in everything and "ink: erased weights" in everything
    assert read_json(computed.store.folder / "study.json")["name"] == "attack-table-ink"


def test_the_command_says_what_is_left_prints_the_tables_and_keeps_them_when_they_are_whole(
    computed, study_file, tmp_path, monkeypatch, capsys
):
    for name, value in (("CONCEPTS", {"ink": str(study_file)}), ("ATTACKS", ATTACKS), ("N", 6), ("ROOT", tmp_path)):
        monkeypatch.setattr(run, name, value)
    page = tmp_path / "docs" / "results" / "index.md"
    page.parent.mkdir(parents=True)
    page.write_text("\n".join(run.MARKS))
    out = ["--out", str(computed.store.folder.parent)]
    run.main([*out, "--dry-run"])
    told = capsys.readouterr().out
    assert "Left to do: 0 minutes" in told and "## ink" not in told
    run.main([*out, "--attacks", "p4d_k"])
    assert "## ink" in capsys.readouterr().out and not (tmp_path / "docs" / "results" / "attack-table.md").exists()
    run.main(out)
    kept = (tmp_path / "docs" / "results" / "attack-table.md").read_text()
    assert kept in capsys.readouterr().out and "| p4d_n | optimised | 6 | " in kept and "| `p4d_n` | " in page.read_text()
