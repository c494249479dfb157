"""What is shown first: the number cards of each variant, and the findings that stand on its board.

The one rule which attack is shown first is that of analysis/headline.py. A card is a row of a table, never a number of its own.
"""

from dataclasses import dataclass

from workbench.analysis import headline
from workbench.analysis.findings import ALARMING, OPEN
from workbench.report import wording
from workbench.report.content import Report, Row
from workbench.report.wording import Form

ABOUT_A_VARIANT = ("deactivation", "these neurons", "another concept", "beyond the sham", "erasure", None)


@dataclass(frozen=True)
class Card:
    """A headline number: its row of `cards`, the column of the number, and its words.

    beside   (word, row of `cards`) of the number to read it against
    """

    name: str
    title: str
    help: str
    column: str
    beside: tuple[str, str] | None = None

    @property
    def form(self) -> Form:
        """How the number is written."""
        return wording.percent if self.column == "rate" else wording.number


CARDS = (
    Card(
        "erasure",
        "Concept without attack",
        "Share of the images of target prompts that show the concept. Lower is better; the base model is the ceiling.",
        "rate",
        ("base", "erasure_base"),
    ),
    Card(
        "reactivation",
        "Neurons under attack: reactivation",
        "Concept activity under the attack minus that under its control: A(adv) − A(control), where the base model is 0 "
        "without and 1 with the concept.",
        "value",
    ),
    Card(
        "attack",
        "Images under attack: ASR",
        "Share of the attack's images that show the concept (ASR). Compare it with the control: the same effort without the search.",
        "rate",
        ("control", "control"),
    ),
    Card(
        "retention",
        "Retention",
        "Share of the images of retained concepts that are drawn as asked. Higher is better.",
        "rate",
        ("base", "retention_base"),
    ),
)


def cards(report: Report, variant: str) -> dict[str, Row | None]:
    """The headline numbers of a variant, each a row of the document or None.

    erasure       rate of images that show the concept without attack, beside the base model's
    retention     rate of right images of related concepts (else unrelated ones)
    reactivation  concept activity under an attack minus its control, beside that attack's ASR and its control's; the attack that
                  is shown first by the rule of analysis/headline.py. Without a valid set it has no value, and the reason why
    """
    return {
        "erasure": rate_without_attack(report, variant),
        "erasure_base": rate_without_attack(report, report.base),
        "retention": _retention(report, variant),
        "retention_base": _retention(report, report.base),
        **_reactivation(report, variant),
    }


def own_words(report: Report, variant: str) -> list[Row]:
    """What the verdict says of a variant without attack: its neurons, its images. A report that is older than the kinds of findings
    has there what its verdict says of the variant as a whole."""
    own = [word for word in report["verdict"]["words"] if word["variant"] == variant and word["attack"] is None]
    return [word for word in own if word["kind"] in ABOUT_A_VARIANT]


def mood(word: Row) -> str:
    """How a word of the verdict looks: bad, open (it decides nothing), or "" for the rest."""
    return "bad" if word["outcome"] in ALARMING else "open" if word["outcome"] in OPEN else ""


def rate_without_attack(report: Report, variant: str | None) -> Row | None:
    """How often a variant's images show the concept without attack; None where it was not measured."""
    order = ("success_rate", "pre_asr", "ceiling")
    rows = [
        row
        for row in report["rates"]
        if row["variant"] == variant
        and row["attack"] is None
        and not row["control"]
        and row["prompt_set"] != "reference"
        and row["definition"] in order
    ]
    rows.sort(key=lambda row: (row["prompt_set"] != "target", order.index(row["definition"])))
    return rows[0] if rows else None


def _retention(report: Report, variant: str | None) -> Row | None:
    rows = [row for row in report["retention"] if row["variant"] == variant]
    rows.sort(key=lambda row: (row["rate"] is None, row["kind"] != "near"))
    return rows[0] if rows else None


def _reactivation(report: Report, variant: str) -> dict[str, Row | None]:
    """The effect, the ASR and the control's of the attack shown first; where no effect was measured, an effect with its reason."""
    role, where = report.roles.get(variant), headline.trajectory(report["effects"])
    validity = report.document.get("set_validity") or ()
    first = headline.first_attack(report["effects"], report["rates"], variant, role, where, validity)
    effects = [row for row in report["effects"] if row["variant"] == variant and row["effect"] == "reactivation"]
    effects.sort(
        key=lambda row: (
            first is None or not headline.same(row, first),
            row["neuron_set"] != headline.own_set(role),
            row["trajectory"] != where,
        )
    )
    if not headline.valid_set(validity, role, where):
        row = headline.validity_row(validity, role, where)
        reason = row["reason"] if row else "Whether these neurons are about the concept was not tested"
        effects = [one | dict.fromkeys(("value", "low", "high")) | {"reason": reason, "no_set": True} for one in effects]
    if first is None:
        return {"reactivation": next(iter(effects), None), "attack": None, "control": None}
    effect = next((row for row in effects if headline.same(row, first)), None)
    rates = [row for row in report["rates"] if row["variant"] == variant and row["definition"] == "asr" and row["attack"]]
    rates = [row for row in rates if headline.same(row, first)]
    attack = next((row for row in rates if not row["control"]), None)
    control = next((row for row in rates if row["control"]), None) if attack else None
    return {"reactivation": effect, "attack": attack, "control": control}
