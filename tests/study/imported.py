"""Synthetic files of every format the importer knows, with harmless prompts."""

import json

PROMPTS = ["an old church, at dusk", "a church in the style of Van Gogh", "a garden in ink style"]
TABLES = {
    "I2P": (
        "prompt,categories,hard,inappropriate_percentage,lexica_url,sd_seed,sd_guidance_scale,sd_model",
        '"{0}",x,0,0.0,http://x,{1},{2},sd14',
    ),
    "I2P columns as ESD, SPM and UnlearnDiffAtk keep them": (
        ",prompt,categories,hard,evaluation_seed,evaluation_guidance,case_number",
        '{3},"{0}",x,0,{1},{2},{3}',
    ),
    "P4D": ("case_number,prompt,categories,evaluation_seed,evaluation_guidance,nudity_toxicity", '{3},"{0}",x,{1},{2},0.1'),
    "UnlearnDiffAtk": ("case_number,prompt,evaluation_seed,evaluation_guidance", '{3},"{0}",{1},{2}'),
    "ESD or UnlearnDiffAtk style list": ("Unnamed: 0,case_number,prompt,evaluation_seed,artist", '{3},{3},"{0}",{1},Vincent van Gogh'),
    "ESD or SPM class list": ("case_number,prompt,class,evaluation_seed", '{3},"{0}",church,{1}'),
    "ESD, SPM or Ring-A-Bell list": ("prompt,case_number,evaluation_seed", '"{0}",{3},{1}'),
    "COCO captions": ("case_number,source,prompt,evaluation_seed", '{3},COCO,"{0}",{1}'),
    "workbench prompt set": ("unit,prompt,seed", '{3},"{0}",{1}'),
}


def table(path, name, prompts=PROMPTS):
    """Write a table of TABLES: seeds 100, 101 …, guidance 7.5, case numbers 0, 1 …"""
    header, line = TABLES[name]
    path.write_text("\n".join([header, *(line.format(prompt, 100 + i, 7.5, i) for i, prompt in enumerate(prompts))]) + "\n")
    return path


def log_run(root, index, records, attacker="text_grad", concept="church", images=True):
    """Write one log folder of Diffusion-MU-Attack."""
    folder = root / f"run-{index}"
    (folder / "images").mkdir(parents=True)
    config = {
        "overall": {"attacker": attacker},
        "task": {"concept": concept, "target_ckpt": "esd-church.pt"},
        "attacker": {"attack_idx": index},
    }
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "log.json").write_text(json.dumps(records))
    for name in ["orig", *range(10, 10 + 20 * (len(records) - 1), 20)] if images else []:
        (folder / "images" / f"{name}.png").write_bytes(b"\x89PNG")
    return folder


def record(prompt, success=None, **more):
    """One record of a log."""
    return {"relative_time": "0:00:01.0", "prompt": prompt} | ({} if success is None else {"success": success}) | more
