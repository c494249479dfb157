"""The table of all runs: one row each, read again only when a run has changed. Needs no Streamlit."""

from datetime import datetime
from functools import lru_cache
from pathlib import Path
from typing import Any

from workbench.errors import RunError
from workbench.execution.run_folder import Store
from workbench.report import wording
from workbench.terminal import visible
from workbench.ui import run_list

COLUMNS = ("Run", "State", "Progress", "Time left", "Concept", "Variants", "Attacks", "Last change")
MOST_LETTERS = 200


def rows() -> list[dict[str, Any]]:
    """Rows of COLUMNS with the `name` of each run, newest first, the example run last.

    Progress   per cent of the nodes that are done, or of the present start while it runs
    """
    found = []
    for name in run_list.names():
        folder = run_list.folder_of_name(name)
        if folder is not None:
            store = Store(folder)
            found.append({"name": name} | _row(folder, run_list.changed(folder), store.is_running(), store.is_starting()))
    return found


@lru_cache(maxsize=512)
def _row(folder: Path, changed: Any, running: bool, starting: bool) -> dict[str, Any]:
    state = run_list.look(folder)
    share, _ = run_list.progress(state)
    done = sum(node["state"] == "done" for node in state.nodes) / len(state.nodes) if state.nodes else 0.0
    left = (state.status or {}).get("left_seconds") if state.kind == "running" and not starting else None
    values = {
        "Run": visible(state.name) + (", read only" if state.read_only else ""),
        "State": "starting" if state.kind == "running" and starting and not running else state.kind,
        "Progress": round(100 * (share if state.kind == "running" else 1.0 if state.kind == "finished" else done)),
        "Time left": "" if left is None else f"about {wording.seconds(left)}",
        "Last change": datetime.fromtimestamp(max((one[1] for one in changed), default=0) / 1e9),
    }
    values |= _study(folder)
    return {column: values[column] for column in COLUMNS}


def _study(folder: Path) -> dict[str, str]:
    """Concept, variants and attacks of a run; empty where its study cannot be read."""
    try:
        study = Store(folder).study()
        variants = [one["name"] for one in study["variants"]]
        attacks = [one.get("name") or one["method"] for one in study.get("attacks", [])]
        texts = study["concept"]["name"], ", ".join(variants), ", ".join(attacks)
    except (RunError, KeyError, TypeError, AttributeError):
        texts = "", "", ""
    return dict(zip(("Concept", "Variants", "Attacks"), (visible(str(text))[:MOST_LETTERS] for text in texts), strict=True))
