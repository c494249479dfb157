"""What was measured, kept beside the pages of the results, so that each concept, and each part of the search, may be computed by itself,
on another machine or another day.

keep_concept   the rows of one concept, with n, date, settings and origin
concepts       {concept: what was kept}, of the settings of today
keep_search    the rows of the search that are there, beside those that were kept before
search         the rows of the search, of the candidates of today
"""

from datetime import UTC, datetime
from pathlib import Path

from experiments.attack_table.run import CONCEPTS, origin
from experiments.erasers.design import ATTACKS, DEVELOPMENT, N_SEARCH, START, candidates, search_of, study_of
from experiments.erasers.rows import eraser_rows
from experiments.robust_pruning.rows import plane_rows
from workbench.storage import digest, plain_json, read_json, write_json

FOLDER = Path(__file__).resolve().parents[2] / "docs" / "results" / "erasers"


def settings_of(concept):
    """Digest of what is compared on a concept and how it is attacked: kept rows of other settings are not shown."""
    study = study_of(concept, list(START))
    return digest([ATTACKS, [variant.model_dump(mode="json") for variant in study.variants]])


def about_concept(workspace, concept):
    """{concept, n, made, settings, rows, origin} of a workspace."""
    return {
        "concept": concept,
        "n": len(workspace.prompt_set("target")),
        "made": f"{datetime.now(UTC):%Y-%m-%d}",
        "settings": settings_of(concept),
        "rows": plain_json(eraser_rows(workspace, concept)),
        "origin": plain_json(origin({concept: workspace})),
    }


def keep_concept(workspace, concept, folder=FOLDER):
    """Write the rows of a concept."""
    write_json(folder / f"{concept}.json", about_concept(workspace, concept))


def concepts(folder=FOLDER):
    """{concept: as in `about_concept`} of the files that are there and were made with the settings of today."""
    found = {name: read_json(folder / f"{name}.json") for name in CONCEPTS if (folder / f"{name}.json").exists()}
    return {name: one for name, one in found.items() if one["settings"] == settings_of(name)}


def search_rows(workspace):
    """[{variant, settings, pre_asr, far}] of the candidates whose images with and without the concept are there, base first."""
    asked = {variant.name: variant.model_dump(mode="json") for variant in workspace.study.variants}
    return [
        {"variant": row["variant"], "settings": asked_for(asked.get(row["variant"]))}
        | {key: plain_json(row[key]) for key in ("pre_asr", "far")}
        for row in plane_rows(workspace, [])
        if row["far"] is not None
    ]


def asked_for(variant):
    """Digest of a variant's settings, None of the base model."""
    return digest(variant) if variant else None


def keep_search(workspace, folder=FOLDER):
    """Write the rows of the search that are there; those of other candidates that were kept before stay."""
    fresh = {row["variant"]: row for row in search_rows(workspace)}
    before = {row["variant"]: row for row in search(folder)}
    order = ["base", *(one["name"] for one in candidates(START))]
    rows = [fresh.get(name) or before[name] for name in order if name in fresh or name in before]
    if rows:
        write_json(folder / f"search-{DEVELOPMENT}.json", {"n": N_SEARCH, "made": f"{datetime.now(UTC):%Y-%m-%d}", "rows": rows})


def search(folder=FOLDER):
    """The kept rows of the search whose settings are those of the candidates of today."""
    study = search_of(list(START))
    path = folder / f"search-{DEVELOPMENT}.json"
    settings = {"base": None} | {variant.name: asked_for(variant.model_dump(mode="json")) for variant in study.variants}
    rows = read_json(path)["rows"] if path.exists() else []
    return [row for row in rows if row["variant"] in settings and settings[row["variant"]] == row["settings"]]
