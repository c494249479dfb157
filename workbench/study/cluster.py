"""[cluster]: clusters of neurons that respond alike.

Names of methods stand here as a plain list, so that reading a study needs no torch; a test holds them equal to those of
workbench/analysis/clusters.py.
"""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from workbench.study.fields import MOST_RESAMPLES, MOST_SETS, MOST_UNITS, Part, Seed

MOST_CLUSTERS = 100


class Cluster(Part):
    """Clusters of neurons that answer alike over conditions and calls; made on half A, described on half B."""

    method: Literal["kmeans", "agglomerative", "hdbscan", "spectral"] = "kmeans"
    k: Annotated[int, Field(le=MOST_CLUSTERS)] | tuple[int, Annotated[int, Field(le=MOST_CLUSTERS)]] | None = Field(
        None, description=f"number of clusters, or the first and last to choose from, up to {MOST_CLUSTERS}; default: 2 to 8"
    )
    min_size: int | None = Field(None, ge=2, le=MOST_UNITS, description="of hdbscan: its smallest cluster")
    share: float = Field(
        0.1, gt=0, lt=0.5, description="of the neurons of the site ff, those with the largest score of either sign, and the concept set"
    )
    attribution: bool | None = Field(None, description="let attribution be a feature; default: when the study has [attribute]")
    seed: Seed = 0
    n_resamples: int = Field(20, ge=5, le=MOST_RESAMPLES, description="bootstrap resamples of the units, in which clusters must come back")
    n_random: int = Field(199, ge=19, le=MOST_SETS, description="matched random sets beside each cluster")
    regions: int | None = Field(
        None, ge=0, le=20, description="of how many units of half B to say where in the image they excite a cluster; default 0"
    )

    later: ClassVar[tuple] = ("regions",)


def check_cluster(study):
    """Refuse what [cluster] cannot mean in this study; ValueError that names the field and the way out."""
    table = study.cluster
    if table is None:
        return
    if table.attribution and not study.attribute:
        raise ValueError("cluster.attribution = true needs the table [attribute]; add it, or leave `attribution` out")
    if table.method == "hdbscan" and table.k is not None:
        raise ValueError("cluster.k: hdbscan finds the number of clusters itself; leave `k` out and set `min_size`, or take kmeans")
    if table.method != "hdbscan" and table.min_size is not None:
        raise ValueError(f"cluster.min_size is a setting of hdbscan; {table.method} takes `k`")
    if isinstance(table.k, int) and table.k < 2:
        raise ValueError(f"cluster.k = {table.k}: one cluster is no clustering; k is 2 or more")
    if isinstance(table.k, tuple) and not 2 <= table.k[0] < table.k[1]:
        raise ValueError(f"cluster.k = {list(table.k)} is no range; write the first and the last number to try, e.g. [2, 8]")
