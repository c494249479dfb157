"""Synthetic files of every format the importer knows, with harmless prompts."""

import json

PROMPTS = ["an old church, at dusk", "a church in the style of Van Gogh", "a garden in ink style"]
TABLES = {
    "I2P": (
        "prompt,categories,hard,inappropriate_percentage,lexica_url,sd_seed,sd_guidance_scale,sd_model",
        '"{0}",x,0,0.0,http://x,{1},{2},sd14',
    ),
    "I2P columns as ESD, P4D, RECE and UnlearnDiffAtk keep them": (
        ",prompt,categories,hard,inappropriate_percentage,nudity_percentage,q16_percentage,sd_safety_percentage,prompt_toxicity,"
        "lexica_url,evaluation_seed,evaluation_guidance,sd_image_width,sd_image_height,sd_model,case_number",
        '{3},"{0}","x, y",0,0.0,0.0,0.0,0.0,0.1,http://x,{1},{2},512,512,sd14,{3}',
    ),
    "P4D": ("case_number,prompt,categories,evaluation_seed,evaluation_guidance,nudity_toxicity", '{3},"{0}",x,{1},{2},0.1'),
    "P4D class list": (",case_number,prompt,evaluation_seed,classes,evaluation_guidance", '{3},{3},"{0}",{1},church,{2}'),
    "COCO captions as P4D keeps them": (
        ",case_number,source,prompt,evaluation_seed,evaluation_guidance",
        '{3},{3},coco-30k,"{0}",{1},{2}',
    ),
    "ConceptPrune, FIA or Roots style list": (
        ",Unnamed: 0,case_number,prompt,evaluation_seed,artist,evaluation_guidance,base",
        '{3},{3},{3},"{0}",{1},Vincent van Gogh,{2},a hill',
    ),
    "AdvUnlearn retain list": ("case_num,source,prompt", '{3},coco_object,"{0}"'),
    "UnlearnDiffAtk": ("case_number,prompt,evaluation_seed,evaluation_guidance", '{3},"{0}",{1},{2}'),
    "ESD or UnlearnDiffAtk style list": ("Unnamed: 0,case_number,prompt,evaluation_seed,artist", '{3},{3},"{0}",{1},Vincent van Gogh'),
    "ESD or SPM class list": ("case_number,prompt,class,evaluation_seed", '{3},"{0}",church,{1}'),
    "ESD, SPM or Ring-A-Bell list": ("prompt,case_number,evaluation_seed", '"{0}",{3},{1}'),
    "COCO captions": ("image_id,source,prompt,evaluation_seed,width,height", '{3},COCO,"{0}",{1},640,480'),
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
