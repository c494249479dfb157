"""The study: what a study file may say. The same object makes flags, forms, keys and the manifest.

load_study   read and check a TOML file or a bundled study
"""

import io
import tomllib
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pydantic import Field, ValidationError, model_serializer, model_validator

from workbench import registry, resources, textfile
from workbench.errors import MethodError, StudyError, nearest
from workbench.storage import digest
from workbench.study import asked, combinations, named, published, seeds
from workbench.study.part import (
    MOST_GUIDANCE,
    MOST_NAME,
    MOST_RESAMPLES,
    MOST_ROWS,
    MOST_SETS,
    MOST_STEPS,
    MOST_UNITS,
    Call,
    Once,
    Part,
    Said,
    Seed,
    check_plain,
)

SCHEMA_VERSION = 1
NAME = r"^[a-z0-9][a-z0-9-]*$"
MOST_BYTES = 2**20  # of a study file
MOST_SAID = 80  # letters of a value that a message repeats
BASE = "base"
OTHER = ("other-target", "other-reference")  # the prompts of another concept
SETS = ("target", "reference", "near", "far", *OTHER)


class Concept(Part):
    """What is to be erased."""

    later: ClassVar[tuple] = ("forbidden",)

    name: Said
    kind: Literal["style", "object", "group"] = Field(description="what sort of thing the concept is")
    names: Annotated[list[Said], Once] = Field(min_length=1, description="every name of it: erased together, forbidden to attacks")
    forbidden: list[Said] | None = Field(
        None, min_length=1, description="more words that attacks may not use, such as synonyms that are not erased"
    )

    @property
    def not_for_attacks(self):
        """The words no attack may use: its names, and what else is forbidden."""
        return [*self.names, *(self.forbidden or [])]


class ModelPart(Part):
    """The base model."""

    base: Said = Field(description="bundled name, diffusers folder, single file (beside the study file first) or hub id")
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    note: str | None = Field(None, description="what a reader must know about this model; printed in the report")


class OtherConcept(Part):
    """Another concept, whose neurons stand beside the study's own: are they left alone by the eraser and by the attacks?

    Its rows pair with those of the target set, unit by unit; they are recorded on the same latents and need no images.
    """

    name: Said = Field(description="what tables and sentences call it")
    target: Said = Field(description="prompts with that concept, a prompt of its own for each unit of the study")
    reference: Said = Field(description="the same without it")

    @property
    def files(self):
        """{prompt set: file}."""
        return dict(zip(OTHER, (self.target, self.reference), strict=True))


class Prompts(Part):
    """CSV files, relative to the study file or to data/."""

    later: ClassVar[tuple] = ("retain", "trained_and_measured", "units", "other")

    target: Said = Field(description="prompts with the concept")
    reference: Said = Field(description="the same units without it")
    near: Said | None = Field(None, description="retained concepts close to it; needs a column `expect`")
    far: Said | None = Field(None, description="retained concepts far from it; needs a column `expect`")
    erase: Said | None = Field(
        None, description="pairs prompt, anchor that erasers train on; without it each name of the concept against the empty prompt"
    )
    retain: Said | None = Field(None, description="prompts a learned mask keeps as they are, column prompt; none of them may be measured")
    trained_and_measured: Literal["leave out"] | None = Field(
        None,
        description="leave out: erasing pairs and retained prompts that are measured are left out of training; default: refused",
    )
    units: Literal["prompt", "column"] | None = Field(
        None,
        description="what is resampled and split into halves. prompt, the default: rows with the same target prompt are one unit, whatever "
        "their seed; column: as the column `unit` says",
    )
    limit: int | None = Field(None, ge=4, le=MOST_UNITS, description="use only the first rows of every set")
    other: OtherConcept | None = Field(
        None, description="another concept: its neurons, chosen by the same rule, are measured beside those of the study's"
    )

    @property
    def files(self):
        """{what it is: file} of every list that the study names."""
        names = ("target", "reference", "near", "far", "erase", "retain")
        found = {name: getattr(self, name) for name in names} | ({} if self.other is None else self.other.files)
        return {name: file for name, file in found.items() if file is not None}


