"""Where in the image clusters are active: which cards a run has, and their pictures, blurred or clear. Needs neither torch nor Streamlit.

clusters, cards   of report.json
pictures          of one card; clear ones are made from the run's own results, as the report holds them blurred
"""

from typing import Any

import numpy as np
from PIL import Image
from safetensors import SafetensorError, safe_open

from workbench.execution.run_folder import Store
from workbench.report import images, region_cards, region_pictures
from workbench.report.content import Report, Row
from workbench.storage import DamagedFile
from workbench.ui import picture_files
from workbench.ui.run_list import State

BASE = "base"


def clusters(report: Report) -> list[int]:
    """Numbers of the clusters whose regions were asked for."""
    return sorted({row["cluster"] for row in report["cluster_regions"]})


def cards(report: Report, cluster: int) -> list[dict[str, Any]]:
    """Cards (see report/region_cards.py) of one cluster, by condition and rank."""
    return [card for card in region_cards.cards(report) if card["row"]["cluster"] == cluster]


def pictures(state: State, card: dict[str, Any], reveal: bool = False) -> list[tuple[Image.Image, str, str]]:
    """[(picture, words, alternative text)] of a card; its words say where one is less clear than asked for."""
    return [(*_picture(state, card["row"], shot, kind, reveal), shot["alt"]) for kind, shot in _named(card)]


def _named(card: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    kinds = [kind for kind in ("drawn", "read_on", "overlay") if card["row"][kind]]
    return list(zip(kinds, card["shots"], strict=True))


def _picture(state: State, row: Row, shot: dict[str, Any], kind: str, reveal: bool) -> tuple[Image.Image, str]:
    if row["blurred"] != reveal:
        return picture_files.of_report(state.report_folder, shot["path"]), shot["words"]
    if not reveal:
        return _hidden(state, row, shot, kind), shot["words"]
    variant, name, prompt = (row["variant"], row["prompt_set"], row["id"]) if kind == "drawn" else (BASE, "target", None)
    clear, level = picture_files.clear(state, variant, name, row["unit"], prompt), _map(state, row) if kind == "overlay" else None
    if clear is None or (kind == "overlay" and level is None):
        return picture_files.of_report(state.report_folder, shot["path"]), f"{shot['words']} (only available blurred)"
    return region_pictures.overlay(clear, level, row["top"]) if kind == "overlay" else region_pictures.small(clear), shot["words"]


def _hidden(state: State, row: Row, shot: dict[str, Any], kind: str) -> Image.Image:
    """The report shows it clear, the page must not; a map over a blurred picture is made as coarse as it."""
    level = _map(state, row) if kind == "overlay" else None
    path = row["read_on"] if level is not None else shot["path"]
    shown = picture_files.of_report(state.report_folder, path)
    return images.blurred(shown) if level is None else region_pictures.overlay(shown, level, row["top"], hide=True)


def _map(state: State, row: Row) -> np.ndarray | None:
    """(height, width) array: the map of a row of cluster_regions; None when it is not in the run folder.

    Raises   RunError for a damaged file
    """
    node = next((node for node in state.nodes if node["id"] == "regions"), None)
    if node is None or not state.has(node):
        return None
    store = Store(state.folder)
    path = store.file("regions", node["shards"][0], "maps.safetensors")
    name = f"{row['cluster']}|{row['variant']}|{row['prompt_set']}|{row['rank']}"
    with store.naming_unreadable():
        try:
            with safe_open(path, "numpy") as file:
                return file.get_tensor(name).astype(np.float32) if name in file.keys() else None  # noqa: SIM118 - no dict
        except (SafetensorError, OSError) as error:
            raise DamagedFile(path, error) from error
