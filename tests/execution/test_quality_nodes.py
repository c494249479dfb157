"""A whole tiny study with CLIP scores, noise floors and two attacks of one method, and what its report says of them."""

import dataclasses
import json

import numpy as np
import pytest
import torch

import workbench
from tests.methods.test_detectors_clip_zero_shot import clip_folder
from tests.tiny_study import STUDY
from workbench.analysis import quality
from workbench.diffusion.denoise import denoise
from workbench.execution.execute import prepare
from workbench.models import load, text
from workbench.report import document

MORE = """
[[attacks]]
method = "paraphrase"
name = "words-2"
parameters = {{ wordings = ["yellow garden"], others = ["silver"] }}
[quality]
clip = "{clip}"
noise_floor = ["seed", "dtype"]
"""


@pytest.fixture(scope="module")
def ran(tmp_path_factory, tiny_folder):
    """(run, workspace) of the study."""
    folder = tmp_path_factory.mktemp("study")
    clip = clip_folder(tmp_path_factory.mktemp("clip"), seed=2)
    for name, style in {"target": "ink", "reference": "noto", "near": "fluent"}.items():
        things = ["owl", "cat", "house", "church"]
        lines = [f"u{i},{thing} in {style} style,{i},style:fluent" for i, thing in enumerate(things)]
        (folder / f"{name}.csv").write_text("unit,prompt,seed,expect\n" + "\n".join(lines) + "\n")
    path = folder / "tiny.toml"
    path.write_text((STUDY + MORE).format(base=tiny_folder, clip=clip))
    run = workbench.run(path, folder / "run")
    return run, prepare(path, folder / "run")[1]


def rows_of(run, table, **wanted):
    return [row for row in run.document[table] if wanted.items() <= row.items()]


def test_two_attacks_of_one_method_are_told_apart_in_every_table(ran):
    run, _ = ran
    document.check(run.document)
    names = {"embedding_pgd", "paraphrase", "words-2"}
    for table in ("rates", "sweep", "against_control", "activity", "effects", "neurons", "comparisons", "images", "attacks"):
        assert {row["attack"] for row in run.document[table]} - {None} == names, table
    (one,), (two,) = (rows_of(run, "attacks", attack=name) for name in ("paraphrase", "words-2"))
    assert one["method"] == two["method"] == "paraphrase" and "black outline" in one["settings"] and "yellow garden" in two["settings"]
    (searched,) = rows_of(run, "attacks", attack="embedding_pgd")
    assert searched["against"] == "erased" and searched["passes"] > 0 and 0 < searched["looks"] <= 2 and searched["n"] == 4
    for view in ("html", "md"):
        assert "words-2" in (run.store.report_folder / f"report.{view}").read_text()


def test_clip_scores_are_those_of_the_images_with_the_change_from_the_base_model(ran):
    run, workspace = ran
    rows = run.document["clip"]
    assert [(row["variant"], row["prompt_set"]) for row in rows] == [(name, "near") for name in ("base", "erased", "pruned")]
    scores = {}
    for row in rows:
        images = workspace.images(row["variant"], "near").float() / 255
        scores[row["variant"]] = quality.clip_scores(workspace.study.quality.clip, images, workspace.prompt_set("near").prompts)
        assert row["value"] == pytest.approx(scores[row["variant"]].mean(), abs=1e-3)
        assert (row["n"], row["n_units"], row["n_cut"], row["model"]) == (4, 4, 0, f"clip {workspace.clip.version}")
    base, erased, _ = rows
    assert base["change"] is None
    assert erased["change"] == pytest.approx((scores["erased"] - scores["base"]).mean(), abs=1e-3)
    assert all("CLIP score" in (run.store.report_folder / f"report.{view}").read_text() for view in ("html", "md"))


def again(workspace, what):
    """The base model's retained images, made anew one at a time."""
    rows, model = workspace.prompt_set("near"), workspace.model
    if what == "dtype":
        model = load.load(workspace.study.model.base, dtype=torch.bfloat16)
    images = []
    for prompt, seed in zip(rows.prompts, rows.seeds, strict=True):
        states, empty = (text.encode(model, [words]) for words in (prompt, ""))
        latents, _ = denoise(model, states, empty, [seed + 11_000_003 * (what == "seed")], n_steps=3, guidance=2.0)
        images.append((model.decode(latents)[0] * 255).round() / 255)
    return torch.stack(images)


