"""What the tables [attribute], [cluster], [[sets]] and [ablate] of a study ask for, put together.

STAGES          {stage: function(workspace, node, shard, folder)}
tables          rows of the report's tables about it
with_columns    the neuron table with attributions and clusters
"""

import pandas

from workbench.execution.stages import ablate, attribute, cluster, conductance, fidelity, named_sets, regions

STAGES = {"attribute": attribute.attribute, "cluster": cluster.cluster, "ablate": ablate.ablate}
STAGES |= {"conductance": conductance.conduct, "regions": regions.regions, "fidelity": fidelity.fidelity, "tokens": fidelity.tokens}
STAGES |= {"named_sets": named_sets.named_sets}
TABLES = ("attribution", *fidelity.TABLES, *cluster.TABLES, *regions.TABLES, *named_sets.TABLES, *ablate.TABLES)


def tables(workspace, table):
    """{table: rows} of everything that the study asks for beyond sensitivity.

    table   the neuron table with the concept set
    """
    rows = dict.fromkeys(TABLES, []) | {"attribution": attribute.attribution_rows(workspace, table)}
    return (
        rows
        | fidelity.rows(workspace)
        | cluster.rows(workspace)
        | regions.rows(workspace)
        | named_sets.rows(workspace)
        | ablate.rows(workspace)
    )


def with_columns(workspace, table):
    """The neuron table with what was found of each neuron, NaN outside the site ff.

    attribution, attribution_b, _b_low, _b_high     base x target by the first method: on half A, and on half B with its interval
    attribution_<method>_<variant>_<set>_<half>     every method and condition
    cluster, cluster_kept, cluster_x, cluster_y     NaN where it was not clustered, -1 where it is in no cluster
    set_<name>                                      whether it is in one of the [[sets]]; at every site
    """
    new = attribute.columns(workspace) | cluster.columns(workspace) | named_sets.columns(workspace)
    return pandas.concat([table, pandas.DataFrame(new, index=table.index)], axis=1) if new else table
