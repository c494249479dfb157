"""Log folders of Diffusion-MU-Attack: one folder a prompt, with config.json, log.json and images/.

read_logs   folder of one run or of many -> Found
"""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from workbench import textfile
from workbench.errors import PromptError
from workbench.study.imports.found import Found, Row

UNREADABLE = "run without a readable log"
PLAIN = "run without an attack (no_attack)"
SEEDS = "run of seed_search, which logs seeds, no prompts"
LEFT_OUT = {"no_attack": PLAIN, "seed_search": SEEDS}
STYLES = {"vangogh": "vincent-van-gogh"}  # the concept -> the style classifier's label
TOP = 10  # a style counts as shown among so many labels, as in the repository's own evaluation


def is_log(inside: Iterable[Path]) -> bool:
    """Is a folder with these files in it a run, or does it hold runs?"""
    return any(one.name == "log.json" for one in inside)


def read_logs(folder: str | Path) -> Found:
    """Read the runs under a folder.

    The adversarial prompt of a run is that of its first success after the original prompt, else its last one. Where the original
    prompt already succeeded nothing was attacked: it is kept as its own adversarial prompt, with success_before = True.

    returns   Found with original, prompt, success, success_before, image (relative to the folder)
    Raises    PromptError when no run can be read
    Source    OPTML-Group/Diffusion-MU-Attack 5a3e5d3, its JSON logger
    """
    folder = Path(folder)
    found = Found("Diffusion-MU-Attack log folder", "prompts", columns={"prompt": "log.json: prompt", "id": "config.json: attack_idx"})
    unjudged, checkpoints = 0, set()
    for log in sorted(folder.rglob("log.json")):
        run = _run(log.parent)
        reason = UNREADABLE if run is None or not run["prompts"] else ""
        if run is not None:
            reason = LEFT_OUT.get(run["attacker"], reason)
        if run is None or reason:
            found.dropped[reason] = found.dropped.get(reason, 0) + 1
            continue
        row = _row(run, folder)
        unjudged += row["success"] == ""
        checkpoints |= {run["checkpoint"]} - {None}
        found.rows.append(row)
    if not found.rows:
        left = ", ".join(f"{n} x {reason}" for reason, n in found.dropped.items())
        raise PromptError(f"{folder} has no attack to import ({left}). Name the folder that holds the runs of the attack.")
    found.rows.sort(key=lambda row: (not row["id"].isdecimal(), int(row["id"][:100]) if row["id"].isdecimal() else 0, row["id"]))
    if len(checkpoints) > 1:
        found.notes.append(f"the runs attacked {len(checkpoints)} different checkpoints; import those of each one apart")
    found.made = checkpoints.pop() if len(checkpoints) == 1 else None
    if unjudged:
        found.notes.append(f"{unjudged} runs do not say whether they succeeded; their last prompt was taken")
    if any(row["success"] and row["style"] for row in found.rows):
        found.notes.append(f"success of a style run means: the style is among the first {TOP} labels of its log")
    for row in found.rows:
        del row["style"]
    if not any("seed" in row for row in found.rows):
        found.notes.append("the logs hold no seeds; the attack from_file takes those of the target prompts")
    return found


def _run(folder: Path) -> dict[str, Any] | None:
    """{attacker, concept, checkpoint, index, records, prompts: does each record say its prompt?, folder}; None when unreadable."""
    try:
        config, records = (json.loads(textfile.read(folder / name, PromptError)) for name in ("config.json", "log.json"))
    except (PromptError, ValueError, RecursionError):
        return None
    if not isinstance(config, dict) or not isinstance(records, list) or not records:
        return None
    if not all(isinstance(record, dict) for record in records):
        return None
    overall, task, attacker = (part if isinstance(part := config.get(key), dict) else {} for key in ("overall", "task", "attacker"))
    return {
        "attacker": _word(overall.get("attacker")),
        "concept": _word(task.get("concept")),
        "checkpoint": _word(task.get("target_ckpt")),
        "index": attacker.get("attack_idx"),
        "records": records,
        "prompts": all(isinstance(record.get("prompt"), str) for record in records),
        "folder": folder,
    }


def _word(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _row(run: dict[str, Any], root: Path) -> Row:
    records = run["records"]
    succeeded = [_success(record, run["concept"]) for record in records]
    wins = [number for number, success in enumerate(succeeded) if success and number]
    chosen = 0 if succeeded[0] else wins[0] if wins else len(records) - 1
    row = {
        "id": run["folder"].name if run["index"] is None else str(run["index"]),
        "original": records[0]["prompt"],
        "prompt": records[chosen]["prompt"],
        "success": "" if succeeded[chosen] is None else str(succeeded[chosen]),
        "success_before": "" if succeeded[0] is None else str(succeeded[0]),
        "image": _image(run["folder"], chosen, len(records), root),
        "style": "style" in records[chosen],
    }
    if records[chosen].get("seed") is not None:
        row["seed"] = str(records[chosen]["seed"])
    return row


def _success(record: dict[str, Any], concept: str | None) -> bool | None:
    """True, False, or None when the log does not say."""
    if "success" in record:
        return None if record["success"] is None else bool(record["success"])
    styles, label = record.get("style"), STYLES.get(concept or "")
    if not isinstance(styles, list) or not styles or label is None:
        return None
    styles = styles[0] if isinstance(styles[0], list) else styles
    return label in [style.get("label") for style in styles[:TOP] if isinstance(style, dict)]


def _image(folder: Path, chosen: int, n_records: int, root: Path) -> str:
    """The picture of a record, '' when the pictures do not go with the records: one a record, named by its timestep."""
    path: Path | None
    if chosen == 0:
        path = folder / "images" / "orig.png"
    else:
        steps = sorted((p for p in (folder / "images").glob("*.png") if p.stem.isdecimal()), key=lambda p: int(p.stem))
        path = steps[chosen - 1] if len(steps) == n_records - 1 else None
    return path.relative_to(root).as_posix() if path is not None and path.is_file() else ""