class Detectors(Part):
    """Which detectors look, and for what."""

    labels: Annotated[list[Said], Once] = Field(min_length=1, description="the concept is present when any of these labels is found")
    steer: dict = Field(description="detector that attacks may look at: method and its parameters")
    judge: dict = Field(description="detector whose verdict is reported")


class Sampling(Part):
    """How images are made."""

    steps: int = Field(20, ge=2, le=MOST_STEPS, description="of sampling; at most the timesteps the model was trained on")
    guidance: float = Field(5.0, ge=1, le=MOST_GUIDANCE, description="classifier-free guidance scale, the same for all rows; 1 = none")
    batch: int = Field(20, ge=1, le=MOST_ROWS, description="images per UNet call and prompts per shard")


class VariantPart(Part):
    """One variant of the base model."""

    later: ClassVar[tuple] = ("like", "spare", "preset", "seeds")

    name: str = Field(pattern=r"^[a-z][a-z0-9-]*$", max_length=MOST_NAME)
    method: str
    parent: str = BASE
    role: Literal["erased", "pruned", "sham"] = "erased"
    pairs: Said | None = Field(None, description="another file of prompt, anchor pairs: what a sham erases instead")
    like: str | None = Field(None, description="an earlier variant that is a mask: cut as many weights of each of its layers")
    spare: Literal["watch"] | None = Field(
        None, description="watch: a mask never cuts weights that feed or read the watched neurons; its share is of the others"
    )
    preset: str | None = Field(
        None,
        description="published, or published:<task>: start from the authors' settings; what `parameters` sets otherwise is reported",
    )
    parameters: dict = Field(default_factory=dict)
    seeds: Annotated[list[Seed], Once] | None = Field(None, description="train it once with each: intervals are then over runs too")

    _kind: str | None = None
    _run_of: tuple | None = None

    @property
    def run_of(self):
        """(name as written, seed) of a run of a variant with seeds, else None."""
        return self._run_of

    @property
    def kind(self):
        """The kind of the study's concept, which some presets differ by."""
        return self._kind

    @property
    def settings(self):
        """Its parameters, over those of the preset."""
        return published.settings(self.method, self.preset, self._kind) | self.parameters


class AttackPart(Part):
    """One attack; each brings its own control."""

    later: ClassVar[tuple] = ("name", "preset", "transfer", "seeds")

    method: str
    name: str | None = Field(
        None, pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$", max_length=MOST_NAME, description="what every table calls it; default: its method"
    )
    preset: Literal["published"] | None = Field(
        None, description="published: start from the paper's values for Stable Diffusion, not from those scaled for the emoji model"
    )
    against: Annotated[list[str], Once] = Field(default_factory=list, description="variants it is optimised against; empty = static")
    transfer: bool | None = Field(None, description="false: only the variant it was made against and the base model meet it")
    parameters: dict = Field(default_factory=dict)
    seeds: Annotated[list[Seed], Once] | None = Field(None, description="make it once with each: intervals are then over runs too")

    _run_of: tuple | None = None

    @property
    def run_of(self):
        """(name as written, seed) of a run of an attack with seeds, else None."""
        return self._run_of

    @property
    def label(self):
        """What every table calls it."""
        return self.name or self.method

    @property
    def settings(self):
        """Its parameters, over those of the preset."""
        given = registry.method("attacks", self.method).module.PUBLISHED if self.preset else {}
        return given | self.parameters


class Quality(Part):
    """What is asked of images of retained concepts beyond their distance to the base model's."""

    clip: Said | None = Field(None, description="transformers folder of a CLIP model: how well images fit their prompts")
    noise_floor: Annotated[list[Literal["seed", "dtype"]], Once] = Field(
        ["seed"],
        description="make the base model's images again, from other noise or in another number format: what no change looks like; "
        "without `seed` distances get no word",
    )


class Record(Part):
    """What is recorded in the shared regime."""

    sites: Annotated[list[str], Once] = Field(["ff"], min_length=1, description="kinds of places whose neurons are recorded")
    trajectories: Annotated[list[Literal["target", "reference"]], Once] = Field(
        ["target", "reference"], min_length=1, description="prompt sets on whose latents of the base model every variant is recorded"
    )
    calls: list[Call] | None = Field(None, min_length=1, description="positions in the sampling loop; default: every second")
    window: tuple[float, float] = Field(
        (0.0, 1.0), description="share of the loop, from noisiest to cleanest, that activity is averaged over"
    )


