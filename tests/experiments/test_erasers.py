"""The calibration of erasers: its design fits the studies, and what its rows say together."""

import pytest

from experiments.attack_table.run import CONCEPTS
from experiments.erasers import design, kept, rows, tables
from workbench import registry
from workbench.execution import plan as planning
from workbench.study.parts import RETAINED


def row(concept, eraser, asr, reactivation=0.0, rate=0.05, far=0.9):
    def share(value):
        return {"n": 100, "rate": value, "low": value, "high": value}

    found = {"concept": concept, "eraser": eraser, "pre_asr": share(rate), "asr": {"pgd": share(asr)}, "reactivation": reactivation}
    return found | {"far": share(far), "base_far": share(1.0)}


@pytest.mark.parametrize("concept", CONCEPTS)
def test_every_eraser_is_planned_with_its_attacks_and_its_recordings(concept):
    study = design.study_of(concept, list(design.START))
    assert {variant.method for variant in study.variants} == set(design.START) <= set(registry.methods("erasers"))
    plan = planning.build(study, "model", 10)
    picked = {node.id for node in design.picked(type("Workspace", (), {"plan": plan, "study": study}))}
    for variant in study.variants:
        needed = {f"erase:{variant.name}", f"generate:{variant.name}:target", f"record:{variant.name}:pgd@{variant.name}~control"}
        needed |= {f"detect:{variant.name}:{kind}" for kind in RETAINED}
        needed |= {f"detect:{variant.name}:{attack}@{variant.name}{end}" for attack in design.ATTACKS for end in ("", "~control")}
        assert needed <= picked
        others = [node for node in picked if node.startswith(f"generate:{variant.name}:") and "@" in node]
        assert all(f"@{variant.name}" in node for node in others), "an attack is shown on the variant it was made against alone"


def test_the_search_is_on_the_development_concept_without_attack_and_changes_known_settings():
    study = design.search_of(list(design.START))
    assert study.name.endswith(design.DEVELOPMENT) and not study.attacks
    assert {variant.method for variant in study.variants} == set(design.START) >= set(design.CANDIDATES)
    for one in design.candidates(design.START):
        changed = next(variant.parameters for variant in study.variants if variant.name == one["name"])
        assert one["changes"].items() <= changed.items()
        registry.method("erasers", one["eraser"]).parameters(**changed)
    plan = planning.build(study, "model", 10)
    asked = {node.id for node in design.searched(type("Workspace", (), {"plan": plan}))}
    assert {f"detect:{variant.name}:{kind}" for variant in study.variants for kind in ("target", "far")} <= asked


def test_what_was_chosen_in_the_search_is_what_the_table_computes():
    assert all(name in design.CANDIDATES[eraser] for eraser, name in design.CHOSEN.items())
    study = design.study_of("ink", list(design.START))
    for variant in study.variants:
        assert design.frozen(variant.method).items() <= variant.parameters.items()
    assert design.shortfall(0.05, 0.9) == 0 and design.shortfall(0.3, 0.9) == pytest.approx(0.2)
    assert design.shortfall(0.0, 0.6) == pytest.approx(0.25) and design.shortfall(0.3, 0.6) == pytest.approx(0.45)


def test_the_order_of_the_field_is_asked_pair_by_pair():
    found = rows.orders([row("ink", "receler", 0.2), row("ink", "esd", 0.5), row("ink", "uce", 0.1), row("church", "receler", 0.1)], "pgd")
    assert [(one["better"], one["worse"], round(one["difference"], 2)) for one in found] == [
        ("receler", "esd", 0.3),
        ("receler", "uce", -0.1),
    ]
    said = tables.order([row("ink", "receler", 0.2), row("ink", "esd", 0.5), row("ink", "uce", 0.1)])
    assert "1 of 2 pairs" in said and "receler not below uce on ink (-0.10)" in said
    assert "cannot be asked yet" in tables.order([row("ink", "receler", 0.2)])


def test_reactivation_and_asr_are_correlated_over_points_and_with_one_eraser_left_out():
    points = [row("ink", f"e{n}", n / 10, n / 20) for n in range(8)] + [row("ink", "odd", 0.0, 0.9)]
    found = rows.with_asr(points)
    assert found["n"] == 9 and found["low"] <= found["spearman"] <= found["high"]
    assert found["without"]["odd"] == pytest.approx(1.0) and found["without"]["e3"] < 0.9
    assert "Spearman" in tables.together_sentence(points)
    alone = rows.with_asr(points[:2])
    assert alone["spearman"] is None and alone["reason"] in tables.together_sentence(points[:2])


