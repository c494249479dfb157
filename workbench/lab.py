"""The live session: ablate neurons of a finished run and see what changes. Needs no Streamlit.

Lab              holds the base model and the variants of a run; images, target and activity with and without an ablation
NeuronAblation   which neurons, what is done to them, how strongly, at which calls, in which branch

    lab = workbench.Lab("runs/emoji-ink-neurons")
    picked = lab.neurons("concept")
    before = lab.images("an ink emoji of a bicycle", 1001, "erased")
    after = lab.images("an ink emoji of a bicycle", 1001, "erased", NeuronAblation(picked, "zero"))

Definitions: docs/reference/definitions.md#ablation, #targets, #concept-activity. Numbers equal those of the stage `ablate`.
"""

import hashlib
import json
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
import pandas
import torch

from workbench.analysis import ablation as ablations
from workbench.diffusion import targets
from workbench.diffusion.denoise import Short, Trajectory, denoise, evaluate, n_calls
from workbench.errors import MethodError, RecordingMismatch, RunError, StatisticsError, nearest
from workbench.execution.open_run import Run, open_run
from workbench.execution.plan import read_sets
from workbench.execution.variant_files import merged
from workbench.models import load, masks, text
from workbench.models.load import Model, source_digest
from workbench.models.variants import SideBySide, Variant, applied, base_again, plain
from workbench.neurons import sites
from workbench.neurons.columns import Columns
from workbench.neurons.taps import Rows, Taps
from workbench.statistics import split_halves
from workbench.study.prompts import PromptSet, pairing
from workbench.study.study import BASE

if TYPE_CHECKING:
    from workbench.methods.detectors import Detector

Mode = Literal["zero", "mean", "scale", "clamp", "patch"]
MODES: dict[str, str] = {
    "zero": "moved towards 0; strength 1 = off",
    "mean": "moved towards the mean of the reference prompts in the base model at the same call; strength 1 = held there",
    "scale": "multiplied by the strength; 0 = off, 1 = unchanged, 2 = doubled",
    "clamp": "held at the strength times the mean of the target prompts in the base model at the same call",
    "patch": "moved towards the value of the base model for the same prompt, noise and call; strength 1 = held there",
}
MOST_BYTES = 256_000_000
MEAN_UNITS = 8  # units of the evaluation half that means are taken over


@dataclass(frozen=True)
class NeuronAblation:
    """A change of a set of neurons.

    neurons    {layer path: indices}
    mode       zero, mean, scale, clamp or patch; MODES says what each does
    strength   how much of it; 1 = wholly (of `scale`: the factor)
    calls      (first, last) call in which it works, counted from 0, both included; None = all
    branch     cond, uncond or both

    Raises   MethodError for an unknown mode or branch, a set without neurons, a strength that is no number or below 0, or above 1
             where it is a share, and an empty window
    """

    neurons: Mapping[str, Sequence[int]]
    mode: Mode = "zero"
    strength: float = 1.0
    calls: tuple[int, int] | None = None
    branch: ablations.Branch = "cond"

    def __post_init__(self) -> None:
        kept = {path: tuple(sorted({int(one) for one in chosen})) for path, chosen in sorted(self.neurons.items()) if len(chosen)}
        object.__setattr__(self, "neurons", kept)
        for value, possible, what in ((self.mode, get_args(Mode), "mode"), (self.branch, get_args(ablations.Branch), "branch")):
            if value not in possible:
                raise MethodError(f'No {what} is called "{value}".{nearest(value, possible)}')
        if not kept:
            raise MethodError("No neuron is picked, so there is nothing to ablate.")
        most = 1.0 if self.mode in ("zero", "mean", "patch") else 100.0
        if not 0 <= self.strength <= most:
            raise MethodError(f'The strength of "{self.mode}" is between 0 and {most:g}; {self.strength:g} was given.')
        if self.calls is not None and not 0 <= self.calls[0] <= self.calls[1]:
            raise MethodError(f"The window of calls {self.calls} is empty. Give (first, last), counted from 0.")

    @property
    def key(self) -> str:
        """What tells it from others, hex."""
        said = [self.neurons, self.mode, self.strength, self.calls, self.branch]
        return hashlib.sha256(json.dumps(said).encode()).hexdigest()[:24]

    @property
    def neuron_key(self) -> str:
        """What tells its neurons from others, hex."""
        return hashlib.sha256(json.dumps(self.neurons).encode()).hexdigest()[:24]

    @property
    def changes_nothing(self) -> bool:
        """Whether its strength leaves every value as it is."""
        return self.strength == (1 if self.mode == "scale" else 0) and self.mode != "clamp"

    @property
    def n_neurons(self) -> int:
        """How many neurons it changes."""
        return sum(len(chosen) for chosen in self.neurons.values())


@dataclass(frozen=True)
class _Row:
    """One image that is asked for: a prompt, a seed, and vectors before the words (by their digest)."""

    prompt: str
    seed: int
    vectors: str = ""


_Image = tuple[str, _Row, bool]  # variant, row, whether it is ablated
_Wanted = tuple[str, _Row, _Row, bool]  # variant, whose words, the base model's latents of which row, whether it is ablated


def _plain(rows: Sequence[_Row]) -> list[_Row]:
    """The rows without vectors."""
    return [_Row(row.prompt, row.seed) for row in rows]


@dataclass
class _Step:
    """A model on one row's words and the base model's latents of a row, on the cond branch.

    noise   (call, channel, height, width) that it predicts
    sizes   {layer path: (neuron,)} mean |a| over tokens, mean over calls
    """

    noise: torch.Tensor
    sizes: dict[str, torch.Tensor]


@dataclass
class _Base:
    """The base model on one row: its final latents and its UNet inputs (call, channel, height, width)."""

    latents: torch.Tensor
    inputs: torch.Tensor


