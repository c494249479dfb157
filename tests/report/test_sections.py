"""Sections are found in their folder: what each declares is unique, and a new one needs no line elsewhere."""

import subprocess
import sys
from collections import Counter
from pathlib import Path

from workbench.report import document as schema
from workbench.report import sections
from workbench.report.section import Figure, found
from workbench.report.table import Column, Table

ROOT = Path(__file__).resolve().parents[2]
LATENCY = '''
"""How long an image takes."""

from workbench.report.charts import forest
from workbench.report.section import Drawing, Figure, Section, Text
from workbench.report.table import REASON, VARIANT, Column, Table, value

LATENCY = Table(
    "latency",
    "Seconds per image",
    (VARIANT, Column("device", "text?", "Device"), Column("n", "count?", "Images"), *value("Seconds"), Column("hot", "share?"), REASON),
    fold="The seconds as a table",
    since="0.3",
)


def latency_figure(rows):
    return forest.figure(rows, group=lambda row: "all", label=lambda row: [row["variant"]],
                         style=lambda row: {"colour": "#000000", "symbol": "circle", "name": "image"}, title="seconds")


def latency_alt(rows):
    return "Seconds per image. " + "; ".join(f"{row['variant']}: {row['value']}" for row in rows)


def drawn(report):
    if report["latency"]:
        yield Drawing("How long an image takes", (report["latency"],))


SECTION = Section(order=55, title="How long an image takes", short="Latency", lead="Erasing should cost no time.",
                  parts=(Figure(latency_figure, latency_alt, drawn), Text("Slower is worse."), LATENCY))
'''
PROOF = """
import sys
from pathlib import Path
from workbench.report import sections
sections.__path__.append(sys.argv[1])
from tests.report.example import example, write_example
from workbench.errors import RunError
from workbench.report import document as schema
from workbench.report.renderers.csv_files import from_csv
from workbench.report.renderers.render import render

folder = Path(sys.argv[2])
document = write_example(folder)
row = dict(variant="esd", device="cpu", n=60, value=1.25, low=1.0, high=1.5, hot=0.5, reason=None)
document["latency"] = [row, row | dict(variant="uce", n=None, value=None, low=None, high=None, reason="nobody looked")]
schema.write(document, folder)
render(folder)
for wrong in ({"hot": 2.0}, {"value": None}, {"n": "many"}, {"colour": "red"}):
    try:
        schema.check(document | {"latency": [row | wrong]})
    except RunError as error:
        assert "latency" in str(error), error
    else:
        raise AssertionError(wrong)
try:
    schema.check(document | {"latency": [row | {"colour": "red"}]})
except RunError as error:
    assert "workbench/report/sections/latency.py" in str(error), error
older = {name: rows for name, rows in document.items() if name != "latency"}
assert schema.with_added(older)["latency"] == []
text = (folder / "tables" / "latency.csv").read_text()
assert text.splitlines()[0] == "variant,device,n,value,low,high,hot,reason" and from_csv(text, "latency") == document["latency"]
markdown, html = (folder / "report.md").read_text(), (folder / "report.html").read_text()
for words in (markdown, html):
    for said in ("How long an image takes", "Erasing should cost no time.", "Slower is worse.", "Seconds per image", "1.00 to 1.50"):
        assert said in words, said
    assert "nobody looked" in words and words.count("nobody looked") >= 2  # in its table, and among what was not measured
assert '<a href="#latency">Latency</a>' in html and html.index('id="retention"') < html.index('id="latency"') < html.index('id="activity"')
assert 'aria-label="Seconds per image. esd: 1.25; uce: None"' in html and 'id="table-latency"' in html
"""


def test_a_section_is_one_new_file(tmp_path):
    extra, folder = tmp_path / "extra", tmp_path / "report"
    extra.mkdir()
    folder.mkdir()
    (extra / "latency.py").write_text(LATENCY)
    done = subprocess.run([sys.executable, "-c", PROOF, str(extra), str(folder)], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr


def test_every_module_of_the_folder_is_a_section_and_no_two_declare_the_same():
    names = {path.stem for path in Path(sections.__file__).parent.glob("*.py") if not path.stem.startswith("_")}
    assert set(found()) == names
    tables = [table.name for section in found().values() for table in section.tables]
    assert len(tables) == len(set(tables)) and tables == list(schema.tables())
    orders = Counter(section.order for section in found().values())
    assert max(orders.values()) == 1 and [section.order for section in found().values()] == sorted(orders)


def test_columns_of_a_table_are_unique_and_of_known_kinds_and_readers_see_some():
    for table in (part for section in found().values() for part in section.parts if isinstance(part, Table)):
        assert len(table.names) == len(set(table.names)), table.name
        assert {column.type for column in table.columns} <= set(schema.KINDS), table.name
        assert table.hidden or table.by_hand or table.seen, table.name
        assert not table.hidden or not table.fold, table.name


def test_a_column_is_shown_where_it_says():
    table = Table("t", columns=tuple(Column(name, "text", name, after=after) for name, after in (("a", "c"), ("b", None), ("c", "b"))))
    assert [column.name for column in table.seen] == ["b", "c", "a"]
    first = Table("t", columns=tuple(Column(name, "text", name) for name in "abc"), first=("c",))
    assert [column.name for column in first.seen] == ["c", "a", "b"]


def test_every_figure_has_an_alternative_text():
    figures = [part for section in found().values() for part in section.parts if isinstance(part, Figure)]
    assert len(figures) == 17 and all(figure.alt.__doc__ and figure.draw.__doc__ for figure in figures)


def test_sections_need_neither_plotly_nor_torch_nor_streamlit_until_something_is_drawn():
    code = (
        "import sys\n"
        "from workbench.report.document import tables\n"
        "assert len(tables()) > 40\n"
        "import workbench.report.renderers.markdown, workbench.report.compare\n"
        "assert not {'plotly', 'torch', 'streamlit', 'PIL', 'jinja2'} & set(sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
