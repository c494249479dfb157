"""Tables of the report, each declared once; columns that several tables share.

Column   a column of report.json and of the CSV file, and the cell a reader sees
Table    columns, title, rows; from it follow the check, the upgrade of older reports, CSV, HTML, Markdown and the pages
View     a table as text
Object   a part of report.json that is no table
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple

from workbench.report import wording
from workbench.report.content import Report, Row
from workbench.report.wording import DASH, Form, number, percent

Words = str | Callable[[Report], str]
FORMS: dict[str, Form] = {
    "count": wording.integer,
    "number": number,
    "share": percent,
    "p": wording.p_value,
    "list": lambda value: ", ".join(map(str, value)),
    "flag": lambda value: wording.YES[value] or "",
}
NUMBERS = ("count", "number", "share", "p")


@dataclass(frozen=True)
class Column:
    """A column of a table, or a key of an object.

    kind     text, flag, count, number, share (a number in [0, 1], shown as per cent), p (one that is a probability), list, object;
             "?" = may be null
    title    its heading for readers; None = they do not see it
    form     value -> text, in place of that of the kind;   cell   row -> text, where several columns make one cell
    right    whether it stands at the right; default: numbers do
    after    the column it is shown behind; default: the one before it
    needed   whether rows exist for it, so that a null needs a reason
    since    the version that added it: an older report has null there
    rare     whether report.json and the CSV file have it only where some row says something; it is null elsewhere
    of       the columns of the rows of a list, or of an object
    """

    name: str
    kind: str
    title: Words | None = None
    form: Form | None = None
    cell: Callable[[Row], Any] | None = None
    right: bool | None = None
    after: str | None = None
    needed: bool = False
    since: str | None = None
    rare: bool = False
    of: tuple["Column", ...] = ()

    @property
    def type(self) -> str:
        """The kind without "?"."""
        return self.kind.rstrip("?")

    @property
    def optional(self) -> bool:
        """Whether it may be null."""
        return self.kind.endswith("?")

    @property
    def at_right(self) -> bool:
        """Whether its cells stand at the right."""
        return self.type in NUMBERS if self.right is None else self.right

    def but(self, **changes: Any) -> "Column":
        """The same column with something changed."""
        return replace(self, **changes)

    def text(self, row: Row) -> Any:
        """What a reader sees of a row."""
        if self.cell:
            return self.cell(row)
        value = row.get(self.name)
        form = self.form or FORMS.get(self.type)
        return None if value is None else form(value) if form else value


class View(NamedTuple):
    """A table as text: `rows` of cells under `head`; `numeric` says which columns stand at the right; `note` holds for all rows."""

    title: str
    head: list[str]
    rows: list[list[str]]
    numeric: list[bool]
    note: str = ""


def view(title: str, columns: Sequence[tuple[str, bool]], rows: Iterable[Iterable[Any]], note: str = "") -> View:
    """A View of cells of any kind; columns that are empty in every row are left out, the first never.

    columns   (heading, whether it stands at the right)
    """
    text = [[DASH if cell in (None, "") else str(cell) for cell in row] for row in rows]
    kept = [place for place in range(len(columns)) if place == 0 or any(row[place] != DASH for row in text)]
    return View(
        title,
        [columns[place][0] for place in kept],
        [[row[place] for place in kept] for row in text],
        [columns[place][1] and place > 0 for place in kept],
        note,
    )


def in_words(words: Words, report: Report) -> str:
    """Words that may depend on the report."""
    return words(report) if callable(words) else words


@dataclass(frozen=True)
class Table:
    """A table of the report.

    name      in report.json, and of its CSV file; of a table that only readers see, of its place in the HTML report
    rows      the rows a reader sees, in their order; default: all, as stored
    columns   of report.json in the order of the CSV file;   derived   of a table that only readers see
    title, note   above the table;   fold   the words on the fold it is shown in, {n} in them its number of rows; "" = it is open
    by_hand   report -> View, of a table whose columns depend on its rows
    about     row -> (variant, what) of a number that is missing
    remarks   whether `reason` is a remark on the row, and not why a number is missing
    since     the version that added it: in an older report it is empty
    rare      whether report.json has it, and there is a CSV file of it, only where it has rows
    hidden    whether it has no table for readers, only CSV
    first     columns that readers see before the others
    """

    name: str
    title: Words = ""
    columns: tuple[Column, ...] = ()
    derived: bool = False
    rows: Callable[[Report], Iterable[Row]] | None = None
    note: Callable[[Report, list[Row]], str] | None = None
    fold: str = ""
    by_hand: Callable[[Report], View | None] | None = None
    about: Callable[[Row], tuple[str, str]] | None = None
    remarks: bool = False
    since: str | None = None
    rare: bool = False
    hidden: bool = False
    first: tuple[str, ...] = ()

    @property
    def names(self) -> list[str]:
        """Names of the columns, in the order of the CSV file."""
        return [column.name for column in self.columns]

    @property
    def added(self) -> list[str]:
        """Columns that older reports of this schema version do not have."""
        return [column.name for column in self.columns if column.since]

    def written(self, rows: Sequence[Row]) -> list[Column]:
        """The columns that a file of these rows has."""
        return [column for column in self.columns if not column.rare or any(row.get(column.name) is not None for row in rows)]

    def column(self, name: str) -> Column:
        """The column of that name."""
        return next(column for column in self.columns if column.name == name)

    @property
    def seen(self) -> list[Column]:
        """The columns a reader sees, in their order."""
        placed = [self.column(name) for name in self.first]
        placed += [column for column in self.columns if not column.after and column.name not in self.first]
        waiting = [column for column in self.columns if column.after and column.name not in self.first]
        while waiting:
            column = next(one for one in waiting if one.after in {other.name for other in placed})
            waiting.remove(column)
            placed.insert(1 + next(place for place, other in enumerate(placed) if other.name == column.after), column)
        return [column for column in placed if column.title is not None]

    def view(self, report: Report) -> View:
        """The table as text; without rows when there is nothing to show."""
        if self.hidden:
            return View("", [], [], [])
        if self.by_hand:
            return self.by_hand(report) or View("", [], [], [])
        rows = list(self.rows(report) if self.rows else report[self.name])
        heads = [(in_words(column.title or "", report), column.at_right) for column in self.seen]
        cells = ((column.text(row) for column in self.seen) for row in rows)
        return view(in_words(self.title, report), heads, cells, self.note(report, rows) if self.note else "")

    def missing(self, report: Report) -> list[tuple[str, str, str, str]]:
        """(table, variant, what, why) of every row with a number that could not be measured."""
        if self.derived or self.remarks or "reason" not in self.names:
            return []
        about = self.about or about_condition
        return [(self.name.replace("_", " "), *about(row), row["reason"]) for row in report[self.name] if row["reason"]]


@dataclass(frozen=True)
class Object:
    """A part of report.json that is one object; `open` ones may have further keys."""

    name: str
    columns: tuple[Column, ...]
    open: bool = True


def about_condition(row: Row) -> tuple[str, str]:
    """Whose number a row holds, and under which condition."""
    return str(row.get("variant")), wording.condition(row)


# cells made of several columns


def interval(form: Form = number, low: str = "low", high: str = "high") -> Callable[[Row], str]:
    """Cell: '0.52 to 0.70'."""
    return lambda row: wording.span(row[low], row[high], form)


def with_band(name: str, form: Form = number) -> Callable[[Row], str]:
    """Cell: '0.61 (0.52 to 0.70)', of the columns name, name_low, name_high."""

    def cell(row: Row) -> str:
        between = wording.span(row[f"{name}_low"], row[f"{name}_high"], form)
        return DASH if row[name] is None else f"{form(row[name])} ({between})" if between else str(form(row[name]))

    return cell


def words_of(words: dict[str, str]) -> Form:
    """Form: a code of report.json in words."""
    return partial(wording.named, words)


# columns that several tables share

NEW = "0.2"
REASON = Column("reason", "text?", "Reason if missing")
VARIANT = Column("variant", "text", "Variant")
CONTROL = Column("control", "flag")
ATTACK = (
    Column("attack", "text?"),
    Column("provenance", "text?", "Provenance", cell=wording.provenance),
    Column("against", "text?"),
)
NAMED_ATTACK = (ATTACK[0].but(title="Attack"), *ATTACK[1:])
PROMPTS = Column("prompt_set", "text", "Prompts", cell=wording.condition)
CONDITION = (VARIANT, PROMPTS, *ATTACK, CONTROL)
NEURON_SET = Column("neuron_set", "text", "Neurons", words_of(wording.NEURON_SETS))
TRAJECTORY = Column("trajectory", "text", "Trajectory")
MEASURED_ON = Column("trajectory", "text", "Trajectory", words_of(wording.TRAJECTORIES))
UNITS = Column("n", "count?", "Units")
SIZE = (Column("n", "count?", "Images", cell=wording.size), Column("n_units", "count?", since=NEW))
RATE = (
    *SIZE,
    Column("n_effective", "number?", since=NEW),
    Column("successes", "count?", "Successes"),
    Column("rate", "share?", "Rate", needed=True),
    Column("low", "number?", "95 % interval", cell=interval(percent), needed=True),
    Column("high", "number?", needed=True),
    REASON,
)
DECIDED = (Column("labels", "list?", since=NEW), Column("thresholds", "list?", since=NEW))
TESTED = (Column("p", "p?", since=NEW), Column("p_adjusted", "p?", since=NEW), Column("n_family", "count?", since=NEW))

_AMONG = tuple(
    Column(f"{name}_{end}", "share?" if end == "share" else "number?", since=NEW)
    for name in ("random", "comparable")
    for end in ("share", "share_low", "share_high", "over", "over_low", "over_high")
)
# confirmed_share = confirmed / n_chosen; the same of sets drawn at random and of sets like the chosen one, and how far it is above them
CONFIRMED = (
    Column("confirmed_share", "share?", since=NEW),
    *_AMONG,
    Column("n_comparable", "count?", since=NEW),
    Column("comparable_reason", "text?", since=NEW),
)


def value(title: Words = "Value", form: Form = number, between: str = "95 % interval") -> tuple[Column, ...]:
    """value, low, high: the number a row exists for, with its interval."""
    return (
        Column("value", "number?", title, form, needed=True),
        Column("low", "number?", between, cell=interval(form), needed=True),
        Column("high", "number?", needed=True),
    )


def random_sets(form: Form = number, title: str = "p among random sets", after: str | None = None) -> tuple[Column, ...]:
    """The band of matched random sets, their number, and p among them; shown behind the column `after`."""
    return (
        Column("p_random", "p?", title, after="n_random"),
        Column("n_random", "count?", "Number of random sets", after="random_low"),
        Column("random_low", "number?", "Random sets", cell=interval(form, "random_low", "random_high"), after=after),
        Column("random_high", "number?"),
    )


def changed(columns: Iterable[Column], **titles: str) -> tuple[Column, ...]:
    """The same columns with other titles: {name: title}."""
    return tuple(column.but(title=titles[column.name]) if column.name in titles else column for column in columns)


def names(columns: Iterable[Column]) -> tuple[str, ...]:
    """Names of columns."""
    return tuple(column.name for column in columns)


def hidden(columns: Iterable[Column], *names: str) -> tuple[Column, ...]:
    """The same columns, those of the given names (none: all) not seen by readers."""
    return tuple(column.but(title=None) if not names or column.name in names else column for column in columns)
