"""What the pages read and pick, without Streamlit."""

import json
import os
import shutil

import numpy as np
import pandas
import pytest
from PIL import Image
from safetensors.numpy import save_file

from tests.pages import example_runs
from tests.report.example import example
from workbench.errors import RunError
from workbench.report import region_pictures, story
from workbench.report.content import Report
from workbench.ui import headline_numbers, neuron_table, picture_files, region_files, run_list
from workbench.ui.text import plain


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return example_runs.finished(tmp_path_factory.mktemp("reading") / "run")


def sharpness(picture):
    return np.abs(np.diff(np.asarray(picture.convert("L"), float), axis=1)).mean()


def test_the_states_of_all_kinds_of_runs(tmp_path):
    example_runs.write_all(tmp_path)
    kinds = {name: run_list.look(tmp_path / name).kind for name in run_list.list_runs(tmp_path)}
    broken = dict.fromkeys(("damaged", "older", "reportless", "torn"), "damaged")
    assert kinds == {"finished": "finished", "running": "running", "stopped": "stopped", **broken}


def test_a_run_whose_process_is_gone_is_not_running(tmp_path):
    folder = example_runs.running(tmp_path / "r")
    example_runs.status(folder, "running", pid_started=1.0)
    state = run_list.look(folder)
    assert state.kind == "stopped" and "workbench run emoji-heart --set sampling.steps=20" in state.sentence


def test_a_run_that_was_begun_a_moment_ago_is_starting_not_damaged(tmp_path):
    folder = tmp_path / "r"
    folder.mkdir()
    (folder / "study.json").write_text("{}")
    assert run_list.look(folder).kind == "running" and "starting" in run_list.look(folder).sentence
    os.utime(folder / "study.json", (1.0, 1.0))
    assert run_list.look(folder).kind == "damaged" and "no manifest.json" in run_list.look(folder).sentence


@pytest.mark.parametrize("text", ["[]", "{}", "", '{"layout": 1}'])
def test_a_manifest_of_another_shape_is_damaged(run, tmp_path, text):
    folder = shutil.copytree(run, tmp_path / "r")
    (folder / "manifest.json").write_text(text)
    assert "manifest.json is damaged" in run_list.look(folder).sentence


def test_what_is_no_run_is_not_listed(tmp_path):
    (tmp_path / "letters").mkdir()
    (tmp_path / "note.txt").write_text("x")
    assert run_list.list_runs(tmp_path) == [] and run_list.list_runs(tmp_path / "absent") == []


def test_python_says_what_the_command_says():
    python = run_list.python_of("workbench run my.toml --set sampling.steps=5 --limit 4 --out 'my runs/x'")
    assert 'load_study("my.toml")' in python and '["sampling.steps=5", "prompts.limit=4"]' in python and '"my runs/x"' in python
    compile(python, "shown", "exec")
    assert 'load_study("emoji-ink-style")' in run_list.python_of("workbench demo")


def test_progress_is_a_share_and_words(tmp_path):
    share, words = run_list.progress(run_list.look(example_runs.running(tmp_path / "r")))
    assert share == 0.25 and words == "25 %, erase esd, about 5 min 00 s left"


def test_clear_pixels_come_from_the_results_and_hidden_ones_are_blurred(run):
    state = run_list.look(run)
    row = next(r for r in picture_files.rows(state) if (r["variant"], r["prompt_set"]) == ("base", "target"))
    shown, note = picture_files.picture(state, row, reveal=True)
    original = Image.fromarray(example_runs.stripes(0).transpose(1, 2, 0)).resize((128, 128), Image.Resampling.LANCZOS)
    assert note == "" and np.array_equal(np.asarray(shown), np.asarray(original))
    assert sharpness(picture_files.picture(state, row)[0]) < 0.3 * sharpness(shown)