def test_the_goal_asks_for_a_low_rate_and_for_what_is_retained():
    assert rows.reached(row("ink", "esd", 0.5)) and not rows.reached(row("ink", "esd", 0.5, rate=0.2))
    assert not rows.reached(row("ink", "esd", 0.5, far=0.8)) and rows.reached(row("ink", "esd", 0.5) | {"far": None}) is None
    said = tables.goal([row("ink", "esd", 0.5), row("church", "esd", 0.5, rate=0.4), row("ink", "uce", 0.1, far=0.1)])
    assert "esd: ink;" in said and "uce: none" in said


def tried(name, rate, far, settings="today"):
    def share(value):
        return {"n": 30, "rate": value, "low": value, "high": value}

    return {"variant": name, "settings": settings, "pre_asr": share(rate), "far": share(far)}


def test_the_rule_of_the_search_takes_what_misses_least_then_the_lower_rate_and_waits_for_every_candidate():
    found = [tried("base", 1.0, 0.8), tried("uce", 0.5, 0.8), tried("uce-erase-3", 0.05, 0.8), tried("uce-rest", 0.0, 0.7)]
    assert tables.best(found)["uce"] == "rest", "0.7 of 0.8 is retained enough, and its rate is lower"
    assert tables.best([*found[:3], tried("uce-rest", 0.0, 0.6)])["uce"] == "erase-3"
    assert "uce" not in tables.best(found[:3]) and not tables.best(found[1:])
    said = tables.about_search(found)
    assert "Not computed yet" in said and "rece" in said and "| uce-rest | 0.00" in said


def test_what_is_frozen_follows_by_the_rule_from_the_rows_that_were_kept():
    by_rule = tables.best(kept.search())
    assert by_rule and {name: design.CHOSEN.get(name, "") for name in by_rule} == by_rule


def test_parts_of_the_search_add_up_and_rows_of_other_settings_are_dropped(tmp_path, monkeypatch):
    settings = {variant.name: kept.asked_for(variant.model_dump(mode="json")) for variant in design.search_of(list(design.START)).variants}
    parts = [
        [tried("base", 1.0, 0.8, None), tried("uce", 0.5, 0.8, settings["uce"]), tried("rece", 0.3, 0.8, "of another day")],
        [tried("base", 1.0, 0.8, None), tried("esd", 0.1, 0.8, settings["esd"]), tried("uce", 0.4, 0.8, settings["uce"])],
        [],
    ]
    for part in parts:
        monkeypatch.setattr(kept, "search_rows", lambda workspace, part=part: part)
        kept.keep_search(None, tmp_path)
    found = {row["variant"]: row["pre_asr"]["rate"] for row in kept.search(tmp_path)}
    assert found == {"base": 1.0, "esd": 0.1, "uce": 0.4}


def test_one_concept_is_kept_by_itself_and_the_page_says_which_are_missing(tmp_path, monkeypatch):
    monkeypatch.setattr(kept, "eraser_rows", lambda workspace, concept: [filled(concept)])
    monkeypatch.setattr(kept, "origin", lambda workspaces: [["machine", "x"]])
    workspace = type("Workspace", (), {"prompt_set": lambda self, name: range(100)})()
    kept.keep_concept(workspace, "ink", tmp_path)
    found = kept.concepts(tmp_path)
    short, everything = tables.document(found, "command")
    assert list(found) == ["ink"] and "Not computed yet: church, weapon." in short and "| esd | 0.05" in everything
    assert [figure is not None for path, figure in tables.drawn(found).items() if path.name == "erasers-ink.png"] == [True]
    monkeypatch.setitem(design.START, "uce", {"erase_scale": 9.0})
    assert not kept.concepts(tmp_path), "rows of other settings are not shown"


def filled(concept):
    one = row(concept, "esd", 0.3)
    share = one["pre_asr"]
    one |= {"near": share, "retained": share, "kid": None, "plain": 0.1, "attacked": 0.3, "seconds": 40.0, "changed": 0.2}
    one["asr"] |= {"inversion": None, "uda": share}
    return one | {"control": {"pgd": share, "inversion": None, "uda": share}}
