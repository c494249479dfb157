"""Pictures of where in the image clusters are active, for the report: the maps of the stage `regions` over images of the run.

with_pictures   rows of cluster_regions with the pictures they are about
"""

import numpy as np
from PIL import Image

from workbench.report import images, region_pictures
from workbench.report.sections.clusters import REGION_PICTURES
from workbench.report.table import names
from workbench.storage import atomic, digest, read_arrays
from workbench.study.study import BASE

NOT_DRAWN = "the study drew no image of this prompt in this condition"


def with_pictures(workspace, rows, folder, reveal):
    """Rows of cluster_regions, with drawn, read_on, overlay (paths below `folder`), blurred, place, top, picture_reason.

    A map belongs to the base model's image of the prompt without attack, on whose latents every condition was read: it is drawn over
    that one. The image of another condition stands beside it. Every prompt here asks for the concept, so all are blurred unless `reveal`.
    """
    for old in (folder / "images").glob("region-*.webp"):
        old.unlink()
    if not rows:
        return []
    maps = {name: one.float().numpy() for name, one in read_arrays(workspace.result("regions") / "maps.safetensors").items()}
    top, found, hide = region_pictures.scale(maps.values()), [], not reveal
    place_of = {unit: place for place, unit in reversed(list(enumerate(workspace.prompt_set("target").units)))}

    def written(picture, *name):
        path = f"images/region-{digest([workspace.plan.node('regions').key, *name, hide])[:16]}.webp"
        with atomic(folder / path) as temporary:
            temporary.write_bytes(region_pictures.webp(picture))
        return path

    def hidden(picture):
        return region_pictures.small(images.blurred(picture) if hide else picture)

    for row in rows:
        level = maps.get(f"{row['cluster']}|{row['variant']}|{row['prompt_set']}|{row['rank']}")
        own = dict.fromkeys(names(REGION_PICTURES))
        base = _image(workspace, BASE, "target", place_of[row["unit"]])
        if level is None or base is None:
            found.append(row | own | {"picture_reason": row["reason"] or NOT_DRAWN})
            continue
        own |= {"blurred": hide, "place": region_pictures.place(level), "top": top}
        own["read_on"] = written(hidden(base), BASE, row["unit"])
        name = [row[key] for key in ("cluster", "variant", "prompt_set", "rank")]
        own["overlay"] = written(region_pictures.overlay(base, level, top, hide), *name)
        if (row["variant"], row["prompt_set"]) != (BASE, "target"):
            drawn = _image(workspace, row["variant"], row["prompt_set"], place_of[row["unit"]])
            own["drawn"] = None if drawn is None else written(hidden(drawn), row["variant"], row["prompt_set"], row["unit"])
            own["picture_reason"] = NOT_DRAWN if drawn is None else None
        found.append(row | own)
    return found


def _image(workspace, variant, name, place):
    """The image of a condition that pairs with a row of the target set; None where the study drew none."""
    node = next((node for node in workspace.plan.of_stage("generate") if (node.variant, node.prompt_set) == (variant, name)), None)
    if node is None or not workspace.there(node):
        return None
    pixels = workspace.in_units(name, workspace.images(variant, name))[place]
    return Image.fromarray(np.ascontiguousarray(pixels.permute(1, 2, 0).numpy()))