def test_the_noise_floors_are_the_base_model_against_itself_from_other_noise_and_in_another_format(ran):
    run, workspace = ran
    first = workspace.images("base", "near").float() / 255
    judge, units = workspace.detector("judge"), workspace.prompt_set("near").units
    settings = {"n_resamples": 100, "seed": 0}
    for what, limit in (("seed", 1e-3), ("dtype", 0.05)):
        (row,) = rows_of(run, "quality", definition=f"kid_floor_{what}")
        expected = quality.kid(quality.features(judge, first), quality.features(judge, again(workspace, what)), units, units, **settings)
        assert row["variant"] == "base" and (row["n"], row["n_units"]) == (4, 4)
        assert row["value"] == pytest.approx(expected["value"], abs=limit)
    (row,) = rows_of(run, "quality", definition="image_difference")
    other = again(workspace, "seed")
    gap = float((again(workspace, "dtype") - first).abs().mean())
    assert row["value"] == pytest.approx(gap, rel=0.3) and 0 < row["value"] < 0.5 * float((other - first).abs().mean())


def test_the_model_itself_keeps_its_number_format(ran):
    _, workspace = ran
    before = workspace.model.digest()
    assert workspace.other_format.dtype == torch.bfloat16 and workspace.model.dtype == torch.float32 and workspace.model.digest() == before
    half = dataclasses.replace(workspace.model, **{part: getattr(workspace.other_format, part) for part in ("unet", "vae", "text_encoder")})
    assert half.dtype == torch.bfloat16


def test_the_other_format_is_the_whole_model_converted_and_shares_nothing_with_it(ran):
    _, workspace = ran
    other, own = workspace.other_format, workspace.model
    for part, module in own.modules.items():
        expected, found = module.state_dict(), other.modules[part].state_dict()
        assert list(found) == list(expected)
        for name, value in expected.items():
            assert torch.equal(found[name], value.bfloat16() if value.is_floating_point() else value)
            assert found[name].data_ptr() != value.data_ptr() and found[name].stride() == value.stride()
        assert not any(one.requires_grad for one in other.modules[part].parameters())


def test_converting_a_model_never_copies_it_as_it_is(ran, monkeypatch):
    _, workspace = ran
    copied, genuine = [], torch.nn.Parameter.__deepcopy__
    monkeypatch.setattr(torch.nn.Parameter, "__deepcopy__", lambda one, memo: (copied.append(one), genuine(one, memo))[1])
    workspace.__dict__.pop("other_format", None)
    assert workspace.other_format.dtype == torch.bfloat16 and not copied


def test_a_folder_that_is_no_clip_is_told_before_anything_runs(ran, tmp_path):
    _, workspace = ran
    study = workspace.study.with_values([f'quality.clip="{tmp_path}"'])
    with pytest.raises(workbench.errors.ModelError, match="nothing is downloaded"):
        prepare(study, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_the_comparisons_of_the_report_are_differences_of_its_rates(ran):
    run, _ = ran
    rates = {(r["variant"], r["prompt_set"], r["definition"]): r["rate"] for r in run.document["rates"]}
    rows = run.document["comparisons"]
    pairs = {(row["variant_a"], row["variant_b"]) for row in rows}
    assert pairs == {("base", "erased"), ("erased", "pruned")}
    for row in rows:
        sides = []
        for variant, name in ((row["variant_a"], row["prompt_set"]), (row["variant_b"], row["prompt_set_b"] or row["prompt_set"])):
            named = [d for d in ("asr",) if row["attack"]] or ["success_rate", "ceiling", "false_positive"]
            sides.append(next(rates[variant, name, d] for d in named if (variant, name, d) in rates))
        assert row["difference"] == pytest.approx(sides[1] - sides[0]), json.dumps(row)
    assert np.isfinite([row["low"] for row in rows]).all()
