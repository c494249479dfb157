"""The stage `conductance`: how much of the target flows from the text through each neuron, for every condition that [attribute] asks for.

What it writes reads like what `attribute` writes, and stands beside it in the report's table and in the neuron table.
"""

from workbench.analysis.conductance import conductance
from workbench.execution.attribution_inputs import condition, layers, rows_of
from workbench.execution.stages.attribute import kept
from workbench.models import text


def conduct(room, node, shard, folder):
    """The files of attributing.kept, on one half of the units."""
    _, half = node.parameters["jobs"][shard.start]
    part, own = room.study.attribute, layers(room)
    with condition(room, node.variant, node.prompt_set, rows_of(room, half, part.units), part.calls, part.target) as (items, target):
        empty = text.unconditional(room.model)
        every, batch = range(sum(layer.n_neurons for layer in own)), room.study.sampling.batch
        steps = node.parameters["steps"]
        made = conductance(room.model, own, items, target, empty, n_steps=steps, watch=every, batch=batch)
    kept(made, items, folder)