class Choose(Part):
    """How concept neurons are chosen, and how sure we want to be."""

    later: ClassVar[tuple] = ("agree", "by", "votes")

    score: str = Field("contrast", description="what chooses; with `agree`, the one of them that is listed first")
    parameters: dict = Field(default_factory=dict, description="of the score")
    compare: Annotated[list[str], Once] | None = Field(None, description="scores listed beside it; default: every one")
    agree: list[str] | None = Field(None, description="scores that choose together, at least 2")
    by: Literal["rank", "votes"] | None = Field(
        None, description="of agree: the best mean rank (default), or in the top share of at least `votes` of them"
    )
    votes: int | None = Field(None, ge=1, le=100, description="how many of the scores in agree must have a neuron in their top share")
    share: float = Field(0.04, gt=0, lt=0.5, description="share of the neurons of the site ff in the concept set")
    seed: Seed = Field(0, description="of the halves, the coin of pruned or watched, and the random sets")
    n_random: int = Field(199, ge=19, le=MOST_SETS, description="matched random sets")
    n_resamples: int = Field(1000, ge=100, le=MOST_RESAMPLES, description="bootstrap resamples of units")

    @property
    def choosing(self):
        """The scores that choose: one, or those that must agree."""
        return self.agree or [self.score]


class Expected(Part):
    """A rate known from elsewhere: when the study does not come near it, the verdict says first that the set-up is off."""

    variant: str
    attack: str | None = Field(None, description="what the study calls the attack; none: plainly asked")
    definition: Literal["success_rate", "pre_asr", "asr", "asr_fail"] = Field(description="as in the table rates")
    low: float = Field(ge=0, le=1, description="the interval of the rate must reach from low ...")
    high: float = Field(ge=0, le=1, description="... to high")
    source: Said = Field(description="where it is known from")