def with_maps(run, folder):
    """The state of a copy of the run that has a map of the example's first cluster, and that map."""
    shutil.copytree(run, folder)
    level = np.linspace(0, 4, 64, dtype=np.float16).reshape(8, 8)
    (folder / "nodes" / "regions" / "k").mkdir(parents=True)
    save_file({"0|base|target|1": level}, folder / "nodes" / "regions" / "k" / "maps.safetensors")
    example_runs.manifest(folder, [*run_list.look(run).nodes, example_runs.node("regions", "", "") | {"id": "regions", "shards": ["k"]}])
    return run_list.look(folder), level.astype(float)


def test_clear_maps_come_from_the_results_and_hidden_ones_lie_on_blurred_pixels(run, tmp_path):
    state, level = with_maps(run, tmp_path / "r")
    (card,) = region_files.cards(state.report, 0)
    (drawn, _, _), (clear, words, alt) = region_files.pictures(state, card, reveal=True)
    original = Image.fromarray(example_runs.stripes(0).transpose(1, 2, 0))
    assert np.array_equal(np.asarray(clear), np.asarray(region_pictures.overlay(original, level, 3.2))) and words == "activity map" and alt
    assert np.array_equal(np.asarray(drawn), np.asarray(region_pictures.small(original)))
    files = [Image.open(state.report_folder / shot["path"]).convert("RGB") for shot in card["shots"]]
    hidden = [one for one, *_ in region_files.pictures(state, card)]
    assert all(np.array_equal(np.asarray(a), np.asarray(b)) for a, b in zip(files, hidden, strict=True))


def test_maps_that_the_report_shows_clear_are_coarse_on_a_page_that_blurs(run, tmp_path):
    state, level = with_maps(run, tmp_path / "r")
    (card,) = region_files.cards(state.report, 0)
    original = Image.fromarray(example_runs.stripes(0).transpose(1, 2, 0))
    made = (region_pictures.small(original), region_pictures.overlay(original, level, 3.2))
    for shot, one in zip(card["shots"], made, strict=True):
        (state.report_folder / shot["path"]).write_bytes(region_pictures.webp(one))
    card["row"]["blurred"] = False
    hidden, shown = ([one for one, *_ in region_files.pictures(state, card, reveal)] for reveal in (False, True))
    assert all(sharpness(a) < 0.5 * sharpness(b) for a, b in zip(hidden, shown, strict=True))


def test_a_damaged_file_of_maps_is_one_sentence(run, tmp_path):
    state, _ = with_maps(run, tmp_path / "r")
    (state.folder / "nodes" / "regions" / "k" / "maps.safetensors").write_bytes(b"x")
    with pytest.raises(RunError, match=r"maps.safetensors is damaged"):
        region_files.pictures(state, region_files.cards(state.report, 0)[0], reveal=True)


def test_pictures_that_asked_for_the_concept_are_blurred_even_when_the_report_shows_them(run):
    state = run_list.look(run)
    row = next(r for r in picture_files.rows(state) if r["variant"] == "esd" and r["prompt_set"] == "target")
    assert not row["blurred"] and picture_files.delicate(row)
    with Image.open(run / "report" / row["path"]) as file:
        own = file.convert("RGB").resize((128, 128), Image.Resampling.LANCZOS)
    assert sharpness(picture_files.picture(state, row)[0]) < sharpness(own)


def test_other_things_are_shown_as_drawn(run):
    state = run_list.look(run)
    row = next(r for r in picture_files.rows(state) if r["prompt_set"] == "retained")
    assert not picture_files.delicate(row)


def test_a_picture_outside_the_report_is_refused(run):
    state = run_list.look(run)
    row = picture_files.rows(state)[0] | {"path": "../manifest.json"}
    with pytest.raises(RunError, match="outside"):
        picture_files.picture(state, row)


def test_a_running_run_lists_what_it_has_drawn_since_its_first_report(tmp_path):
    state = run_list.look(example_runs.running(tmp_path / "r"))
    rows = picture_files.rows(state)
    assert [row["unit"] for row in rows] == ["heart-noto", "heart-blob", "heart-flat"]
    assert all(row["seed"] is None and picture_files.delicate(row) for row in rows)


