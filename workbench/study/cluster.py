"""[cluster]: clusters of neurons that respond alike.

Names of methods stand here as a plain list, so that reading a study needs no torch; a test holds them equal to those of
workbench/analysis/clusters.py.
"""

from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field

from workbench.study.fields import MOST_RESAMPLES, MOST_SETS, MOST_UNITS, Seed, StudyTable

if TYPE_CHECKING:
    from workbench.study.study import Study

MOST_CLUSTERS = 100


class Cluster(StudyTable):
    """Clusters of neurons that respond alike over conditions and calls; made on the selection half, described on the evaluation half."""

    method: Literal["kmeans", "agglomerative", "hdbscan", "spectral"] = "kmeans"
    k: Annotated[int, Field(le=MOST_CLUSTERS)] | tuple[int, Annotated[int, Field(le=MOST_CLUSTERS)]] | None = Field(
        None, description=f"number of clusters, or the first and last to choose from, up to {MOST_CLUSTERS}; default: 2 to 8"
    )
    min_size: int | None = Field(None, ge=2, le=MOST_UNITS, description="for hdbscan: the size of the smallest cluster")
    share: float = Field(
        0.1,
        gt=0,
        lt=0.5,
        description="share of the neurons of the site ff that are clustered: those with the largest scores of either "
        "sign, and the concept set",
    )
    attribution: bool | None = Field(None, description="use attribution as a feature; default: when the study has [attribute]")
    seed: Seed = 0
    n_resamples: int = Field(20, ge=5, le=MOST_RESAMPLES, description="bootstrap resamples of the units, for the stability of clusters")
    n_random: int = Field(199, ge=19, le=MOST_SETS, description="matched random sets for each cluster")
    regions: int | None = Field(
        None, ge=0, le=20, description="for how many units of the evaluation half to map where in the image a cluster is active; default 0"
    )

    added_later: ClassVar[tuple[str, ...]] = ("regions",)


def check_cluster(study: "Study") -> None:
    """Refuse what [cluster] cannot mean in this study; ValueError that names the field and the way out."""
    table = study.cluster
    if table is None:
        return
    if table.attribution and not study.attribute:
        raise ValueError("cluster.attribution = true needs the table [attribute]. Add it, or remove `attribution`")
    if table.method == "hdbscan" and table.k is not None:
        raise ValueError("cluster.k: hdbscan finds the number of clusters itself. Remove `k` and set `min_size`, or use kmeans")
    if table.method != "hdbscan" and table.min_size is not None:
        raise ValueError(f"cluster.min_size is a setting of hdbscan; {table.method} takes `k`")
    if isinstance(table.k, int) and table.k < 2:
        raise ValueError(f"cluster.k = {table.k}: one cluster is no clustering. Give 2 or more")
    if isinstance(table.k, tuple) and not 2 <= table.k[0] < table.k[1]:
        raise ValueError(f"cluster.k = {list(table.k)} is not a range. Write the first and the last number to try, e.g. [2, 8]")
