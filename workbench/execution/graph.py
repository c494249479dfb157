"""The graph of a study while it is being built: what every stage may read when it says which nodes it needs.

Graph      prompt sets, conditions with images, conditions that are recorded, and the nodes so far
NodeSpec   a node without its key
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from workbench.execution import method_code, training_data
from workbench.execution.condition import Condition, attacking, erasing
from workbench.study import seeds
from workbench.study.parts import CONCEPT, RETAINED
from workbench.study.attacks import AttackTable
from workbench.study.prompt_set_name import control_of, name_of
from workbench.study.study import BASE, OTHER, Study


@dataclass(frozen=True)
class SetPlan:
    """One prompt set of the study: where its rows come from and what it is.

    table    the PromptSet when it is read from a file, None when an attack makes it
    attack   what the study calls the attack that makes it
    node     id of the attack node that makes it
    """

    name: str
    kind: str
    table: PromptSet | None = None
    attack: str | None = None
    against: str | None = None
    control: bool = False
    node: str | None = None


@dataclass(frozen=True)
class NodeSpec:
    """A node as its stage describes it.

    parameters   what its result depends on beside the inputs; part of its key
    inputs       ids of the nodes it reads
    ranges       (start, stop) of its shards
    cut          the parameter that holds one entry per row or job: a shard's key has its own entries alone; without it, its range
    code         {method: digest} of methods that do not come with the workbench; part of its key
    context      what the stage reads besides: it follows from the inputs, or changes how fast a result is there and not what it is
    passes       UNet evaluations it costs (one with gradient counts as 2.5)
    bytes        what it is expected to write
    """

    id: str
    stage: str
    parameters: dict[str, Any]
    inputs: tuple[str, ...] = ()
    variant: str | None = None
    prompt_set: str | None = None
    ranges: tuple[tuple[int, int], ...] = ((0, 0),)
    cut: str | None = None
    code: dict[str, str] = field(default_factory=dict)
    context: dict[str, Any] = field(default_factory=dict)
    passes: float = 0.0
    bytes: int = 0


class Graph:
    """Prompt sets and conditions of a study, and the nodes that stages have asked for so far.

    prompts      {name: PromptSet} of its files;  rows   {name: their rows}
    sets         {name: SetPlan}, those that attacks make among them
    pictured     (variant, prompt set) pairs with images, in the order in which they are of interest
    recorded     (variant, prompt set) pairs of which activations are recorded
    calls        recorded ones;  n_calls   of a whole sampling run
    model        {"model", "dtype"}: what every node of the base model depends on;  sampling   that and the settings of sampling
    looks        {"labels", "steer", "judge"}: what the detectors' answers depend on
    halves       what nodes depend on that read the halves of the units, where units follow the prompts
    n_neurons, image_bytes, latent_bytes   recorded neurons, and the size of one image and one latent, for the estimate of the disk
    notes        sentences on what the plan does with the study's prompts
    """

    def __init__(
        self, study: Study, prompts: dict[str, PromptSet], calls: list[int], n_calls: int, model_digest: str, sizes: tuple[int, int, int]
    ) -> None:
        self.study, self.prompts, self.calls, self.n_calls = study, prompts, calls, n_calls
        self.n_neurons, self.image_bytes, self.latent_bytes = sizes
        self.nodes: dict[str, NodeSpec] = {}
        self.notes = [said] if (said := seeds.cost(study)) else []
        self.sets = {name: SetPlan(name, one.kind, one) for name, one in prompts.items()}
        tables = {name: one.table.drop(columns="group", errors="ignore") for name, one in prompts.items()}
        self.rows = {name: table.astype(object).where(table.notna(), None).values.tolist() for name, table in tables.items()}
        self.n_prompts = len(prompts["target"])
        self.units = list(dict.fromkeys(prompts["target"].units))
        self.rows_per_unit = len(self.rows["target"]) / len(self.units)
        batch = study.sampling.batch
        self.batches = tuple((start, min(start + batch, self.n_prompts)) for start in range(0, self.n_prompts, batch))
        self.model = {"model": model_digest, "dtype": study.model.dtype}
        self.sampling = {"steps": study.sampling.steps, "guidance": study.sampling.guidance} | self.model
        # what depends on the halves is computed again where units follow the prompts; images and recordings stay
        self.halves = {"grouped": "prompt"} if "group" in prompts["target"].table else {}
        detectors = {role: method_code.detector_identity(getattr(study.detectors, role), study.folder) for role in ("steer", "judge")}
        self.looks = {"labels": study.detectors.labels} | detectors
        self.pairs = training_data.read_pairs(study, study.prompts.erase)
        self.changed = [variant.name for variant in study.variants]
        self.plain = [variant.name for variant in study.variants if variant.role != "sham"]
        self.pictured = self._pictured()
        self.recorded = self._recorded()

    def _pictured(self) -> list[tuple[str, str]]:
        """The base model first, then variants, attacks with their controls, retained sets; adds the attacks' sets to `sets`."""
        found = [(variant, name) for variant in (BASE, *self.changed) for name in CONCEPT]
        for attack in self.study.attacks:
            for against in attack.against or [None]:
                made = against or method_code.made_against(attack, self.study.folder)
                name = name_of(attack.label, made)
                for control in (False, True):
                    set_name, kind = (control_of(name), "control") if control else (name, "adversarial")
                    self.sets[set_name] = SetPlan(set_name, kind, None, attack.label, made, control, attacking(name))
                    shown = [one for one in self.plain if self._shown(attack, against, one) and seeds.meets(self.study, against, one)]
                    found += [(variant, set_name) for variant in shown]
        return found + [(variant, name) for name in self.retained for variant in (BASE, *self.changed)]

    def _shown(self, attack: AttackTable, against: str | None, variant: str) -> bool:
        """An attack's images are made for the variant it was made against and, unless `transfer` is false, those defined after it."""
        if against is None or against == variant:
            return True
        return attack.transfer is not False and self.plain.index(variant) > self.plain.index(against)

    def _recorded(self) -> list[tuple[str, str]]:
        """The base model's target and reference first: neurons are chosen by them."""
        found = [(BASE, name) for name in CONCEPT]
        alone = {attack.label for attack in self.study.attacks if attack.transfer is False and attack.against}
        for name, planned in self.sets.items():
            for variant in (BASE, *self.changed):
                # the other concept's reference is read for the choice of its neurons and for their scale, in the base model alone
                wanted = (variant == BASE or name != OTHER[1]) and seeds.meets(self.study, planned.against, variant)
                if wanted and (planned.attack not in alone or variant in (BASE, planned.against)):
                    found.append((variant, name))
        return list(dict.fromkeys(found))

    @property
    def retained(self) -> list[str]:
        """Names of the retained sets of the study."""
        return [name for name in RETAINED if name in self.prompts]

    def add(self, spec: NodeSpec) -> None:
        """One more node."""
        self.nodes[spec.id] = spec

    def of_stage(self, *stages: str) -> list[NodeSpec]:
        """The nodes of some stages, in the order in which they were asked for."""
        return [spec for spec in self.nodes.values() if spec.stage in stages]

    def source(self, name: str) -> tuple[tuple[str, ...], dict[str, Any], str | None]:
        """(inputs, parameters, cut) through which a node of this prompt set depends on its prompts: an attack, or the rows of a file."""
        node = self.sets[name].node
        return ((node,), {"set": name}, None) if node else ((), {"rows": self.rows[name]}, "rows")

    def made(self, variant: str) -> tuple[str, ...]:
        """The node that makes a variant; none for the base model."""
        return () if variant == BASE else (erasing(variant),)

    def n_rows(self, units: int | None, half: str = "b") -> int:
        """Rows of so many units of a half; all of them by default."""
        n = len(self.units) // 2 if half == "a" else len(self.units) - len(self.units) // 2
        return round(min(units or n, n) * self.rows_per_unit)

    def met(self, variant: str) -> list[str]:
        """Attacks' sets that a variant met by design: made against it, or against none."""
        return [name for name, one in self.sets.items() if one.attack and not one.control and one.against in (None, variant)]

    def needed(self, variant: str, name: str) -> list[str]:
        """Nodes that make a condition: the trajectory, the variant, the prompts."""
        node = self.sets[name].node
        return [Condition(BASE, "target").node("generate"), *self.made(variant), *([node] if node else [])]

    def written(self, names: Iterable[str]) -> dict[str, list]:
        """{set: rows} of the sets that come from files."""
        return {name: self.rows[name] for name in names if name in self.rows}

    def conditions(self) -> list[list[str]]:
        """[variant, prompt set] pairs that neurons are clustered and described by; every attack beside its control.

        Without pruned variants: a pruned neuron is inactive there, and a cluster would only find the mask again.
        """
        found = [[BASE, "reference"], [BASE, "target"]]
        for variant in (name for name in self.plain if self.study.variant(name).role != "pruned"):
            found.append([variant, "target"])
            for name in self.met(variant):
                found += [[variant, name], [variant, control_of(name)]]
        return found
