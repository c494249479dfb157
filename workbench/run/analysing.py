"""What the tables [attribute], [cluster], [[sets]] and [ablate] of a study ask for, put together.

STAGES          {stage: function(room, node, shard, folder)}
tables          rows of the report's tables about it
with_columns    the neuron table with attributions and clusters
"""

import pandas

from workbench.run import ablating, attributing, clustering, conducting, locating, named_sets, probing

STAGES = {"attribute": attributing.attribute, "cluster": clustering.cluster, "ablate": ablating.ablate}
STAGES |= {"conductance": conducting.conduct, "regions": locating.regions, "fidelity": probing.fidelity, "tokens": probing.tokens}
STAGES |= {"named_sets": named_sets.named_sets}
TABLES = ("attribution", *probing.TABLES, *clustering.TABLES, *locating.TABLES, *named_sets.TABLES, *ablating.TABLES)


def tables(room, table):
    """{table: rows} of everything that the study asks for beyond sensitivity.

    table   the neuron table with the concept set
    """
    rows = dict.fromkeys(TABLES, []) | {"attribution": attributing.attribution_rows(room, table)}
    return rows | probing.rows(room) | clustering.rows(room) | locating.rows(room) | named_sets.rows(room) | ablating.rows(room)


def with_columns(room, table):
    """The neuron table with what was found of each neuron, NaN outside the site ff.

    attribution, attribution_b, _b_low, _b_high     base x target by the first method: on half A, and on half B with its interval
    attribution_<method>_<variant>_<set>_<half>     every method and condition
    cluster, cluster_kept, cluster_x, cluster_y     NaN where it was not clustered, -1 where it is in no cluster
    set_<name>                                      whether it is in one of the [[sets]]; at every site
    """
    new = attributing.columns(room) | clustering.columns(room) | named_sets.columns(room)
    return pandas.concat([table, pandas.DataFrame(new, index=table.index)], axis=1) if new else table
