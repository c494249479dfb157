"""The command that prints what a bug report needs: doctor."""

import shutil
from typing import Any

from workbench import __version__, resources
from workbench.cli.output import AsJson, say

PACKAGES = ("torch", "diffusers", "transformers", "captum", "scikit-learn", "streamlit", "plotly")


def doctor(as_json: AsJson = False) -> None:
    """Print versions, devices, bundled data and free disk space, for a bug report."""
    say(findings(), as_json)


def findings() -> list[dict[str, Any]]:
    """Rows {what, found, state}; state is ok, or says what to do."""
    from importlib.metadata import PackageNotFoundError, version

    rows: list[dict[str, Any]] = [{"what": "workbench", "found": __version__, "state": "ok"}]
    for package in PACKAGES:
        try:
            rows.append({"what": package, "found": version(package), "state": "ok"})
        except PackageNotFoundError:
            rows.append({"what": package, "found": "not installed", "state": "missing"})
    import torch

    cuda = "ok" if torch.cuda.is_available() else "none, the CPU is used"
    rows.append({"what": "cuda", "found": torch.cuda.device_count(), "state": cuda})
    model = resources.folder("data") / "emoji" / "model" / "model_index.json"
    rows.append({"what": "emoji model", "found": str(model.parent), "state": "ok" if model.exists() else "missing: make emoji"})
    rows.append({"what": "free disk", "found": f"{shutil.disk_usage('.').free / 1e9:,.1f} GB", "state": "ok"})
    chrome = shutil.which("chromium") or shutil.which("google-chrome")
    rows.append({"what": "browser for tests", "found": chrome or "none", "state": "ok" if chrome else "apt-get install chromium"})
    return rows
