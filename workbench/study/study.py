"""The study: what a study file may say. The same object makes flags, forms, keys and the manifest.

load_study   read and check a TOML file or a bundled study;  study_of_text   the same for text that is no file yet
"""

import io
import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import Field, ValidationError, model_validator

from workbench import resources, textfile
from workbench.errors import StudyError
from workbench.storage import digest
from workbench.study import seeds
from workbench.study.ablate import Ablate, check_ablate
from workbench.study.attacks import AttackTable, check_attacks
from workbench.study.attribute import Attribute, check_attribute
from workbench.study.cluster import Cluster, check_cluster
from workbench.study.concept import OTHER, Concept
from workbench.study.expected import Expected, check_expected
from workbench.study.fields import MOST_NAME, NonEmpty, StudyTable, check_plain
from workbench.study.method_settings import MOST_SAID, sentence, shortened
from workbench.study.neuron_choice import Choose, check_choice
from workbench.study.neuron_sets import NamedSet, check_sets, find_files
from workbench.study.parts import SETS, Detectors, ModelTable, Prompts, Quality, Record, Sampling, check_detectors, check_window
from workbench.study.variants import BASE, VariantTable, check_variants

__all__ = ["BASE", "NAME", "OTHER", "SETS", "Study", "load_study"]

NAME = r"^[a-z0-9][a-z0-9-]*$"
MOST_BYTES = 2**20  # of a study file


class Study(StudyTable):
    """One analysis: base, variants, concept, prompts, attacks, what is recorded and how it is judged.

    `variants` and `attacks` hold one part for each run of those with `seeds`; a dump, and so every key, has them as they were written.
    """

    added_later: ClassVar[tuple[str, ...]] = ("quality", "expect", "attribute", "cluster", "ablate", "sets")

    schema_version: Literal[1] = 1
    name: str = Field(pattern=NAME, max_length=MOST_NAME, description="also the name of the run folder")
    title: NonEmpty
    question: str = ""
    concept: Concept
    model: ModelTable
    prompts: Prompts
    detectors: Detectors
    sampling: Sampling = Sampling()
    variants: list[VariantTable] = Field(min_length=1, max_length=200)
    attacks: list[AttackTable] = Field([], max_length=200)
    quality: Quality | None = None
    record: Record = Record()
    choose: Choose = Choose()
    expect: list[Expected] | None = Field(None, max_length=200)
    attribute: Attribute | None = None
    cluster: Cluster | None = None
    ablate: Ablate | None = None
    sets: list[NamedSet] | None = Field(None, max_length=200)

    _path: Path | None = None
    _text: str = ""
    _written: dict[str, Any] = {}

    def _as_written(self) -> "Study":
        """The study with the variants and attacks of the file, before those with `seeds` are expanded."""
        return self.model_copy(update=self._written)

    @model_validator(mode="after")
    def _names_fit_together(self) -> "Study":
        self._written = {"variants": self.variants, "attacks": self.attacks}
        self.variants, self.attacks = seeds.expanded(self.variants, self.attacks)
        names = {variant.name for variant in self.variants}
        check_variants(self.variants, self.concept.kind)
        check_attacks(self.attacks, names)
        check_detectors(self.detectors)
        check_choice(self.choose)
        for known in self.expect or []:
            check_expected(known, {BASE, *seeds.written(self.variants)}, seeds.written(self.attacks))
        check_window(self.record)
        check_sets(self)
        for check in (check_attribute, check_cluster, check_ablate):
            check(self)
        return self

    @property
    def folder(self) -> Path:
        """Where the study file lies; relative files are looked for there first."""
        return self._path.parent if self._path else Path(".")

    def beside(self, other: "Study") -> "Study":
        """This study, with relative files looked for where those of another study are."""
        self._path = other._path
        return self

    def inside(self, folder: str | Path) -> "Study":
        """This study, with relative files looked for in a folder first."""
        self._path = Path(folder) / "study.toml"
        return self

    @property
    def text(self) -> str:
        """The study file as written."""
        return self._text

    def digest(self) -> str:
        """sha256 of everything the study says."""
        return digest(self.model_dump(mode="json"))

    def variant(self, name: str) -> VariantTable:
        """The variant of that name."""
        return next(variant for variant in self.variants if variant.name == name)

    def with_values(self, assignments: Iterable[str]) -> "Study":
        """A copy with `a.b=c` overrides; numbers in the path index lists from 0, values are read as TOML.

        Raises   StudyError naming the assignment that does not fit
        """
        data = self.model_dump(mode="json", exclude_none=True)
        for assignment in assignments:
            path, equals, value = assignment.partition("=")
            if not equals:
                raise StudyError(f'"{shortened(assignment)}" is not an assignment. Write --set sampling.steps=10.')
            _set(data, path.strip(), _read(value, assignment))
        changed = _validated(data, shortened(f"--set {' '.join(assignments)}", 4 * MOST_SAID))
        changed._path, changed._text = self._path, self._text
        return changed


