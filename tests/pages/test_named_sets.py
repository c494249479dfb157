"""The page Neurons on a run with [[sets]]."""

from tests.pages.test_reading import table
from workbench.ui import neuron_table
from workbench.ui.text import plain


def test_the_page_says_where_sets_come_from_and_how_far_they_overlap(opened):
    app = opened("neurons", "finished")
    assert "Named neuron sets" in [heading.value for heading in app.subheader]
    sets, overlaps = app.table[0].value, app.table[1].value
    assert sets["Set"].tolist() == [plain("church-neurons"), "both"] and sets["Study"].tolist()[0] == plain("emoji-church")
    assert overlaps["By chance"].tolist()[0] == plain("0.021")
    assert any("Effects on each set" in chart.proto.alt for chart in app.get("plotly_chart"))


def test_neurons_can_be_cut_to_a_named_set():
    with_set = table().assign(set_church=[True, False, True, False])
    assert "church" in neuron_table.roles(with_set) and "church" not in neuron_table.roles(table())
    found = neuron_table.selected(with_set, role="church")
    assert len(found) == 2 and found["set_church"].all()
    assert "church" in neuron_table.words(with_set.iloc[0].to_dict())