def test_damaged_pixels_are_named(run, tmp_path):
    folder = shutil.copytree(run, tmp_path / "r")
    victim = next(folder.glob("nodes/generate/*/images.safetensors"))
    victim.write_bytes(victim.read_bytes()[:50])
    with pytest.raises(RunError, match="images.safetensors is damaged"):
        picture_files.clear(run_list.look(folder), "base", "target", "heart-noto")


def test_pictures_and_findings_must_be_as_many(run, tmp_path):
    folder = shutil.copytree(run, tmp_path / "r")
    found = next(folder.glob("nodes/detect/*/detections.parquet"))
    pandas.read_parquet(found).head(2).to_parquet(found)
    with pytest.raises(RunError, match="4 pictures for 2 prompts"):
        picture_files.clear(run_list.look(folder), "base", "target", "heart-noto")
    assert picture_files.clear(run_list.look(folder), "base", "target", "no-such-unit") is None


def test_a_blend_goes_from_one_picture_to_the_other():
    a, b = Image.new("RGB", (4, 4), "black"), Image.new("RGB", (8, 8), "white")
    assert [picture_files.mixed(a, b, share).getpixel((0, 0))[0] for share in (0.0, 0.5, 1.0)] == [0, 127, 255]


def test_the_difference_of_two_pictures_is_black_where_they_are_the_same():
    a, b = Image.new("RGB", (4, 4), "black"), Image.new("RGB", (4, 4), "black")
    assert picture_files.difference(a, b)[1] == 0 and picture_files.difference(a, b)[0].getextrema() == (0, 0)
    b.putpixel((1, 2), (51, 51, 51))
    apart, mean = picture_files.difference(a, b)
    assert apart.getpixel((1, 2)) == 255 and apart.getpixel((0, 0)) == 0 and mean == pytest.approx(0.2 / 16)
    assert picture_files.large(a).size == (512, 512) and picture_files.large(Image.new("RGB", (600, 300))).size == (600, 300)


def test_rows_are_chosen_by_success_and_sorted_by_score():
    def row(name, *images):
        return {"unit": name, "cells": [[{"success": success, "score": score}] for success, score in images]}

    rows = [row("a", (False, 0.2), (True, 0.6)), row("b", (False, 0.1)), row("c", (True, 0.9)), row("d", (None, None))]

    def names(found=picture_files.FOUND[0], order=picture_files.ORDERS[0]):
        return "".join(one["unit"] for one in picture_files.arranged(rows, found, order))

    assert names() == "abcd" and names(picture_files.FOUND[1]) == "ac" and names(picture_files.FOUND[2]) == "bd"
    assert names(order=picture_files.ORDERS[1]) == "cabd" and names(order=picture_files.ORDERS[2]) == "bacd"


def test_headline_numbers_carry_interval_n_or_the_reason():
    document = example()
    for cell in headline_numbers.headline_numbers(Report(document), "esd"):
        assert "95 % interval" in cell.words and "n = " in cell.words
    for row in document["rates"]:
        if row["definition"] == "asr":
            row |= {"n": None, "successes": None, "rate": None, "low": None, "high": None, "reason": "no time"}
    asr = headline_numbers.headline_numbers(Report(document), "esd")[2]
    assert asr.value == "—" and asr.words == "Not measured: no time."
    document["retention"] = []
    assert headline_numbers.headline_numbers(Report(document), "esd")[3].words == "Not part of this study."


def test_pruning_is_compared_with_the_model_it_was_made_from():
    document = example()
    assert headline_numbers.pruned_variants(Report(document)) == [("esd-pruned", "esd")]
    rows = {row["What"]: list(row.values())[1:] for row in headline_numbers.pruning_changes(Report(document), "esd-pruned", "esd")}
    before, after = rows["Concept in images, attack unlearndiffatk (optimised against it)"]
    assert before.startswith("65.6 %") and after.startswith("21.1 %") and "n = 180" in before and "n = 180" in after
    assert rows["Drawn as asked, unrelated concepts"][1] == "not measured (far concepts are not part of the short study)"