def _read(value: str, assignment: str) -> Any:
    """The value of an assignment as TOML reads it; a bare word is a string. StudyError for more than one value."""
    try:
        read = tomllib.loads(f"v = {value}")
    except (ValueError, RecursionError):  # a number of more digits than Python reads is a ValueError as well
        return value
    if set(read) != {"v"}:
        raise StudyError(f'"{shortened(assignment)}" contains more than one assignment. Give --set once for each.')
    return read["v"]


def _set(data: dict[str, Any], path: str, value: Any) -> None:
    """Put a value where a path such as variants.0.parameters.iterations says."""
    *parents, last = path.split(".")
    where: Any = data
    try:
        for step in parents:
            where = where[_place(step, where, path)] if isinstance(where, list) else where.setdefault(step, {})
        where[_place(last, where, path) if isinstance(where, list) else last] = value
    except (ValueError, TypeError, AttributeError) as error:
        raise StudyError(f'"{shortened(path)}" does not exist in the study ({error}).') from error


def _place(step: str, where: list[Any], path: str) -> int:
    """The index of a list that a step of a path says, from 0."""
    if not (step.isdecimal() and step.isascii() and len(step) < 5 and int(step) < len(where)):
        possible = f"0 to {len(where) - 1}" if where else "none, for the list is empty"
        raise StudyError(
            f'"{shortened(path)}" does not exist in the study: "{shortened(step)}" is not a position in the list. Possible: {possible}.'
        )
    return int(step)


def _validated(data: Any, source: str) -> Study:
    try:
        check_plain(data)
        return Study(**data)
    except ValidationError as error:
        raise StudyError(f"{source}: {sentence(error, Study)}") from error
    except ValueError as error:
        raise StudyError(f"{source}: {error}.") from error


def load_study(path: "str | Path | Study", files: bool = True) -> Study:
    """Read and check a study file, by path or by the name of a bundled study.

    files    whether the prompt files it names must be there; some bundled studies are for prompts that are not shipped

    Raises   StudyError with one sentence: what is wrong, where, and the nearest thing that would be right
    """
    if isinstance(path, Study):
        return path
    path = resources.find_study(path)
    return study_of_text(io.StringIO(textfile.read(path, StudyError, MOST_BYTES), newline=None).read(), path, files)


def study_of_text(text: str, path: str | Path, files: bool = True) -> Study:
    """Check the text of a study file; `path` is where the file lies, or will lie: relative files are looked for beside it.

    Raises   as `load_study`
    """
    path = Path(path)
    try:
        data = tomllib.loads(text)
    except RecursionError:
        raise StudyError(f"{path}: its tables and lists are nested too deep to be read. No setting needs that.") from None
    except ValueError as error:  # also a number of more digits than Python reads
        raise StudyError(f"{path} is not valid TOML: {str(error).rstrip('.')}.") from error
    study = _validated(data, str(path))
    study._path, study._text = path.resolve(), text
    if not files:
        return study
    for file in [*study.prompts.files.values(), *(variant.pairs for variant in study.variants)]:
        if file is not None:
            resources.find_file(file, study.folder)
    find_files(study)
    return study
