"""[[sets]] of a study: neuron sets by name, from a file of another run or made of other sets.

NamedSet   one of them
check_sets  refuse names, operands and circles that mean nothing; find_files: refuse files that are not there
ordered    the sets, each after those it is made of;  uses   what a set is made of in the end
"""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar

from pydantic import Field, model_validator

from workbench import registry
from workbench.errors import StudyError, nearest
from workbench.study.fields import MOST_NAME, NonEmpty, StudyTable, Unique

if TYPE_CHECKING:
    from workbench.study.cluster import Cluster
    from workbench.study.study import Study
    from workbench.study.variants import VariantTable

HOW = ("union", "intersection", "difference")
OWN = ("concept", "suppressed")
OTHERS = ("pruned", "watch", "complement", "random", "all", "chosen", "watched")
MOST_PARTS = 1000
CLUSTER = re.compile(r"cluster-(\d+)")


class NamedSet(StudyTable):
    """A named neuron set: described like the concept set, ablated by the effect `sets` of [ablate]."""

    added_later: ClassVar[tuple[str, ...]] = ("file", *HOW)

    name: str = Field(pattern=r"^[a-z][a-z0-9-]*$", max_length=MOST_NAME, description="its name in every table")
    file: NonEmpty | None = Field(None, description="a saved neuron set, relative to the study file or absolute")
    union: Annotated[list[str], Unique] | None = Field(None, min_length=2, description="neurons in any of these sets")
    intersection: Annotated[list[str], Unique] | None = Field(None, min_length=2, description="neurons in all of these sets")
    difference: Annotated[list[str], Unique] | None = Field(
        None, min_length=2, description="neurons in the first set and in none of the others"
    )

    @model_validator(mode="after")
    def _one_way(self) -> "NamedSet":
        given = [way for way in ("file", *HOW) if getattr(self, way) is not None]
        if len(given) != 1:
            found = f"has {' and '.join(given)}" if given else "has none of them"
            raise ValueError(f'the set "{self.name}" needs exactly one of file, union, intersection, difference; it {found}')
        return self

    @property
    def how(self) -> str:
        """file, union, intersection or difference."""
        return next(way for way in ("file", *HOW) if getattr(self, way) is not None)

    @property
    def operands(self) -> list[str]:
        """Names of the sets it is made of; none for a file."""
        return [] if self.file is not None else getattr(self, self.how)

    def path(self, folder: str | Path) -> Path:
        """Where its file is; folder: that of the study file."""
        if self.file is None:
            raise ValueError(f'the set "{self.name}" is made of other sets and has no file')
        return Path(folder) / Path(self.file).expanduser()


def check_sets(study: "Study") -> None:
    """Refuse names that are taken, operands that do not exist, and circles; ValueError that says what to do."""
    sets, numbers = study.sets or [], _cluster_names(study.cluster)
    names = [one.name for one in sets]
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f'two [[sets]] are called "{name}"; give each its own name')
        if name in (*OWN, *OTHERS) or CLUSTER.fullmatch(name):
            raise ValueError(f'no [[sets]] can be called "{name}", a name that the study uses itself. Choose another name')
    for one in sets:
        for operand in one.operands:
            if CLUSTER.fullmatch(operand) and study.cluster is None:
                raise ValueError(f'the set "{one.name}" uses "{operand}", and the study has no table [cluster]. Add it')
            known = operand in (*OWN, *names) or operand in numbers or (CLUSTER.fullmatch(operand) and not numbers)
            if not known:
                possible = {*OWN, *names, *numbers} - {one.name}
                raise ValueError(f'the set "{one.name}" uses "{operand}", which is not a set of this study.{nearest(operand, possible)}')
    _check_size(study)
    for variant in study.variants:
        if (pruned := variant.parameters.get("set")) is not None and "neurons" in registry.method("erasers", variant.method).needs:
            _check_pruned(study, variant, pruned, names)


def find_files(study: "Study") -> None:
    """Refuse files of sets that are not there.

    Raises   StudyError with the nearest name beside it
    """
    for one in study.sets or []:
        if one.file is not None and not (path := one.path(study.folder)).is_file():
            beside = nearest(path.name, (p.name for p in path.parent.glob("*.safetensors")))
            raise StudyError(f'The set "{one.name}" names the file {path}, which does not exist.{beside}')


def ordered(named: Iterable[NamedSet]) -> list[NamedSet]:
    """The [[sets]], each after the sets that it is made of.

    Raises   ValueError that names the circle
    """
    sets = {one.name: one for one in named}
    done: dict[str, NamedSet] = {}
    for name in sets:
        way = [name]  # from the set that was asked for down to the one that is looked at
        while way:
            missing = next((one for one in sets[way[-1]].operands if one in sets and one not in done), None)
            if missing is None:
                done[way[-1]] = sets[way[-1]]
                way.pop()
            elif missing in way:
                circle = '", which is made of "'.join([*way[way.index(missing) :], missing])
                raise ValueError(f'the set "{circle}": a circle. Give one of them a file or other sets')
            else:
                way.append(missing)
    return list(done.values())


def uses(study: "Study", name: str) -> set[str]:
    """What a set is made of in the end: "concept", "suppressed" and "cluster-N" as far as it needs them, and names of files' sets."""
    found: dict[str, set[str]] = {}
    for one in ordered(study.sets or []):
        parts = (found.get(operand, {operand}) for operand in one.operands)
        found[one.name] = {one.name} if one.file is not None else set().union(*parts)
    return found.get(name, {name})


def _check_size(study: "Study") -> None:
    """Refuse sets of sets that are endless when written out, as their keys write them."""
    size: dict[str, int] = {}
    for one in ordered(study.sets or []):
        size[one.name] = 1 + sum(size.get(operand, 1) for operand in one.operands)
        if size[one.name] > MOST_PARTS:
            raise ValueError(
                f'the set "{one.name}" is made of sets that are made of sets, more than {MOST_PARTS:,} when written out. '
                "Save one of them as a file, and name the file"
            )


def _cluster_names(part: "Cluster | None") -> list[str]:
    """Names of the clusters, where the study says how many there are."""
    return [f"cluster-{number}" for number in range(part.k)] if part is not None and isinstance(part.k, int) else []


def _check_pruned(study: "Study", variant: "VariantTable", name: str, names: list[str]) -> None:
    if name not in names:
        raise ValueError(f'variant "{variant.name}" prunes the set "{name}", which is not one of the [[sets]].{nearest(name, names)}')
    if "neurons" in variant.parameters:
        raise ValueError(f'variant "{variant.name}" has both `neurons` (of the concept set) and the set "{name}". Give one of the two')
    if any(CLUSTER.fullmatch(one) for one in uses(study, name)):
        raise ValueError(
            f'variant "{variant.name}" prunes the set "{name}", which is made of clusters, and clusters depend on what the variants do. '
            "Run the study without this variant, and prune the saved report/neuron-sets/cluster-N.safetensors in another study"
        )