class _Kept(OrderedDict[Any, Any]):
    """The last results that were asked for, of at most MOST_BYTES."""

    def keep(self, key: Any, value: Any, size: int) -> None:
        self[key] = (value, size)
        total = sum(bytes_ for _, bytes_ in self.values())
        while total > MOST_BYTES and len(self) > 1:
            total -= self.popitem(last=False)[1][1]

    def find(self, key: Any) -> Any:
        """The kept value, or None."""
        if key not in self:
            return None
        self.move_to_end(key)
        return self[key][0]


class _Means:
    """A reducer for `Taps`: the mean of every neuron over rows and tokens, for each call and branch; a source of held values."""

    units = None

    def __init__(self) -> None:
        self.sums: dict[tuple[str, str, int], torch.Tensor] = {}
        self.counts: dict[tuple[str, str, int], int] = {}
        self.factor = 1.0

    def wants(self, call: int) -> bool:
        return True

    def add(self, layer: sites.Layer, activation: torch.Tensor, rows: Rows) -> None:
        for branch in ("cond", "uncond"):
            mine = rows.of_branch(branch)
            if len(mine):
                key = (layer.path, branch, rows.call)
                part = activation[mine.to(activation.device)].double().sum(dim=(0, 1)).cpu()
                self.sums[key] = self.sums[key] + part if key in self.sums else part
                self.counts[key] = self.counts.get(key, 0) + len(mine) * activation.shape[1]

    def at(self, path: str, neurons: Any, call: int, branch: str) -> torch.Tensor:
        """(1, 1, neuron) means."""
        key = (path, branch, call)
        if key not in self.sums:
            raise RecordingMismatch(f'No mean of "{path}" at call {call}, {branch} branch, was recorded.')
        return (self.factor * self.sums[key] / self.counts[key])[torch.as_tensor(neurons, dtype=torch.long)][None, None].float()

    def times(self, factor: float) -> "_Means":
        """The same means times a factor."""
        found = _Means()
        found.sums, found.counts, found.factor = self.sums, self.counts, self.factor * factor
        return found


class _Everywhere(Taps):
    """Taps of one ablation for a model that is called with a timestep of its own in each row, and that nobody announces.

    record    layers whose mean |a| over tokens is kept in `sizes` {layer path: (row, neuron)}
    sources   for each row of the next call the row of the source of held values, -1 = this row is not ablated; None = all are, in order
    """

    def __init__(
        self, unet: torch.nn.Module, gating: ablations.Gating, timesteps: Sequence[float], record: Sequence[sites.Layer] = ()
    ) -> None:
        gated = {layer.path for layer in gating.layers}
        layers = [*gating.layers, *(layer for layer in record if layer.path not in gated)]
        super().__init__(unet, layers, gates=gating.gates, limits=gating.limits, held=gating.held)
        self.timesteps = torch.tensor(timesteps, dtype=torch.float64)
        self.call_of: list[int] = []
        self.recorded = {layer.path for layer in record}
        self.sizes: dict[str, torch.Tensor] = {}
        self.sources: list[int] | None = None

    def _seen(self, module: Any, args: Any, kwargs: Any) -> None:
        given: Any = kwargs.get("timestep", args[1] if len(args) > 1 else None)
        n = len(args[0] if args else kwargs["sample"])
        at = torch.as_tensor(given).detach().flatten().double().cpu().expand(n)
        self.call_of = (at[:, None] - self.timesteps[None]).abs().argmin(dim=1).tolist()
        self.fired = {layer.path: 0 for layer in self.layers}
        self.which = torch.ones(n, dtype=torch.long)
        ablated = [True] * n if self.sources is None else [source >= 0 for source in self.sources]
        allows = [
            one and len(self.limits) > 1 and self.limits[1].allows(call, "cond") for one, call in zip(ablated, self.call_of, strict=True)
        ]
        self.works = torch.tensor(allows, dtype=torch.bool)

    def _pass(self, layer: sites.Layer, activation: torch.Tensor) -> torch.Tensor | None:
        changed = super()._pass(layer, activation)
        if layer.path in self.recorded:
            seen = activation if changed is None else changed
            self.sizes[layer.path] = seen.detach().abs().mean(dim=1, dtype=torch.float64).cpu()
        return changed

    def _gated(self, path: str, activation: torch.Tensor) -> torch.Tensor:
        factors: Any = self.gates[path][1]
        gate = factors.to(activation.device, activation.dtype).expand(len(activation), -1)
        works: Any = self.works
        gate = torch.where(works.to(activation.device)[:, None], gate, torch.ones_like(gate))
        gated = activation * gate[:, None]
        if held := self.held.get(path, {}).get(1):
            values = []
            for row, call in enumerate(self.call_of):
                source = held.source.at(path, held.neurons, call, "cond")
                place = row if self.sources is None else max(0, self.sources[row])
                values.append(source.mean(dim=(0, 1))[None] if held.average else source[place % len(source)])
            n_tokens = max(value.shape[0] for value in values)
            value = torch.stack([one.expand(n_tokens, -1) for one in values]).to(gated)
            columns = held.neurons.to(gated.device)
            added = torch.zeros_like(gated).index_add(2, columns, ((1 - gate[:, columns])[:, None] * value).expand(-1, gated.shape[1], -1))
            gated = gated + added
        return gated


