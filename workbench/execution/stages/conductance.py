"""The stage `conductance`: how much of the target flows from the text through each neuron, for every condition that [attribute] asks for.

What it writes reads like what `attribute` writes, and stands beside it in the report's table and in the neuron table.
"""

from workbench.analysis.conductance import conductance
from workbench.execution.attribution_inputs import condition, layers, rows_of
from workbench.execution.stages.attribute import kept
from workbench.models import text


def conduct(workspace, node, shard, folder):
    """The files of attributing.kept, on one half of the units."""
    _, half = node.parameters["jobs"][shard.start]
    part, own = workspace.study.attribute, layers(workspace)
    with condition(workspace, node.variant, node.prompt_set, rows_of(workspace, half, part.units), part.calls, part.target) as (
        items,
        target,
    ):
        empty = text.unconditional(workspace.model)
        every, batch = range(sum(layer.n_neurons for layer in own)), workspace.study.sampling.batch
        steps = node.parameters["steps"]
        made = conductance(workspace.model, own, items, target, empty, n_steps=steps, watch=every, batch=batch)
    kept(made, items, folder)