class Study(Part):
    """One analysis: base, variants, concept, prompts, attacks, what is recorded and how it is judged.

    `variants` and `attacks` hold one part for each run of those with `seeds`; a dump, and so every key, has them as they were written.
    """

    later: ClassVar[tuple] = ("quality", "expect", "attribute", "cluster", "ablate", "sets")

    schema_version: Literal[1] = SCHEMA_VERSION
    name: str = Field(pattern=NAME, max_length=MOST_NAME, description="also the name of the run folder")
    title: Said
    question: str = ""
    concept: Concept
    model: ModelPart
    prompts: Prompts
    detectors: Detectors
    sampling: Sampling = Sampling()
    variants: list[VariantPart] = Field(min_length=1, max_length=200)
    attacks: list[AttackPart] = Field([], max_length=200)
    quality: Quality | None = None
    record: Record = Record()
    choose: Choose = Choose()
    expect: list[Expected] | None = Field(None, max_length=200)
    attribute: asked.Attribute | None = None
    cluster: asked.Cluster | None = None
    ablate: asked.Ablate | None = None
    sets: list[named.NamedSet] | None = Field(None, max_length=200)

    _path: Path | None = None
    _text: str = ""
    _written: dict = {}

    @model_serializer(mode="wrap")
    def _without_later(self, serialize):
        kept = lambda key: key not in self.later or getattr(self, key) != type(self).model_fields[key].default  # noqa: E731
        return {key: value for key, value in serialize(self.model_copy(update=self._written)).items() if kept(key)}

    @model_validator(mode="after")
    def _names_fit_together(self):
        self._written = {"variants": self.variants, "attacks": self.attacks}
        self.variants, self.attacks = seeds.expanded(self.variants, self.attacks)
        known, roles = {BASE}, {}
        for variant in self.variants:
            if variant.name in known:
                raise ValueError(f'two variants are called "{variant.name}"')
            if variant.parent not in known:
                raise ValueError(
                    f'variant "{variant.name}" has the parent "{variant.parent}", which is not defined before it.'
                    + nearest(variant.parent, known)
                )
            known.add(variant.name)
            roles[variant.name] = variant.role
            variant._kind = self.concept.kind
            _check_variant(variant)
            if variant.like is not None:
                combinations.check_like(variant, self.variants[: len(known) - 2])
            if variant.spare is not None:
                combinations.check_spare(variant)
        for attack in self.attacks:
            _check_attack(attack)
            for name in attack.against:
                if name not in known - {BASE}:
                    raise ValueError(f'attack "{attack.label}" is against "{name}", which is no variant.' + nearest(name, known - {BASE}))
            optimised = registry.method("attacks", attack.method).module.OPTIMISED
            if optimised and not attack.against:
                raise ValueError(f'attack "{attack.label}" optimises against a model: say which with `against`')
            if not optimised and attack.against:
                raise ValueError(f'attack "{attack.label}" is static: it takes no `against`')
        labels = [attack.label for attack in self.attacks]
        for label in labels:
            if labels.count(label) > 1:
                raise ValueError(
                    f'two attacks are called "{label}": give each a `name`, or, if they are the same, put their variants into one `against`'
                )
        for which in ("steer", "judge"):
            given = dict(getattr(self.detectors, which))
            name = given.pop("method", None)
            if name is None:
                raise ValueError(f"detectors.{which} needs a `method`")
            _check_parameters("detectors", name, given, f"detectors.{which}")
        _check_parameters("scores", self.choose.score, self.choose.parameters, "choose.score")
        for where, names in (("compare", self.choose.compare), ("agree", self.choose.agree)):
            for name in names or []:
                _check_parameters("scores", name, {}, f"choose.{where}")
        combinations.check_choice(self.choose)
        for one in self.expect or []:
            combinations.check_expected(one, {BASE, *seeds.written(self.variants)}, seeds.written(self.attacks))
        low, high = self.record.window
        if not 0 <= low < high <= 1:
            raise ValueError(f"record.window must rise within 0 to 1, not {low} to {high}")
        named.check(self)
        asked.check(self)
        return self

    @property
    def folder(self):
        """Where the study file lies; relative files are looked for there first."""
        return self._path.parent if self._path else Path(".")

    @property
    def text(self):
        """The study file as written."""
        return self._text

    def digest(self):
        """sha256 of everything the study says."""
        return digest(self.model_dump(mode="json"))

    def variant(self, name):
        """The variant of that name."""
        return next(variant for variant in self.variants if variant.name == name)

    def with_values(self, assignments):
        """A copy with `a.b=c` overrides; numbers in the path index lists from 0, values are read as TOML.

        Raises   StudyError naming the assignment that does not fit
        """
        data = self.model_dump(mode="json", exclude_none=True)
        for assignment in assignments:
            path, equals, value = assignment.partition("=")
            if not equals:
                raise StudyError(f'"{_cut(assignment)}" is no assignment. Write --set sampling.steps=10.')
            _set(data, path.strip(), _read(value, assignment))
        changed = _validated(data, _cut(f"--set {' '.join(assignments)}", 4 * MOST_SAID))
        changed._path, changed._text = self._path, self._text
        return changed


def _read(value, assignment):
    """The value of an assignment as TOML reads it; a bare word is a string. StudyError for more than one value."""
    try:
        read = tomllib.loads(f"v = {value}")
    except (ValueError, RecursionError):  # a number of more digits than Python reads is a ValueError as well
        return value
    if set(read) != {"v"}:
        raise StudyError(f'"{_cut(assignment)}" holds more than one assignment. Give --set once for each.')
    return read["v"]


def _set(data, path, value):
    """Put a value where a path such as variants.0.parameters.iterations says."""
    *parents, last = path.split(".")
    where = data
    try:
        for step in parents:
            where = where[_place(step, where, path)] if isinstance(where, list) else where.setdefault(step, {})
        where[_place(last, where, path) if isinstance(where, list) else last] = value
    except (ValueError, TypeError, AttributeError) as error:
        raise StudyError(f'"{_cut(path)}" names nothing in the study ({error}).') from error


def _place(step, where, path):
    """The index of a list that a step of a path says, from 0."""
    if not (step.isdecimal() and step.isascii() and len(step) < 5 and int(step) < len(where)):
        possible = f"0 to {len(where) - 1}" if where else "none, for the list is empty"
        raise StudyError(f'"{_cut(path)}" names nothing in the study: "{_cut(step)}" is no place in the list. Possible: {possible}.')
    return int(step)


