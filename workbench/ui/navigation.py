"""Which pages there are: the one list that the app, its links and the tests of all pages read. Needs no Streamlit."""

from typing import NamedTuple


class Listed(NamedTuple):
    """A page.

    name    of its script in pages/, and in the address
    why     what a reader finds there
    needs   the part of report.json without which no link leads to it
    """

    name: str
    title: str
    icon: str
    why: str
    needs: str | None = None


PAGES = (
    Listed("overview", "Overview", ":material/fact_check:", "the verdict and its numbers"),
    Listed("images", "Images", ":material/grid_view:", "what each model draws, side by side"),
    Listed("sensitivity", "Sensitivity", ":material/ssid_chart:", "which neurons are silenced and woken"),
    Listed("neurons", "Neurons", ":material/hub:", "find, sort and compare single neurons", "neuron_table"),
)


def linked(document):
    """The pages that a run's links lead to: all but those whose part of its report.json is not there yet."""
    return [page for page in PAGES if page.needs is None or (document and document[page.needs])]
