"""A variant with a preset in a run: the dry run, the report and the mask file say what it is as published and what not."""

import pytest
from typer.testing import CliRunner

import workbench
from workbench.cli.main import app
from workbench.execution import execute
from workbench.models import masks

VARIANTS = """
[[variants]]
name = "pruned"
method = "conceptprune"
preset = "published"
role = "pruned"
parameters = { steps = 3, skill_ratio = 0.03 }
[[variants]]
name = "given-back"
method = "revive"
preset = "published"
parent = "pruned"
"""
BUT = "but steps = 3 (published: 50), skill_ratio = 0.03 (published: 0.01): no replication."


@pytest.fixture(scope="module")
def written(study_file):
    text = study_file.read_text()
    path = study_file.parent / "presets.toml"
    path.write_text(text[: text.index("[[variants]]")] + VARIANTS + text[text.index("[record]") :])
    return path


def test_the_dry_run_says_how_far_a_variant_is_as_published(written):
    shown = CliRunner().invoke(app, ["run", str(written), "--dry-run"])
    assert shown.exit_code == 0, shown.output
    lines = shown.output.splitlines()
    assert f"pruned: conceptprune as published (style), {BUT}" in lines and "given-back: revive as published." in lines


def test_the_report_says_it_of_the_variant_and_among_the_caveats(written, tmp_path):
    document = workbench.run(written, tmp_path / "run").document
    what = {row["variant"]: row["what"] for row in document["models"]}
    assert what["pruned"].endswith(f"weights pruned; conceptprune as published (style), {BUT}")
    assert what["given-back"].endswith("; revive as published.")
    caveats = document["verdict"]["caveats"]
    assert f"pruned: conceptprune as published (style), {BUT}" in caveats and not any("given-back: revive" in one for one in caveats)
    plan, workspace = execute.prepare(written, tmp_path / "run")
    _, about = masks.load(workspace.result("erase:pruned") / "mask.safetensors")
    assert about["preset"] == "published" and about["parameters"]["branches"] == "both"


def test_show_lists_what_was_published():
    shown = CliRunner().invoke(app, ["show", "esd"])
    assert "Published: rohitgandikota/erasing, esd_sd.py" in shown.output and "published" in shown.output
    assert "No preset: what its model, P-ESD" in CliRunner().invoke(app, ["show", "learned_mask"]).output
    rows = CliRunner().invoke(app, ["show", "revive", "--json"]).output
    assert '"published": "\\"smallest\\""' in rows