class Lab:
    """The base model and the variants of a run, in this process.

    run        a Run, a run folder, or the name of a run under runs/
    device     where the model computes
    batch      images sampled side by side
    progress   called with (step, of, note) while an attack searches

    Nothing is written into the run folder. What did not change is not computed again: images, latents and activations of the last
    requests are kept. One thread computes at a time. Needs study.json, manifest.json and the finished variants; results of other stages
    may be missing.

    Raises   RunError when the run has no readable study; ModelError when its base model is gone
    """

    def __init__(
        self,
        run: Run | str | Path,
        device: str = "cpu",
        batch: int = 8,
        progress: Callable[..., object] = lambda step, of, note="": None,
    ) -> None:
        self.run = run if isinstance(run, Run) else open_run(run)
        self._own: dict[str, torch.Tensor] = {}
        self.study = self.run.study
        self.folder = self.study.folder
        self.device, self.batch, self.progress = device, batch, progress
        self.lock = threading.RLock()
        self._kept, self._changes = _Kept(), dict[str, Variant]()
        self._together: dict[tuple[str, ...], SideBySide] = {}
        self._vectors: dict[str, torch.Tensor] = {}
        self._sources: dict[tuple[str, str], _Means] = {}
        self._gathering: dict[tuple[str, str], tuple[_Means, Iterator[None]]] = {}

    # what there is

    @cached_property
    def model(self) -> Model:
        """The base model."""
        from workbench.methods.detectors import opening

        model = load.of_study(self.study.model, self.device, self.folder)
        model.expected_guidance, model.expected_steps = self.study.sampling.guidance, self.study.sampling.steps
        model.detectors = opening(self.folder)
        # the base model's own tensors, to compute with them while a variant is applied
        self._own = {name: parameter.data for name, parameter in model.parameters().items()}
        return model

    @cached_property
    def judge(self) -> "Detector":
        """The detector that decides whether an image shows the concept."""
        from workbench.methods.detectors import opened

        return opened(self.study.detectors.judge, self.folder)

    @property
    def variants(self) -> list[str]:
        """base, then the finished variants of the run."""
        nodes = [node for node in self.run.store.manifest()["nodes"] if node["stage"] == "erase"]
        done = {node["id"] for node in nodes if all(self.run.store.has("erase", key) for key in node["shards"])}
        return [BASE, *(variant.name for variant in self.study.variants if f"erase:{variant.name}" in done)]

    @cached_property
    def sets(self) -> dict[str, PromptSet]:
        """The prompt sets of the study: target, reference and those to retain."""
        return read_sets(self.study)

    @cached_property
    def layers(self) -> list[sites.Layer]:
        """The layers of the UNet whose neurons the run recorded."""
        recorded = [name for name in self.study.record.sites if sites.SITES[name].part == "unet"]
        return sites.layers(self.model.unet, recorded)

    @cached_property
    def n_calls(self) -> int:
        """How often the UNet is called for one image."""
        return n_calls(self.model, self.study.sampling.steps)

    @cached_property
    def calls(self) -> list[int]:
        """The calls at which target and activity are measured."""
        asked = self.study.record.calls
        return list(range(self.n_calls)) if asked is None else sorted(call for call in asked if call < self.n_calls)

    @cached_property
    def table(self) -> pandas.DataFrame:
        """The neuron table of the run."""
        return self.run.neurons

    def neurons(self, role: str = "concept", site: str = "ff") -> dict[str, list[int]]:
        """{layer path: indices} of the neurons of a site with a role in the run: concept, prune, watch, suppressed.

        Raises   RunError for a role that no neuron has
        """
        column = f"in_{role}"
        if column not in self.table:
            roles = [name.removeprefix("in_") for name in map(str, self.table) if name.startswith("in_")]
            raise RunError(f'The run has no neurons with the role "{role}".{nearest(role, roles)}')
        mine = self.table[self.table[column].astype(bool) & (self.table["site"] == site)]
        return {str(layer): sorted(map(int, group["index"])) for layer, group in mine.groupby("layer")}

    def prompts(self, name: str = "target", n: int | None = None) -> PromptSet:
        """The first n rows of the evaluation half of a prompt set (of the retained ones: the first n rows)."""
        rows = self.sets[name]
        if rows.kind == "retained":
            return rows.rows(0, len(rows) if n is None else n)
        return rows.picked(np.array(pairing(self.sets["target"], rows))[self._evaluation()][:n])

    def _evaluation(self) -> np.ndarray:
        return np.flatnonzero(~split_halves(self.sets["target"].units, self.study.choose.seed))

    def reference(self, prompt: str) -> str:
        """The reference prompt that the run pairs with a target prompt; the empty prompt for a prompt that is not in the run."""
        target = self.sets["target"]
        try:
            row = target.prompts.index(prompt)
        except ValueError:
            return ""
        return self.sets["reference"].prompts[pairing(target, self.sets["reference"])[row]]

    def warm(self) -> None:
        """Load the model and the judge, so that the first request does not wait for them."""
        with self.lock:
            self.model, self.judge  # noqa: B018 - they are kept

    def warm_means(self, stop: Callable[[], bool] = lambda: False) -> bool:
        """Compute in small pieces the means that the modes mean and clamp need, until stop(); whether all are there."""
        for name in ("reference", "target"):
            for regime in ("given", "sampled"):
                more = True
                while more:
                    if stop():
                        return False
                    with self.lock:
                        more = self._gather_piece(name, regime)
        return True

    # what can be asked

    def images(
        self,
        prompts: str | Sequence[str],
        seeds: int | Sequence[int],
        variant: str = BASE,
        ablation: NeuronAblation | None = None,
        vectors: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """(row, 3, height, width) images in [0, 1].

        prompts, seeds   one of each per row; a single one stands for all rows
        vectors          (row, k, channel) put before the words, as `attack` returns them
        Raises           RunError for an unknown variant; MethodError for neurons that the model does not have
        """
        with self.lock:
            change = None if ablation is None or ablation.changes_nothing else ablation
            asked = [(variant, row, change is not None) for row in self._rows(prompts, seeds, vectors)]
            images = self._sample(asked, change)
            return torch.stack([images[one] for one in asked])

    def before_and_after(
        self,
        prompts: str | Sequence[str],
        seeds: int | Sequence[int],
        variant: str,
        ablation: NeuronAblation,
        vectors: torch.Tensor | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """What `images` gives without and with an ablation; sampled side by side, which takes less than one after the other."""
        with self.lock:
            rows, change = self._rows(prompts, seeds, vectors), None if ablation.changes_nothing else ablation
            asked = [(variant, row, ablated) for ablated in (False, change is not None) for row in rows]
            images = self._sample(asked, change)
            before, after = (torch.stack([images[one] for one in part]) for part in (asked[: len(rows)], asked[len(rows) :]))
            return before, after

    def prepare(
        self,
        prompts: str | Sequence[str],
        seeds: int | Sequence[int],
        variants: Sequence[str],
        ablation: NeuronAblation,
        vectors: Mapping[str, torch.Tensor] | None = None,
        numbers: bool = True,
    ) -> None:
        """Compute side by side what will be asked for without and with an ablation; takes less than one after the other.

        vectors   {variant: vectors} as of `images`
        numbers   whether `target` and `activity` will be asked for, not `images` alone
        Raises    as they do
        """
        with self.lock:
            change = None if ablation.changes_nothing else ablation
            rows = {name: self._rows(prompts, seeds, (vectors or {}).get(name)) for name in variants}
            plain_rows = self._rows(prompts, seeds, None)
            references = self._references(plain_rows, None)
            also = [*plain_rows, *self._latents(plain_rows, references)] if numbers else []
            for name in variants:
                self._change(name)
            asked = [(name, row, ablated) for name in variants for ablated in (False, change is not None) for row in rows[name]]
            self._sample(asked, change, also)
            if numbers:
                ablated = (False, change is not None)
                self._steps([one for name in variants for one in self._wanted(name, rows[name], references, ablated)], change)

    def found(self, images: torch.Tensor, labels: Sequence[str] | None = None) -> tuple[torch.Tensor, torch.Tensor]:
        """(bool (row,), score (row,)): does the judge find the concept, or one of these labels, in each image?"""
        with self.lock:
            present, score = self.judge.present(images, list(labels or self.study.detectors.labels))
            return present, score

    def target(
        self,
        prompts: str | Sequence[str],
        seeds: int | Sequence[int],
        variant: str = BASE,
        ablation: NeuronAblation | None = None,
        vectors: torch.Tensor | None = None,
        references: Sequence[str] | None = None,
    ) -> np.ndarray:
        """(row,) target T2, mean over `calls`, on the latents of the base model for the same prompt: 1 in the base model.

        references   prompts without the concept; default: `reference` of each prompt
        Raises       as `images`; MethodError where the concept does not change the base model's prediction
        """
        with self.lock:
            rows = self._rows(prompts, seeds, vectors)
            given = self._references(rows, references)
            change = None if ablation is None or ablation.changes_nothing else ablation
            key = ("target", variant, change.key if change else None, tuple(rows), tuple(given))
            values = self._kept.find(key)
            if values is None:
                alone, without = _plain(rows), self._without(rows, given)
                compared = [
                    self._noise([(variant, row, latents, change is not None) for row, latents in zip(rows, alone, strict=True)], change),
                    self._noise([(variant, row, latents, False) for row, latents in zip(without, alone, strict=True)], None),
                    self._noise([(BASE, row, row, False) for row in alone], None),
                    self._noise([(BASE, row, latents, False) for row, latents in zip(without, alone, strict=True)], None),
                ]
                eps, other, concept, none = compared
                along = []
                for place, call in enumerate(self.calls):
                    direction = targets.concept_direction(concept[:, place], none[:, place], call, range(len(rows)))
                    along.append(((eps[:, place] - other[:, place]).to(direction) * direction).flatten(1).sum(dim=1))
                values = torch.stack(along).double().mean(dim=0).cpu().numpy()
                self._kept.keep(key, values, values.nbytes)
            return values.copy()

    def activity(
        self,
        neurons: Mapping[str, Sequence[int]],
        prompts: str | Sequence[str],
        seeds: int | Sequence[int],
        variant: str = BASE,
        ablation: NeuronAblation | None = None,
        vectors: torch.Tensor | None = None,
        references: Sequence[str] | None = None,
    ) -> float:
        """Concept activity A of a neuron set over these rows: 1 = the base model with these prompts, 0 = with their references.

        Neurons are recorded after the ablation, so an ablated neuron counts as what the ablation leaves.
        Raises   as `images`; StatisticsError when the base model's contrast of the set is 0
        """
        with self.lock:
            rows = self._rows(prompts, seeds, vectors)
            given = self._references(rows, references)
            alone, without, latents = _plain(rows), self._without(rows, given), self._latents(rows, given)
            change = None if ablation is None or ablation.changes_nothing else ablation
            total = [
                self._size(neurons, *condition)
                for condition in ((rows, latents, variant, change), (alone, latents, BASE, None), (without, latents, BASE, None))
            ]
            if not total[1] - total[2]:
                raise StatisticsError("The base model's contrast of these neurons is 0 for these prompts, so they have no scale.")
            return (total[0] - total[2]) / (total[1] - total[2])

    def attack(
        self,
        prompts: str | Sequence[str],
        seeds: int | Sequence[int],
        variant: str = BASE,
        ablation: NeuronAblation | None = None,
        iterations: int = 20,
        n_vectors: int = 3,
        seed: int = 0,
    ) -> torch.Tensor:
        """(row, k, channel) vectors of embedding PGD, searched against the variant as it is with the ablation.

        The search reconstructs the base model's images of the prompts and queries no detector. `progress` is called at each step; what
        it raises ends the search.
        """
        from workbench.methods.attacks import Context, embedding_pgd

        with self.lock, ExitStack() as opened:
            rows = self._rows(prompts, seeds, None)
            clean = torch.stack([one.latents for one in self._base(rows)])
            ids = [f"row-{place}" for place in range(len(rows))]
            about = {"id": ids, "unit": ids, "prompt": [row.prompt for row in rows], "seed": [row.seed for row in rows], "expect": None}
            asked = PromptSet("target", "target", pandas.DataFrame(about))
            given = embedding_pgd.Parameters(n_vectors=n_vectors, iterations=iterations, seed=seed, looks=0)
            context = Context(list(self.study.concept.names), variant, clean, progress=self.progress)
            opened.enter_context(applied(self.model, self._change(variant)))
            if ablation is not None and not ablation.changes_nothing:
                timesteps = [float(t) for t in self.model.new_scheduler(self.study.sampling.steps).timesteps]
                with base_again(self.model, self._own):
                    made = self._whole(ablation, rows)
                gating = ablations.gating(self.model.unet, [made])
                opened.enter_context(_Everywhere(self.model.unet, gating, timesteps))
            prefix = embedding_pgd.attack(self.model, asked, given, context).prefix
            assert prefix is not None
            return prefix.detach().cpu()

    def save_mask(self, path: str | Path, neurons: Mapping[str, Sequence[int]]) -> Path:
        """Write a mask that cuts the incoming weights of these neurons of the site ff, for the eraser `mask_from_file`.

        Raises   ModelError for neurons of another site; RunError when the file is there already
        """
        path = Path(path)
        if path.exists():
            raise RunError(f"{path} exists already, and nothing is replaced. Choose another name.")
        with self.lock:
            made = masks.cut_incoming(self.model.unet, {layer: np.asarray(chosen) for layer, chosen in neurons.items()})
            base = self.study.model.base
            about = {"made": "in the ablation lab", "run": self.run.folder.name, "base": base}
            masks.save(path, made, about | {"base_digest": source_digest(base, self.folder)})
        return path

    # how it is computed

    @cached_property
    def _timesteps(self) -> list[float]:
        """The timesteps of `calls`."""
        every = self.model.new_scheduler(self.study.sampling.steps).timesteps
        return [float(every[call]) for call in self.calls]

    def _change(self, variant: str) -> Variant | None:
        if variant == BASE:
            return None
        if variant not in self._changes:
            self._changes[variant] = merged(self.run.store, self.study, variant)[0]
        return self._changes[variant]

    def _rows(self, prompts: str | Sequence[str], seeds: int | Sequence[int], vectors: torch.Tensor | None) -> list[_Row]:
        said = [prompts] if isinstance(prompts, str) else list(prompts)
        noise = [int(seeds)] if isinstance(seeds, int | np.integer) else [int(seed) for seed in seeds]
        n = max(len(said), len(noise))
        said, noise = said * n if len(said) == 1 else said, noise * n if len(noise) == 1 else noise
        if not n or len(said) != n or len(noise) != n or (vectors is not None and len(vectors) != n):
            raise MethodError(f"{len(said)} prompts, {len(noise)} seeds and vectors do not pair; give one of each per image.")
        if vectors is None:
            return [_Row(*one) for one in zip(said, noise, strict=True)]
        rows = []
        for prompt, seed, part in zip(said, noise, vectors.detach().cpu().float(), strict=True):
            name = hashlib.sha256(part.contiguous().numpy().tobytes()).hexdigest()[:24]
            self._vectors[name] = part
            rows.append(_Row(prompt, seed, name))
        return rows

    def _references(self, rows: Sequence[_Row], given: Sequence[str] | None) -> list[str]:
        return [self.reference(row.prompt) for row in rows] if given is None else list(given)

    def _without(self, rows: Sequence[_Row], references: Sequence[str]) -> list[_Row]:
        """The rows with their references as prompts."""
        return [_Row(one, row.seed) for one, row in zip(references, rows, strict=True)]

    def _latents(self, rows: Sequence[_Row], references: Sequence[str]) -> list[_Row]:
        """The rows on whose latents activity is measured: where the run recorded them, the references."""
        return self._without(rows, references) if "reference" in self.study.record.trajectories else _plain(rows)

    def _states(self, rows: Sequence[_Row]) -> torch.Tensor:
        """Text states by the model as it is now; each text is encoded once."""
        found: dict[_Row, torch.Tensor] = {}
        texts = [_Row(row.prompt, 0, row.vectors) for row in rows]
        for with_vectors in (False, True):
            part = [one for one in dict.fromkeys(texts) if bool(one.vectors) == with_vectors]
            if part:
                vectors = torch.stack([self._vectors[one.vectors] for one in part]) if with_vectors else None
                with torch.no_grad():
                    found |= zip(part, text.encode(self.model, [one.prompt for one in part], vectors), strict=True)
        return torch.stack([found[one] for one in texts])

    def _is_unconditional(self, row: _Row) -> bool:
        """Whether its text is that of the uncond branch."""
        return not (row.prompt or row.vectors or self.model.zero_uncond)

    def _batches(self, asked: Sequence[Any], size: int) -> Iterator[list[Any]]:
        """What is asked for, tuples whose first is a variant, in batches: plain variants side by side, each other one alone."""
        groups: dict[str, list[Any]] = {}
        for one in asked:
            groups.setdefault("" if plain(self._change(one[0])) else one[0], []).append(one)
        for group in groups.values():
            group.sort(key=lambda one: one[0])  # rows of one variant are computed in one piece
            n_batches = -(-len(group) // size)
            for part in np.array_split(np.arange(len(group)), n_batches):
                yield [group[place] for place in part]

    def _sample(self, asked: Sequence[_Image], ablation: NeuronAblation | None, also: Sequence[_Row] = ()) -> dict[_Image, torch.Tensor]:
        """Images, sampled where they are not kept.

        also   rows of the base model that will be needed: sampled beside them, without an image
        """
        key = ablation.key if ablation is not None else None
        names = {one: ("image", one[0], key if one[2] else None, one[1]) for one in dict.fromkeys(asked)}
        images = {one: self._kept.find(name) for one, name in names.items()}
        latents: dict[_Image, torch.Tensor] = {}
        wanted = [one for one, image in images.items() if image is None]
        for one in wanted:
            if one[0] == BASE and not one[2] and (base := self._kept.find(("base", one[1]))) is not None:
                latents[one] = base.latents
        missing = [one for one in wanted if one not in latents]
        if missing:  # else what is in `also` is sampled where it is needed, and no further than it is
            more: list[_Image] = [(BASE, row, False) for row in dict.fromkeys(also)]
            kept = {one for one in more if any((kind, one[1]) in self._kept for kind in ("base", "inputs"))}
            missing += [one for one in more if one not in kept and one not in missing]
        for part in self._batches(missing, self.batch):
            ablated = list(dict.fromkeys(row for _, row, change in part if change))
            made = self._whole(ablation, ablated) if ablation is not None and ablated else None
            for one in part:  # what is held may have needed the base model's images
                if one[0] == BASE and not one[2] and (base := self._kept.find(("base", one[1]))) is not None:
                    latents[one] = base.latents
            part = [one for one in part if one not in latents]
            if not part:
                continue
            rows, variants = [row for _, row, _ in part], [variant for variant, _, _ in part]
            sources = [ablated.index(row) if change else -1 for _, row, change in part]
            of_base = [place for place, (variant, _, change) in enumerate(part) if variant == BASE and not change]
            ends = [one not in wanted for one in part]  # no image is wanted
            found, trajectory = self._denoised(rows, variants, made, keep=self.calls if of_base else (), sources=sources, ends=ends)
            latents |= zip(part, found, strict=True)
            for place in of_base:
                if ends[place]:
                    self._keep_inputs(rows[place], trajectory.inputs[place])
                else:
                    self._keep_base(rows[place], found[place], trajectory.inputs[place])
        for start in range(0, len(wanted), self.batch):
            shown = wanted[start : start + self.batch]
            for one, image in zip(shown, self.model.decode(torch.stack([latents[one] for one in shown])), strict=True):
                images[one] = image
                self._kept.keep(names[one], image, image.numel() * 4)
        return images

    def _keep_base(self, row: _Row, latents: torch.Tensor, inputs: torch.Tensor) -> _Base:
        """Keep the base model on a row."""
        one = _Base(latents.cpu(), inputs.cpu())
        self._kept.keep(("base", row), one, 4 * (one.latents.numel() + one.inputs.numel()))
        return one

    def _keep_inputs(self, row: _Row, inputs: torch.Tensor) -> torch.Tensor:
        """Keep the base model's UNet inputs on a row."""
        inputs = inputs.cpu()
        self._kept.keep(("inputs", row), inputs, 4 * inputs.numel())
        return inputs

    def _base(self, rows: Sequence[_Row]) -> list[_Base]:
        """The base model on these rows."""
        found = {row: self._kept.find(("base", row)) for row in rows}
        missing = [row for row, one in found.items() if one is None]
        for start in range(0, len(missing), self.batch):
            part = missing[start : start + self.batch]
            with base_again(self.model, self._own):
                latents, kept = self._denoised(part, BASE, None, keep=self.calls)
            found |= {row: self._keep_base(row, *one) for row, *one in zip(part, latents, kept.inputs, strict=True)}
        return [found[row] for row in rows]

    def _denoised(
        self,
        rows: Sequence[_Row],
        variants: str | Sequence[str],
        ablation: ablations.Ablation | None,
        reducer: Any = None,
        layers: Sequence[sites.Layer] = (),
        keep: Sequence[int] = (),
        last: int | None = None,
        sources: Sequence[int] | None = None,
        ends: Sequence[bool] = (),
    ) -> tuple[torch.Tensor, Trajectory]:
        """Sample rows: latents and the kept inputs. With a reducer, it records these layers.

        variants  one for all rows, or one for each
        last      the call before which it stops; None: to the end
        sources   for each row the row of the ablation's source, -1 = it is not ablated; None: all are, in order
        ends      for each row of plain variants whether it ends with the last of `calls`; (): none does
        """
        sampling = self.study.sampling
        settings: dict[str, Any] = {"n_steps": sampling.steps, "guidance": sampling.guidance, "keep": keep, "last": last}
        seeds = [row.seed for row in rows]
        with ExitStack() as opened:
            side = opened.enter_context(self._computing([variants] if isinstance(variants, str) else variants))
            owner = torch.tensor([0 if side is None else self._order(variants).index(variant) for variant in variants])

            def tell(mine: torch.Tensor) -> None:
                if side is not None:
                    side.owner = owner[mine]

            if any(ends):
                alone = [end and self._is_unconditional(row) for end, row in zip(ends, rows, strict=True)]
                settings["short"] = Short(ends, alone, self.calls[-1], tell)
            else:
                tell(torch.arange(len(rows)))
            states, empty = self._states(rows), text.unconditional(self.model)
            if ablation is not None:
                place = torch.arange(len(rows)) if sources is None else torch.tensor(sources)
                ablations.check([ablation], [str(one) for one in range(int(place.max()) + 1)], sampling.guidance)
                made = ablations.gating(self.model.unet, [ablation])
                taps = Taps(self.model.unet, made.layers, gates=made.gates, limits=made.limits, held=made.held)
                settings |= {"taps": opened.enter_context(taps), "gate": (place >= 0).long(), "prompt": place.clamp(min=0)}
            elif reducer is not None:
                settings["taps"] = opened.enter_context(Taps(self.model.unet, layers, reducer))
            return denoise(self.model, states, empty, seeds, **settings)

    @contextmanager
    def _computing(self, variants: Sequence[str]) -> Iterator[SideBySide | None]:
        """While open, the model computes as a variant; with several, each row as its own: then `owner` says which of `_order` it has."""
        names = self._order(variants)
        if len(names) == 1:
            with applied(self.model, self._change(names[0])):
                yield None
            return
        if names not in self._together:
            self._together = {names: SideBySide(self.model, [self._change(name) for name in names])}  # one, for it holds weights
        with self._together[names] as side:
            yield side

    def _order(self, variants: Sequence[str]) -> tuple[str, ...]:
        return tuple(sorted(set(variants)))

    def _window(self, ablation: NeuronAblation) -> frozenset[int] | None:
        if ablation.calls is None:
            return None
        first, last = ablation.calls
        window = frozenset(range(first, min(last, self.n_calls - 1) + 1))
        if not window:
            raise MethodError(f"The window of calls {ablation.calls} lies behind the last call, {self.n_calls - 1}.")
        return window

    def _ablation(self, given: NeuronAblation, source: Callable[[str], Any]) -> ablations.Ablation:
        """What `analysis.ablation` applies; source(what) gives the values of the modes that need some."""
        kind, factor, values = {
            "zero": ("scaled", 1 - given.strength, None),
            "scale": ("scaled", given.strength, None),
            "mean": ("mean", 1 - given.strength, "reference"),
            "clamp": ("mean", 0.0, "target"),
            "patch": ("held", 1 - given.strength, "base"),
        }[given.mode]
        held: Any = source(values) if values else None
        held = held.times(given.strength) if given.mode == "clamp" else held
        neurons = {path: np.asarray(chosen) for path, chosen in given.neurons.items()}
        return ablations.Ablation(
            neurons,
            kind=kind,  # type: ignore[arg-type]  # one of its kinds
            factor=factor,
            source=held,
            calls=self._window(given),
            branch=given.branch,
            name=given.mode,
        )

    def _whole(self, given: NeuronAblation, rows: Sequence[_Row]) -> ablations.Ablation:
        """The ablation for a whole sampling run of these rows."""

        def source(what: str) -> Any:
            if what != "base":
                return self._means(what, "sampled")
            key = ("columns", given.neuron_key, tuple(rows))
            columns = self._kept.find(key)
            if columns is None:
                branches = ("cond", "uncond") if self.study.sampling.guidance != 1 else ("cond",)
                columns = Columns(given.neurons, len(rows), range(self.n_calls), branches)
                layers = ablations.layers_of(self.model.unet, given.neurons.keys())
                with base_again(self.model, self._own):
                    latents, trajectory = self._denoised(rows, BASE, None, columns, layers, keep=self.calls)
                for row, *one in zip(rows, latents, trajectory.inputs, strict=True):
                    self._keep_base(row, *one)
                self._kept.keep(key, columns, columns.bytes)
            return columns

        return self._ablation(given, source)

    def _one_step_ablation(self, given: NeuronAblation, rows: Sequence[_Row], latents: Sequence[_Row]) -> ablations.Ablation:
        """The ablation for single calls on the base model's latents of some rows."""
        if given.branch == "uncond":
            raise MethodError("Target and activity are measured on the cond branch, where an ablation of the uncond branch does nothing.")

        def source(what: str) -> Any:
            if what != "base":
                return self._means(what, "given")
            key = ("columns at calls", given.neuron_key, tuple(rows), tuple(latents))
            columns = self._kept.find(key)
            if columns is None:
                columns = Columns(given.neurons, len(rows), self.calls)
                with base_again(self.model, self._own):
                    self._evaluated(self._states(rows), self._trajectory(latents), columns, list(given.neurons))
                self._kept.keep(key, columns, columns.bytes)
            return columns

        return self._ablation(given, source)

    def _means(self, name: str, regime: str) -> _Means:
        """Means of the base model over the first MEAN_UNITS units of the evaluation half, sampled or on the given latents."""
        while self._gather_piece(name, regime):
            pass
        return self._sources[name, regime]

    def _gather_piece(self, name: str, regime: str) -> bool:
        """Compute one more piece of these means; whether there is another."""
        key = name, regime
        if key in self._sources:
            return False
        if key not in self._gathering:
            found = _Means()
            self._gathering[key] = found, self._gather(name, regime, found)
        found, pieces = self._gathering[key]
        try:
            next(pieces)
            return True
        except StopIteration:
            self._sources[key] = found
            del self._gathering[key]
            return False
        except BaseException:
            del self._gathering[key]
            raise

    def _gather(self, name: str, regime: str, found: _Means) -> Iterator[None]:
        rows = self.sets[name].picked(np.array(pairing(self.sets["target"], self.sets[name]))[self._mean_rows()])
        target, layers, size = self.sets["target"].picked(self._mean_rows()), self.layers, max(1, self.batch // 2)
        asked = [_Row(*one) for one in zip(rows.prompts, rows.seeds, strict=True)]
        given = [_Row(*one) for one in zip(target.prompts, target.seeds, strict=True)]
        for start in range(0, len(asked), size):
            part = slice(start, start + size)
            if regime == "given":
                latents = self._trajectory(given[part])
            with base_again(self.model, self._own):
                if regime == "given":
                    self._evaluated(self._states(asked[part]), latents, found, [layer.path for layer in layers])
                else:
                    self._denoised(asked[part], BASE, None, found, layers)
            yield

    def _mean_rows(self) -> list[int]:
        """Rows of the target set in the first MEAN_UNITS units of the evaluation half."""
        units, mine = self.sets["target"].units, self._evaluation()
        wanted = list(dict.fromkeys(units[row] for row in mine))[:MEAN_UNITS]
        return [int(row) for row in mine if units[row] in wanted]

    def _trajectory(self, rows: Sequence[_Row]) -> Trajectory:
        """The base model's UNet inputs on the way to the images of these rows."""
        found = {row: base.inputs if (base := self._kept.find(("base", row))) else self._kept.find(("inputs", row)) for row in rows}
        missing = [row for row, one in found.items() if one is None]
        for start in range(0, len(missing), self.batch):
            part = missing[start : start + self.batch]
            with base_again(self.model, self._own):
                _, kept = self._denoised(part, BASE, None, keep=self.calls, last=self.calls[-1])  # no image is wanted
            for row, inputs in zip(part, kept.inputs, strict=True):
                found[row] = self._keep_inputs(row, inputs)
        return Trajectory(torch.stack([found[row] for row in rows]), self.calls, self._timesteps)

    def _wanted(self, variant: str, rows: Sequence[_Row], references: Sequence[str], ablated: Sequence[bool]) -> list[_Wanted]:
        """What target and activity of a variant compare."""
        alone, without, latents = _plain(rows), self._without(rows, references), self._latents(rows, references)
        mine = [(variant, row, one, change) for change in ablated for of in (alone, latents) for row, one in zip(rows, of, strict=True)]
        mine += [(variant, row, one, False) for row, one in zip(without, alone, strict=True)]
        base = [
            (BASE, row, one, False) for words in (alone, without) for of in (alone, latents) for row, one in zip(words, of, strict=True)
        ]
        return [*mine, *base]

    def _steps(self, wanted: Sequence[_Wanted], ablation: NeuronAblation | None) -> list[_Step]:
        """Variants on words and latents, computed where they are not kept, rows and calls side by side in a batch."""
        key = ablation.key if ablation is not None else None
        names = {one: ("step", *one[:3], key if one[3] else None) for one in dict.fromkeys(wanted)}
        found: dict[_Wanted, _Step] = {one: self._kept.find(name) for one, name in names.items()}
        missing = [one for one, step in found.items() if step is None]
        for part in self._batches(missing, len(missing) or 1):
            for one, step in zip(part, self._computed(part, ablation), strict=True):
                found[one] = step
                self._kept.keep(names[one], step, 4 * step.noise.numel() + 8 * sum(values.numel() for values in step.sizes.values()))
        return [found[one] for one in wanted]

    def _computed(self, wanted: Sequence[_Wanted], ablation: NeuronAblation | None) -> list[_Step]:
        latents = self._trajectory([one for _, _, one, _ in wanted])
        ablated = list(dict.fromkeys((row, one) for _, row, one, change in wanted if change))
        sources = [ablated.index((row, one)) if change else -1 for _, row, one, change in wanted]
        gating = ablations.Gating([])
        if ablation is not None and ablated:
            made = self._one_step_ablation(ablation, [row for row, _ in ablated], [one for _, one in ablated])
            gating = ablations.gating(self.model.unet, [made])
        every = [float(one) for one in self.model.new_scheduler(self.study.sampling.steps).timesteps]
        pairs = [(row, call) for row in range(len(wanted)) for call in range(len(latents.calls))]
        variants = [variant for variant, _, _, _ in wanted]
        owner = torch.tensor([self._order(variants).index(variant) for variant in variants])
        noise, sizes = [], dict[str, list[torch.Tensor]]()
        with self._computing(variants) as side, _Everywhere(self.model.unet, gating, every, self.layers) as taps, torch.no_grad():
            states = self._states([row for _, row, _, _ in wanted])
            for part in np.array_split(np.array(pairs), -(-len(pairs) // (2 * self.batch))):
                rows, calls = torch.from_numpy(part).T
                taps.sources = [sources[row] for row in rows]
                if side is not None:
                    side.owner = owner[rows]
                inputs = latents.inputs[rows, calls].to(self.model.device, self.model.dtype)
                at = torch.tensor([latents.timesteps[call] for call in calls], device=self.model.device)
                noise.append(self.model.predict(inputs, at, states[rows.to(states.device)].to(inputs)).cpu())
                for path, values in taps.sizes.items():
                    sizes.setdefault(path, []).append(values)
        shape = len(wanted), len(latents.calls)
        predicted = torch.cat(noise).unflatten(0, shape)
        means = {path: torch.cat(parts).unflatten(0, shape).mean(dim=1) for path, parts in sizes.items()}
        return [_Step(predicted[row], {path: values[row] for path, values in means.items()}) for row in range(len(wanted))]

    def _noise(self, wanted: Sequence[_Wanted], ablation: NeuronAblation | None) -> torch.Tensor:
        """(row, call, channel, height, width) predicted noise."""
        return torch.stack([step.noise for step in self._steps(wanted, ablation)])

    def _evaluated(self, states: torch.Tensor, latents: Trajectory, reducer: Any, paths: Sequence[str]) -> None:
        """Run the cond branch once per row and call on given latents, for a reducer; the model computes as it is now."""
        with Taps(self.model.unet, ablations.layers_of(self.model.unet, set(paths)), reducer) as taps:
            evaluate(self.model, states, [latents], taps)

    def _size(
        self,
        neurons: Mapping[str, Sequence[int]],
        rows: Sequence[_Row],
        latents: Sequence[_Row],
        variant: str,
        ablation: NeuronAblation | None,
    ) -> float:
        """Sum of mean |a| over neurons, mean over rows and calls, on the base model's latents of other rows."""
        steps = self._steps([(variant, row, one, ablation is not None) for row, one in zip(rows, latents, strict=True)], ablation)
        total = 0.0
        for path, chosen in neurons.items():
            if path not in steps[0].sizes:
                raise RunError(f'The layer "{path}" is not recorded in this run.{nearest(path, steps[0].sizes)}')
            picked = torch.as_tensor(np.asarray(chosen), dtype=torch.long)
            total += float(torch.stack([step.sizes[path][picked].sum() for step in steps]).mean())
        return total


@contextmanager
def stopping(lab: Lab, stop: Callable[[], bool], tell: Callable[..., object] = lambda step, of, note="": None) -> Iterator[None]:
    """While open, an attack of the lab tells its progress and ends with `Stopped` as soon as stop() is true."""
    before = lab.progress

    def progress(step: float, of: float, note: str = "") -> None:
        tell(step, of, note)
        if stop():
            raise Stopped("The attack was stopped.")

    lab.progress = progress
    try:
        yield
    finally:
        lab.progress = before


class Stopped(MethodError):
    """An attack of the lab was stopped by its user."""