def test_what_pruning_changed_is_told_decided_first_and_nothing_is_left_out():
    document = example()
    told = headline_numbers.pruning_sentences(Report(document), "esd-pruned")
    assert told == [
        "Under unlearndiffatk the ASR of esd-pruned is lower by 0.44 than that of esd.",
        "Without attack the images of esd-pruned cannot be told from those of esd.",
    ]
    for word in document["verdict"]["words"]:
        word["subject"] = "A better title"
    assert headline_numbers.pruning_sentences(Report(document), "esd-pruned") == told
    document["verdict"]["words"] = [word for word in document["verdict"]["words"] if word["kind"] != "comparison"]
    assert headline_numbers.pruning_sentences(Report(document), "esd-pruned")[0].startswith("On the neurons that were not pruned")


def test_the_pictures_above_the_story_are_of_one_unit_and_successful_attacks_come_first():
    document = example()
    victim = next(row for row in document["images"] if (row["variant"], row["prompt_set"]) == ("esd", "adversarial"))
    victim["success"] = False
    columns = story.steps(Report(document), ["esd", "esd-pruned"])
    units = headline_numbers.pictures(document["images"], columns)
    assert list(units)[-1] == (victim["unit"], victim["seed"]) and len(units) == 4
    for (unit, seed), pictures in units.items():
        assert [row["variant"] for row in pictures] == ["base", "esd", "esd", "esd-pruned", "esd-pruned"]
        assert {(row["unit"], row["seed"]) for row in pictures} == {(unit, seed)}


def test_text_of_a_run_cannot_format_the_page():
    assert plain("a *b* [c](d) :red[e] $f$") == r"a \*b\* \[c\](d) \:red\[e\] \$f\$"


def test_n_leaves_out_random_sets():
    rows = [{"n": 60, "neuron_set": "concept"}, {"n": 199, "neuron_set": "random"}, {"n": None, "neuron_set": "concept"}]
    assert headline_numbers.n_of(rows) == "n = 60" and headline_numbers.n_of([]) == "n unknown"


def table():
    return pandas.DataFrame(
        {
            "layer": ["b", "a", "a", "b"],
            "index": [0, 0, 1, 1],
            "score": [1.0, 3.0, np.nan, 2.0],
            "in_concept": [False, True, True, False],
            "d_esd": [np.nan, 0.9, 0.8, np.nan],
            "r_esd": [np.nan, 0.5, np.nan, np.nan],
        }
    )


def test_neurons_are_sorted_filtered_and_paged():
    found = neuron_table.selected(table())
    assert found["score"].tolist()[:3] == [3.0, 2.0, 1.0] and np.isnan(found["score"].iloc[-1])
    assert neuron_table.selected(table(), descending=False)["score"].tolist()[:3] == [1.0, 2.0, 3.0]
    assert set(neuron_table.selected(table(), layers=["b"])["layer"]) == {"b"}
    assert len(neuron_table.selected(table(), role="chosen")) == 2
    assert neuron_table.n_pages(found, 3) == 2 and len(neuron_table.page(found, 2, 3)) == 1
    assert len(neuron_table.page(pandas.concat([table()] * 300), 1, 10_000)) == 500


def test_unknown_columns_and_roles_name_the_nearest():
    with pytest.raises(RunError, match='Did you mean "score"'):
        neuron_table.selected(table(), sort="scor")
    with pytest.raises(RunError, match='no role "prune"'):
        neuron_table.selected(table(), role="prune")


def test_only_neurons_with_both_d_and_r_are_points():
    assert [(p["layer"], p["index"]) for p in neuron_table.points(table(), "esd")] == [("a", 0)]
    assert neuron_table.points(table(), "uce") == []


def test_the_status_file_may_be_damaged_too(run, tmp_path):
    folder = shutil.copytree(run, tmp_path / "r")
    (folder / "status.json").write_text(json.dumps({"state": "done"}))
    assert "status.json is damaged" in run_list.look(folder).sentence
