"""One attack made in several ways, and the same attack's prompts from outside: never one number, line or column for two of them."""

import pytest

from tests.report.example import example, write_example
from tests.report.test_figures import points
from workbench.report import document as schema
from workbench.report import images, story, wording
from workbench.report.content import Report
from workbench.report.renderers.html import render_html
from workbench.report.renderers.markdown import render_markdown
from workbench.report.sections import by_call, rates
from workbench.ui import headline_numbers

# attack, provenance, against -> successes of 180 under the attack
MADE = {
    ("p4d", "optimised", "esd-pruned"): 61,
    ("p4d", "transferred", "esd"): 43,
    ("p4d", "transferred", "uce"): 37,
    ("p4d-theirs", "optimised", "esd-pruned"): 29,
    ("p4d-theirs-old", "static", None): 17,
}
WAYS = ["optimised against it", "transferred from esd", "transferred from uce", "optimised against it", "static"]


@pytest.fixture
def several():
    """The example, in which esd-pruned alone met attacks: those of MADE, each with its control, images and activity by call."""
    document = example()
    found_rates, calls, pictures = (
        [row for row in document[name] if row["attack"] is None] for name in ("rates", "activity_by_call", "images")
    )
    for place, ((attack, provenance, against), successes) in enumerate(MADE.items()):
        made = {"variant": "esd-pruned", "attack": attack, "provenance": provenance, "against": against}
        for control in (False, True):
            name = f"{attack}@{against}" if against else attack
            made |= {"prompt_set": f"{name}~control" if control else name, "control": control}
            n = 5 if control else successes
            found = next(row for row in found_rates if row["successes"] is not None)
            share = {"n": 180, "successes": n, "rate": n / 180, "low": 0.0, "high": 1.0}
            found_rates.append(found | made | {"definition": "asr"} | share | {"named": None if control else place, "named_of": 180})
            calls += [calls[0] | made | {"call": call, "value": n / 180 + call} for call in (0, 1)]
            pictures += [row | made for row in pictures if (row["variant"], row["prompt_set"]) == ("esd-pruned", "target")]
    return document | {"rates": found_rates, "activity_by_call": calls, "images": pictures, "verdict": document["verdict"]}


def attacked(rows):
    return [row for row in rows if row["attack"] and not row["control"]]


def test_the_rates_table_has_a_row_for_each_way_an_attack_was_made(several):
    schema.check(several)
    table = rates.RATES.view(Report(several))
    rows = [row for row in table.rows if row[1].startswith("attack p4d")]
    place = {name: table.head.index(name) for name in ("Provenance", "Successes", "Prompts that name the concept")}
    assert sorted(row[place["Provenance"]] for row in rows) == sorted(WAYS)
    assert {(row[1], row[place["Provenance"]]): row[place["Successes"]] for row in rows} == {
        (f"attack {attack}", way): str(n) for ((attack, *_), n), way in zip(MADE.items(), WAYS, strict=True)
    }
    assert {row[place["Prompts that name the concept"]] for row in rows} == {f"{k} of 180" for k in range(5)}


def test_markdown_and_html_say_each_number_with_its_way_in_one_row(several, tmp_path):
    write_example(tmp_path)
    markdown, html = render_markdown(several), render_html(several, tmp_path)
    for ((attack, *_), n), way in zip(MADE.items(), WAYS, strict=True):
        lines = [line for line in markdown.splitlines() if line.startswith(f"| esd-pruned | attack {attack} | {way} |".replace("_", "\\_"))]
        assert len(lines) == 1 and f"| {n} | {wording.percent(n / 180)} |" in lines[0]
        assert html.count(f"<td>attack {attack}</td><td>{way}</td>") == 1


def test_figures_draw_a_mark_or_line_for_each(several):
    forest = rates.rates_figure(several["rates"], ["esd-pruned"])
    assert len(points(forest)) == len(several["rates"])
    assert all(any(way in label for label in forest.layout.yaxis.ticktext) for way in WAYS)
    calls = [row for row in several["activity_by_call"] if row["attack"]]
    lines = [trace for trace in by_call.activity_by_call_figure(calls, ["esd-pruned"]).data if trace.mode == "lines+markers"]
    assert len(lines) == 2 * len(MADE) == len({line.name for line in lines})
    assert all(list(line.x) == [0, 1] for line in lines)
    assert "control of p4d (transferred from uce)" in {line.name for line in lines}
    assert by_call.activity_by_call_alt(calls, ["esd-pruned"]).count(" at call 0, ") == 2 * len(MADE)