def _check_parameters(kind, name, parameters, where):
    """Read a method's parameters now, so that a bad one is told before anything runs."""
    try:
        registry.method(kind, name).parameters(**parameters)
    except MethodError as error:
        raise ValueError(f"{where}: {error}") from error
    except ValidationError as error:
        raise ValueError(f"{where}: {_sentence(error, registry.method(kind, name).parameters)}") from error


def _check_variant(variant):
    """Its method, its preset, and its parameters over it."""
    from workbench.errors import MethodError

    try:
        settings = variant.settings
    except MethodError as error:
        raise ValueError(f'variant "{variant.name}": {error}') from error
    _check_parameters("erasers", variant.method, settings, f"variant {variant.name}")


def _check_attack(attack):
    """Its preset, parameters and name; an attack is never called like another method or like a prompt set."""
    known = registry.methods("attacks")
    there = attack.method in known
    if attack.preset and there and not hasattr(known[attack.method].module, "PUBLISHED"):
        having = ", ".join(name for name, method in known.items() if hasattr(method.module, "PUBLISHED")) or "none"
        raise ValueError(
            f'attack "{attack.label}": {attack.method} states no published values. Leave `preset` out and give `parameters`. '
            f"Attacks with the preset: {having}"
        )
    _check_parameters("attacks", attack.method, attack.settings if there else {}, f"attack {attack.label}")
    if attack.name in {*known, *SETS, BASE} - {attack.method}:
        raise ValueError(f'an attack by {attack.method} cannot be called "{attack.name}", which is something else; choose another `name`')


def _sentence(error, model):
    """The first complaint of pydantic as one sentence, with the nearest field name for a typing error."""
    first = error.errors()[0]
    place = ".".join(str(step) for step in first["loc"])
    if first["type"] == "extra_forbidden":
        return f'"{place}" is no setting here.{_nearest_field(first["loc"], model)}'
    message = first["msg"].removeprefix("Value error, ")
    found = "" if first["type"] in ("missing", "value_error") else f", found {_cut(repr(first['input']))}"
    return f"{place}: {message}{found}" if place else message


def _cut(text, most=MOST_SAID):
    return text if len(text) <= most else f"{text[:most]} …"


def _nearest_field(location, model):
    for step in location[:-1]:
        field = getattr(model, "model_fields", {}).get(step) if isinstance(step, str) else None
        if field is not None:
            model = next(_tables(field.annotation), model)
    return nearest(location[-1], getattr(model, "model_fields", {}))


def _tables(annotation):
    """The tables named in a field's type, such as those of list[Table] | None."""
    if hasattr(annotation, "model_fields"):
        yield annotation
    for inner in getattr(annotation, "__args__", ()):
        yield from _tables(inner)


def _validated(data, source):
    try:
        check_plain(data)
        return Study(**data)
    except ValidationError as error:
        raise StudyError(f"{source}: {_sentence(error, Study)}") from error
    except ValueError as error:
        raise StudyError(f"{source}: {error}.") from error


def load_study(path, files=True):
    """Read and check a study file, by path or by the name of a bundled study.

    files    whether the prompt files it names must be there; some bundled studies are for prompts that are not shipped

    Raises   StudyError with one sentence: what is wrong, where, and the nearest thing that would be right
    """
    if isinstance(path, Study):
        return path
    path = resources.find_study(path)
    text = io.StringIO(textfile.read(path, StudyError, MOST_BYTES), newline=None).read()
    try:
        data = tomllib.loads(text)
    except RecursionError:
        raise StudyError(f"{path}: its tables and lists stand in each other too deep to be read. No setting needs that.") from None
    except ValueError as error:  # also a number of more digits than Python reads
        raise StudyError(f"{path} is not valid TOML: {str(error).rstrip('.')}.") from error
    study = _validated(data, str(path))
    study._path, study._text = path.resolve(), text
    if not files:
        return study
    for file in [*study.prompts.files.values(), *(variant.pairs for variant in study.variants)]:
        if file is not None:
            resources.find_file(file, study.folder)
    named.find_files(study)
    return study
