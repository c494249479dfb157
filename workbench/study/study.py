"""The study: what a study file may say. The same object makes flags, forms, keys and the manifest.

load_study   read and check a TOML file or a bundled study
"""

import tomllib
from contextlib import suppress
from pathlib import Path
from typing import ClassVar, Literal

from pydantic import Field, ValidationError, model_validator

from workbench import registry, resources
from workbench.errors import StudyError, nearest
from workbench.storage import digest
from workbench.study import asked, combinations, named
from workbench.study.part import Part

SCHEMA_VERSION = 1
BASE = "base"
SETS = ("target", "reference", "near", "far")


class Concept(Part):
    """What is to be erased."""

    later: ClassVar[tuple] = ("forbidden",)

    name: str
    kind: Literal["style", "object", "group"] = Field(description="what sort of thing the concept is")
    names: list[str] = Field(min_length=1, description="every name of it: erased together, forbidden to attacks")
    forbidden: list[str] | None = Field(
        None, min_length=1, description="more words that attacks may not use, such as synonyms that are not erased"
    )

    @property
    def not_for_attacks(self):
        """The words no attack may use: its names, and what else is forbidden."""
        return [*self.names, *(self.forbidden or [])]


class ModelPart(Part):
    """The base model."""

    base: str = Field(description="bundled name, diffusers folder, single file or hub id")
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    note: str | None = Field(None, description="what a reader must know about this model; printed in the report")


class Prompts(Part):
    """CSV files, relative to the study file or to data/."""

    later: ClassVar[tuple] = ("retain", "units")

    target: str = Field(description="prompts with the concept")
    reference: str = Field(description="the same units without it")
    near: str | None = Field(None, description="retained concepts close to it; needs a column `expect`")
    far: str | None = Field(None, description="retained concepts far from it; needs a column `expect`")
    erase: str | None = Field(None, description="pairs prompt, anchor that erasers train on")
    retain: str | None = Field(
        None, description="prompts a learned mask keeps as they are, column prompt; none of them may be measured as near or far"
    )
    units: Literal["prompt", "column"] | None = Field(
        None,
        description="what is resampled and split into halves. prompt, the default: rows with the same target prompt are one unit, whatever "
        "their seed; column: as the column `unit` says",
    )
    limit: int | None = Field(None, ge=4, description="use only the first rows of every set")


class Detectors(Part):
    """Which detectors look, and for what."""

    labels: list[str] = Field(min_length=1, description="the concept is present when any of these labels is found")
    steer: dict = Field(description="detector that attacks may look at: method and its parameters")
    judge: dict = Field(description="detector whose verdict is reported")


class Sampling(Part):
    """How images are made."""

    steps: int = Field(20, ge=2)
    guidance: float = Field(5.0, ge=1)
    batch: int = Field(20, ge=1, description="images per UNet call and prompts per shard")


class VariantPart(Part):
    """One variant of the base model."""

    later: ClassVar[tuple] = ("like", "spare")

    name: str = Field(pattern=r"^[a-z][a-z0-9-]*$")
    method: str
    parent: str = BASE
    role: Literal["erased", "pruned", "sham"] = "erased"
    pairs: str | None = Field(None, description="another file of prompt, anchor pairs: what a sham erases instead")
    like: str | None = Field(None, description="an earlier variant that is a mask: cut as many weights of each of its layers")
    spare: Literal["watch"] | None = Field(
        None, description="watch: a mask never cuts weights that feed or read the watched neurons; its share is of the others"
    )
    parameters: dict = Field(default_factory=dict)


