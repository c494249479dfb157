"""A figure is drawn once for equal arguments."""

import pytest

from workbench.report.section import Drawing, Figure
from workbench.ui import show


@pytest.fixture
def drawn():
    """(figure, list of what was drawn), with nothing kept from before."""
    import plotly.graph_objects as go

    done = []

    def draw(rows, height=100):
        done.append(rows)
        return go.Figure(layout={"height": height})

    show._kept.clear()
    return Figure(draw, lambda rows, height=100: f"{len(rows)} rows"), done


def kept(figure, *arguments, area=False, **options):
    drawing = Drawing("", arguments, options)
    return show._kept("name", area, show._same(drawing), figure, drawing)


def test_equal_arguments_are_drawn_once_and_others_again(drawn):
    figure, done = drawn
    first = kept(figure, [{"value": 1.0}])
    assert kept(figure, [{"value": 1.0}])[0] is first[0] and first[1] == "1 rows" and len(done) == 1
    assert kept(figure, [{"value": 1.5}])[0] is not first[0]
    assert kept(figure, [{"value": 1.0}], height=200)[0].layout.height == 200
    lasso = kept(figure, [{"value": 1.0}], area=True)[0]
    assert lasso.layout.dragmode == "lasso" and first[0].layout.dragmode is None and len(done) == 4