def test_pictures_of_each_way_have_a_column(several):
    block = next(
        block for block in images.matrix(several["images"], Report(several).variants) if block["title"] == images.BLOCKS["concept"][0]
    )
    columns = {column["words"] for column in block["columns"] if column["words"].startswith("attack")}
    assert columns == {f"attack {attack}, {way}" for (attack, *_), way in zip(MADE, WAYS, strict=True)}


def test_the_pages_compare_a_pruned_model_way_by_way_and_show_the_pictures_of_the_headlines_way(several):
    parent = [row | {"variant": "esd"} for row in attacked(several["rates"]) if row["against"] == "esd"]
    several["rates"] += [row | {"provenance": "optimised", "successes": 90, "rate": 0.5} for row in parent]
    rows = {row["What"]: list(row.values())[1:] for row in headline_numbers.pruning_changes(Report(several), "esd-pruned", "esd")}
    before, after = rows["Concept in images, attack p4d (transferred from esd)"]
    assert before.startswith("50.0 %") and after.startswith("23.9 %")
    assert len([what for what in rows if "attack p4d" in what]) == len(MADE)
    several["effects"] = []
    shots = [row | {"variant": "esd", "provenance": "optimised"} for row in attacked(several["images"]) if row["against"] == "esd"]
    columns = story.steps(Report(several), ["esd", "esd-pruned"])
    assert [(step.attack["attack"], step.attack["against"]) for step in columns if step.attack] == [("p4d", "esd"), ("p4d", "esd-pruned")]
    units = headline_numbers.pictures(several["images"] + shots, columns)
    for base, erased, attacked_erased, pruned, attacked_pruned in units.values():
        assert not any(row["attack"] for row in (base, erased, pruned))
        assert (attacked_erased["against"], attacked_pruned["against"]) == ("esd", "esd-pruned")


def test_when_all_rates_have_one_judge_a_line_says_so_and_else_each_row_does(several):
    judge = {"labels": ["object:heart"], "thresholds": [0.5], "false_positive_rate": 0.02, "false_positive_low": 0.01}
    judge |= {"false_positive_high": 0.06, "false_positive_n": 180}
    one = several | {"rates": [row | judge for row in several["rates"]]}
    table = rates.RATES.view(Report(one))
    assert table.note == (
        "Decided by emoji-classifier, label object:heart, threshold 0.50; false positives: 2.0 % (1.0 to 6.0 %) of 180 images of the base "
        "model on prompts without the concept."
    )
    assert not {"Detector", "Threshold"} & set(table.head) and table.note.split(";")[0] in render_markdown(one).replace("\\", "")
    two = one | {"rates": [one["rates"][0] | {"detector": "other"}, *one["rates"][1:]]}
    assert rates.RATES.view(Report(two)).note == "" and {"Detector", "Threshold"} <= set(rates.RATES.view(Report(two)).head)
    assert rates.RATES.view(Report(several)).note == ""
    apart = {"detector": "x", "labels": ["a", "b"], "thresholds": [0.25, 0.5]}
    assert wording.decider(apart) == "x, labels a (threshold 0.25) or b (threshold 0.50)" and wording.decider({"detector": "x"}) is None


def test_images_say_which_attack_is_adaptive_as_its_rate_does(several):
    own = ("esd-pruned", "p4d", "esd-pruned", False)
    told = [
        row | ({"adaptive": True} if (row["variant"], row["attack"], row["against"], row["control"]) == own else {})
        for row in several["rates"]
    ]
    shown = images.with_adaptive(several["images"], told)
    words = {column["words"] for block in images.matrix(shown, ["esd-pruned"]) for column in block["columns"]}
    assert "attack p4d, optimised against it, adaptive" in words and "control of p4d, optimised against it" in words
    assert "attack p4d, transferred from esd" in words
    assert images.with_adaptive(several["images"], several["rates"]) == several["images"]
