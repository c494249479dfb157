"""Rows of report.json about images of retained concepts: how far they moved, how well they fit, what no change looks like.

quality   distances to the base model's images, beside the base model's own on the same prompts from other noise
clip      CLIP scores, where the study names a CLIP folder
"""

import numpy as np
import pandas

from workbench.analysis import quality
from workbench.errors import StatisticsError
from workbench.execution.rows.rates import generated
from workbench.storage import read_arrays, read_table
from workbench.study.parts import RETAINED
from workbench.study.study import BASE

NOTHING = dict.fromkeys(("n", "n_units", "dropped", "value", "low", "high"))
BESIDE = dict.fromkeys(("beyond", "beyond_low", "beyond_high", "outcome"))


def quality_rows(workspace):
    """How far each variant's images of retained concepts are from the base model's, in the judge's features.

    A judge without features gives nulls with a reason; a study without retained images gives no rows.

    kid_floor_seed, kid_floor_dtype   the base model against itself: the same prompts again from other noise (always, unless the study
                                      says otherwise), in another number format (where it asks for it)
    kid              of a variant; beyond: minus kid_floor_seed, paired by unit as the variants are, with its interval; outcome:
                     `quality.distance_word`. Null where no images from other noise were made
    image_difference   mean |image - image in the other number format|, pixel by pixel
    """
    judge, have = workspace.detector("judge"), generated(workspace)
    kinds = [kind for kind in RETAINED if (BASE, kind) in have]
    variants = [v.name for v in workspace.study.variants if kinds and all((v.name, kind) in have for kind in kinds)]
    if not variants:
        return []
    settings = _settings(workspace)
    floors = [what for what in ("seed", "dtype") if all(_made_again(workspace, what, kind) for kind in kinds)]

    def seen(variant, stage="detect"):
        found = [_features(workspace, stage, variant, kind) for kind in kinds]
        return tuple(np.concatenate(parts) for parts in zip(*found, strict=True))

    def again(what):
        (base, units), (second, same) = seen(BASE), seen(what, "again")
        return quality.noise_floor(base, second, units, same, **settings)

    def distance(variant):
        (base, units), (changed, same) = seen(BASE), seen(variant)
        found = quality.kid(base, changed, units, same, **settings)
        if "seed" not in floors:
            return found
        beyond = quality.kid_change(base, seen("seed", "again")[0], [changed], units, **settings)
        beside = {f"beyond{end}": beyond[key] for end, key in (("", "value"), ("_low", "low"), ("_high", "high"))}
        return found | beside | {"outcome": quality.distance_word(found, again("seed"), beyond)}

    planned = [(BASE, f"kid_floor_{what}", lambda what=what: again(what)) for what in floors]
    planned += [(variant, "kid", lambda variant=variant: distance(variant)) for variant in variants]
    rows = []
    for variant, definition, measured in planned:
        about = {"variant": variant, "prompt_sets": " and ".join(kinds), "features": judge.version}
        try:
            if judge.features is None:
                raise StatisticsError(f"the judge {judge.name} has no features to measure distances in")
            rows.append(about | BESIDE | measured() | {"definition": definition, "reason": None})
        except StatisticsError as error:
            rows.append(about | NOTHING | BESIDE | {"definition": definition, "reason": str(error)})
    return rows + (_rounding(workspace, kinds) if "dtype" in floors else [])


def clip_rows(workspace):
    """How well each variant's images of retained concepts fit their prompts, and the change from the base model's, prompt by prompt."""
    rows, scored = [], {}
    for node in workspace.plan.of_stage("clip"):
        parts = workspace.gather("clip", node.variant, node.prompt_set, lambda folder: read_table(folder / "scores.parquet"))
        scored[node.variant, node.prompt_set] = pandas.concat(parts, ignore_index=True)
    for (variant, name), table in scored.items():
        base = None if variant == BASE else scored[BASE, name]["score"]
        about = {"variant": variant, "prompt_set": name, "model": f"clip {workspace.clip.version}", "n_cut": int((table["cut"] > 0).sum())}
        try:
            rows.append(
                about | quality.mean_score(table["score"], workspace.units_of(name), base, **_settings(workspace)) | {"reason": None}
            )
        except StatisticsError as error:
            rows.append(about | dict.fromkeys(quality.MEAN_SCORE) | {"n": len(table), "reason": str(error)})
    return rows


def _settings(workspace):
    return {"n_resamples": workspace.study.choose.n_resamples, "seed": workspace.study.choose.seed}


def _rounding(workspace, kinds):
    """The difference, pixel by pixel, of the base model's images in the two number formats."""
    read = lambda folder: read_table(folder / "differences.parquet")  # noqa: E731
    table = pandas.concat([part for kind in kinds for part in workspace.gather("again", "dtype", kind, read)], ignore_index=True)
    about = {"variant": BASE, "definition": "image_difference", "prompt_sets": " and ".join(kinds), "features": None, "dropped": 0} | BESIDE
    try:
        units = [unit for kind in kinds for unit in workspace.units_of(kind)]
        found = quality.mean_score(table["difference"], units, **_settings(workspace))
        return [about | {key: found[key] for key in ("n", "n_units", "value", "low", "high")} | {"reason": None}]
    except StatisticsError as error:
        return [about | NOTHING | BESIDE | {"reason": str(error)}]


def _made_again(workspace, what, kind):
    """Whether the base model's images of a retained set were made again from other noise (seed) or in another format (dtype)."""
    return any(node.prompt_set == kind and node.parameters["what"] == what for node in workspace.plan.of_stage("again"))


def _features(workspace, stage, variant, kind):
    """((prompt, feature), (prompt,) units) of a retained set, as the stages `detect` and `again` kept them."""
    parts = workspace.gather(stage, variant, kind, lambda folder: read_arrays(folder / "features.safetensors")["features"].numpy())
    return np.concatenate(parts), np.array(workspace.units_of(kind), object)
