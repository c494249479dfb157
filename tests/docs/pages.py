"""The Markdown pages of the repository, their headings and links."""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = ("workbench", "pages", "experiments", "benchmarks", "tests", "docs", "analyses", "data")
FENCE = re.compile(r"^```.*?^```", re.DOTALL | re.MULTILINE)
HEADING = re.compile(r"^#{1,6} +(.+?) *$", re.MULTILINE)
LINK = re.compile(r"\[(?:[^\]\[]|\[[^\]]*\])*\]\(([^)\s]+)\)")


def files(*suffixes):
    """Every file of the repository with one of these suffixes; no caches, no runs."""
    found = [path for path in ROOT.iterdir() if path.is_file()]
    found += [path for folder in (*FOLDERS, ".github") for path in (ROOT / folder).rglob("*") if path.is_file()]
    return sorted(path for path in found if path.suffix in suffixes and not {"__pycache__", "cache"} & set(path.relative_to(ROOT).parts))


def prose(path):
    """The text of a page without its fenced blocks."""
    return FENCE.sub("", path.read_text(encoding="utf-8"))


def anchors(path):
    """The anchors that GitHub gives to the headings of a page."""
    found = {}
    for heading in HEADING.findall(prose(path)):
        text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).lower()
        slug = re.sub(r"[^\w\- ]", "", text.replace("`", "")).strip().replace(" ", "-")
        found[slug] = found.get(slug, -1) + 1
    return {slug if not n else f"{slug}-{n}" for slug, last in found.items() for n in range(last + 1)}


def links(path):
    """The relative links of a page, as written."""
    text = re.sub(r"`[^`\n]*`", "``", prose(path))
    return [link for link in LINK.findall(text) if not re.match(r"[a-z]+:", link)]
