"""Every relative link of a page leads somewhere, and no file cites a page that is not in the repository."""

import re

from tests.docs.pages import ROOT, anchors, files, links

CITED = re.compile(r"(?<![\w./-])((?:[\w.-]+/)*[\w.-]+\.md)(#[\w-]+)?")
# pages that a run or a test writes, and pages of folders outside the repository
WRITTEN = {"report.md", "MODEL_CARD.md", "README.md", "CHANGELOG.md", "guide.md"}
GONE = re.compile(r"\b(?:SCIENCE|FORMATS|STYLE|REDESIGN|DESIGN|RELIABILITY|UI)(?:\.md| \d)")


def test_every_relative_link_leads_to_a_file_and_a_heading():
    wrong = []
    for page in files(".md"):
        for link in links(page):
            name, _, anchor = link.partition("#")
            target = (page.parent / name).resolve() if name else page
            if not target.exists():
                wrong.append(f"{page.relative_to(ROOT)}: {link} does not exist")
            elif anchor and target.suffix == ".md" and anchor not in anchors(target):
                wrong.append(f"{page.relative_to(ROOT)}: {link} has no such heading")
    assert not wrong, "\n".join(wrong)


def test_every_page_that_a_file_cites_is_in_the_repository():
    wrong, names = [], {page.name for page in files(".md")}
    for path in files(".md", ".py", ".j2", ".yml", ".yaml", ".cff"):
        text = path.read_text(encoding="utf-8")
        where = path.relative_to(ROOT)
        if where.name != "test_links.py":
            wrong += [f"{where}: cites {found.group()}" for found in GONE.finditer(text)]
        for name, anchor in CITED.findall(text):
            if f"]({name}" in text or name in WRITTEN:
                continue  # a link, which the other test follows
            target = next((root / name for root in (ROOT, path.parent) if (root / name).exists()), None)
            if target is None and not ("/" not in name and name in names):
                wrong.append(f"{where}: {name} does not exist")
            elif target and anchor and anchor[1:] not in anchors(target):
                wrong.append(f"{where}: {name}{anchor} has no such heading")
    assert not wrong, "\n".join(wrong)
