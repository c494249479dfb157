"""What a report is made of, and which of its rows are shown in which order. Nothing is computed here.

Report          report.json, checked, and the rows of the neuron table
arranged        rows in the order of variants, each attack beside its control
shown           the rows a figure of neuron sets shows;  drawn_neurons   the same of single neurons
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from workbench.analysis import headline
from workbench.report import wording

Row = dict[str, Any]
Document = dict[str, Any]


@dataclass(frozen=True)
class Report:
    """A document (report.json as `document.load` gives it) and the rows of its neuron table, None where a number is unknown."""

    document: Document
    neurons: Sequence[Row] = ()

    def __getitem__(self, table: str) -> Any:
        return self.document[table]

    @property
    def study(self) -> Row:
        """What was asked."""
        return self.document["study"]

    @property
    def concept(self) -> str:
        """The name of the concept."""
        return self.study["concept"].get("name", "the concept")

    @property
    def variants(self) -> list[str]:
        """All variants, in the order of the table models."""
        return [row["variant"] for row in self["models"]]

    @property
    def base(self) -> str | None:
        """The base model."""
        return next((row["variant"] for row in self["models"] if row["role"] == "base"), None)

    @property
    def subjects(self) -> list[str]:
        """The variants a verdict is about: everything but the base model."""
        return [row["variant"] for row in self["models"] if row["role"] != "base"]

    @property
    def roles(self) -> dict[str, str]:
        """{variant: role}."""
        return {row["variant"]: row["role"] for row in self["models"]}

    @property
    def thresholds(self) -> tuple[float, float]:
        """(D above which a neuron counts as deactivated, R above which as reactivated): a study may set them."""
        from workbench.analysis.sensitivity import Thresholds  # imports NumPy

        default = Thresholds()
        deactivated, reactivated = self.study.get("thresholds", (default.deactivated, default.reactivated))
        return deactivated, reactivated

    @property
    def score_unit(self) -> str:
        """What the values of the choosing score count, as the score declares it; reports older than that declaration do not say."""
        return (self.study.get("score") or {}).get("unit") or wording.SCORE_UNIT

    @property
    def note(self) -> str | None:
        """What must be said about the model of the study; None when there is nothing to say."""
        note = self.study.get("model_note")
        return note if isinstance(note, str) else wording.MODEL_NOTE if note else None

    def arranged(self, table: str) -> list[Row]:
        """Rows of a table by variant, each attack beside its own control."""
        return arranged(self[table], self.variants)


def arranged(rows: Iterable[Row], variants: Sequence[str]) -> list[Row]:
    """Rows by variant, prompts without attack first, then each attack and definition beside its own control (stable)."""
    rows, definitions = list(rows), list(wording.DEFINITIONS)
    order = {name: place for place, name in enumerate(variants)}
    names: dict[Any, int] = {}
    attacks: dict[Any, int] = {}
    sets: dict[Any, int] = {"target": 0, "reference": 1}
    for row in rows:
        names.setdefault(row.get("attack"), len(names))
        attacks.setdefault(_made(row), len(attacks))
        sets.setdefault(row.get("prompt_set"), len(sets))

    def place(row: Row) -> tuple[Any, ...]:
        return (
            order.get(row["variant"], len(order)),
            row.get("attack") is not None,
            names[row.get("attack")],
            attacks[_made(row)],
            definitions.index(row["definition"]) if row.get("definition") in definitions else -1,
            bool(row.get("control")),
            0 if row.get("attack") else sets[row.get("prompt_set")],
        )

    return sorted(rows, key=place)


def by_effect(rows: Iterable[Row]) -> list[Row]:
    """Rows in the order of wording.EFFECTS (stable)."""
    places = {name: place for place, name in enumerate(wording.EFFECTS)}
    return sorted(rows, key=lambda row: places.get(row["effect"], len(places)))


def values(rows: Iterable[Row], column: str) -> list[Any]:
    """Values of a column, each once; the trajectory "reference" first, as the headline numbers are read there."""
    return sorted(dict.fromkeys(row[column] for row in rows), key=lambda value: value != "reference")


def shown(report: Report, table: str) -> list[Row]:
    """The rows a figure shows: the concept set of the site ff (the watched half where neurons were pruned) beside its random
    sets, without retained prompts and nulls; with several trajectories the reference one for effects and shares.

    The other sets, sites and trajectories stand in the tables beside the report.
    """
    trajectories = {row["trajectory"] for row in report[table]}
    only = "reference" if "reference" in trajectories and table in ("effects", "neurons") else None

    def wanted(row: Row) -> bool:
        return (
            row["neuron_set"] in (headline.own_set(report.roles.get(row["variant"])), "random")
            and row.get("site", "ff") == "ff"
            and row.get("prompt_set") not in wording.RETAINED
            and only in (None, row["trajectory"])
            and (row.get("value", row.get("median_d")) is not None)
        )

    return [row for row in report[table] if wanted(row)]


def drawn_neurons(neurons: Iterable[Row], variant: str, limit: int = 400) -> list[Row]:
    """The neurons with both D and R in a variant; of very many, the chosen ones and then those with the highest score."""
    d, r = f"d_{variant}", f"r_{variant}"
    points = [n for n in neurons if n.get(d) is not None and n.get(r) is not None]
    points.sort(key=lambda n: (not n.get("in_concept"), -(n.get("score") or 0), str(n["layer"]), n["index"]))
    return points[:limit]


def _made(row: Row) -> tuple[Any, Any, Any]:
    return row.get("attack"), row.get("provenance"), row.get("against")