class AttackPart(Part):
    """One attack; each brings its own control."""

    later: ClassVar[tuple] = ("name", "preset", "transfer")

    method: str
    name: str | None = Field(None, pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$", description="what every table calls it; default: its method")
    preset: Literal["published"] | None = Field(
        None, description="published: start from the paper's values for Stable Diffusion, not from those scaled for the emoji model"
    )
    against: list[str] = Field(default_factory=list, description="variants it is optimised against; empty = static")
    transfer: bool | None = Field(None, description="false: only the variant it was made against and the base model meet it")
    parameters: dict = Field(default_factory=dict)

    @property
    def label(self):
        """What every table calls it."""
        return self.name or self.method

    @property
    def settings(self):
        """Its parameters, over those of the preset."""
        published = registry.method("attacks", self.method).module.PUBLISHED if self.preset else {}
        return published | self.parameters


class Quality(Part):
    """What is asked of images of retained concepts beyond their distance to the base model's."""

    clip: str | None = Field(None, description="transformers folder of a CLIP model: how well images fit their prompts")
    noise_floor: list[Literal["seed", "dtype"]] = Field(
        [], description="make the base model's images again, from other noise or in another number format: what no change looks like"
    )


class Record(Part):
    """What is recorded in the shared regime."""

    sites: list[str] = ["ff"]
    trajectories: list[Literal["target", "reference"]] = ["target", "reference"]
    calls: list[int] | None = Field(None, description="positions in the sampling loop; default: every second")
    window: tuple[float, float] = Field(
        (0.0, 1.0), description="share of the loop, from noisiest to cleanest, that activity is averaged over"
    )


class Choose(Part):
    """How concept neurons are chosen, and how sure we want to be."""

    later: ClassVar[tuple] = ("agree", "by", "votes")

    score: str = Field("contrast", description="what chooses; with `agree`, the one of them that is listed first")
    parameters: dict = Field(default_factory=dict, description="of the score")
    compare: list[str] | None = Field(None, description="scores listed beside it; default: every one")
    agree: list[str] | None = Field(None, description="scores that choose together, at least 2")
    by: Literal["rank", "votes"] | None = Field(
        None, description="of agree: the best mean rank (default), or in the top share of at least `votes` of them"
    )
    votes: int | None = Field(None, ge=1, description="how many of the scores in agree must have a neuron in their top share")
    share: float = Field(0.04, gt=0, lt=0.5, description="share of the neurons of the site ff in the concept set")
    seed: int = Field(0, description="of the halves, the coin of pruned or watched, and the random sets")
    n_random: int = Field(199, ge=19, description="matched random sets")
    n_resamples: int = Field(1000, ge=100, description="bootstrap resamples of units")

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
    source: str = Field(description="where it is known from")


class Study(Part):
    """One analysis: base, variants, concept, prompts, attacks, what is recorded and how it is judged."""

    later: ClassVar[tuple] = ("quality", "expect", "attribute", "cluster", "ablate", "sets")

    schema_version: Literal[1] = SCHEMA_VERSION
    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]*$", description="also the name of the run folder")
    title: str
    question: str = ""
    concept: Concept
    model: ModelPart
    prompts: Prompts
    detectors: Detectors
    sampling: Sampling = Sampling()
    variants: list[VariantPart] = Field(min_length=1)
    attacks: list[AttackPart] = []
    quality: Quality | None = None
    record: Record = Record()
    choose: Choose = Choose()
    expect: list[Expected] | None = None
    attribute: asked.Attribute | None = None
    cluster: asked.Cluster | None = None
    ablate: asked.Ablate | None = None
    sets: list[named.NamedSet] | None = None

    _path: Path | None = None
    _text: str = ""

    @model_validator(mode="after")
    def _names_fit_together(self):
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
            _check_parameters("erasers", variant.method, variant.parameters, f"variant {variant.name}")
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
            combinations.check_expected(one, known, labels)
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
        """A copy with `a.b=c` overrides; numbers in the path index lists, values are read as TOML.

        Raises   StudyError naming the assignment that does not fit
        """
        data = self.model_dump(mode="json", exclude_none=True)
        for assignment in assignments:
            path, equals, value = assignment.partition("=")
            if not equals:
                raise StudyError(f'"{assignment}" is no assignment. Write --set sampling.steps=10.')
            with suppress(tomllib.TOMLDecodeError):  # a bare word is a string
                value = tomllib.loads(f"v = {value}")["v"]
            where = data
            *parents, last = path.strip().split(".")
            try:
                for step in parents:
                    where = where[int(step)] if isinstance(where, list) else where.setdefault(step, {})
                where[int(last) if isinstance(where, list) else last] = value
            except (ValueError, IndexError, TypeError, AttributeError) as error:
                raise StudyError(f'"{path}" names nothing in the study ({error}).') from error
        changed = _validated(data, f"--set {' '.join(assignments)}")
        changed._path, changed._text = self._path, self._text
        return changed


def _check_parameters(kind, name, parameters, where):
    """Read a method's parameters now, so that a bad one is told before anything runs."""
    from workbench.errors import MethodError

    try:
        registry.method(kind, name).parameters(**parameters)
    except MethodError as error:
        raise ValueError(f"{where}: {error}") from error
    except ValidationError as error:
        raise ValueError(f"{where}: {_sentence(error, registry.method(kind, name).parameters)}") from error


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
    found = "" if first["type"] in ("missing", "value_error") else f", found {first['input']!r}"
    return f"{place}: {message}{found}" if place else message


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
        return Study(**data)
    except ValidationError as error:
        raise StudyError(f"{source}: {_sentence(error, Study)}") from error


def load_study(path, files=True):
    """Read and check a study file, by path or by the name of a bundled study.

    files    whether the prompt files it names must be there; some bundled studies are for prompts that are not shipped

    Raises   StudyError with one sentence: what is wrong, where, and the nearest thing that would be right
    """
    if isinstance(path, Study):
        return path
    path = resources.find_study(path)
    text = path.read_text()
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise StudyError(f"{path} is not valid TOML: {error}.") from error
    study = _validated(data, str(path))
    study._path, study._text = path.resolve(), text
    if not files:
        return study
    for field in ("target", "reference", "near", "far", "erase", "retain"):
        if getattr(study.prompts, field):
            resources.find_file(getattr(study.prompts, field), study.folder)
    for variant in study.variants:
        if variant.pairs:
            resources.find_file(variant.pairs, study.folder)
    named.find_files(study)
    return study
