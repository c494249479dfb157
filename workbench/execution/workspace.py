"""What stages share: the base model and its variants, prompt sets, detectors, and the results of other nodes by condition.

A stage reads results of other nodes through the workspace, computes, and writes its own result into a folder it is given. It gets no study:
what it needs from the study is in the parameters of its node, and so in its key.
"""

import copy
import dataclasses
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import pandas
import torch

from workbench import registry
from workbench.diffusion.denoise import Trajectory
from workbench.errors import PlanError, RunError
from workbench.execution import stages
from workbench.execution.condition import Condition, erasing
from workbench.execution.method_code import code_of
from workbench.execution.plan import Node, Plan, Shard
from workbench.execution.run_folder import Store
from workbench.execution.variant_files import read_change
from workbench.models import load as models
from workbench.models import text
from workbench.models.load import Model
from workbench.models.variants import Variant, base_again
from workbench.neurons import sets as neuron_sets
from workbench.neurons import sites
from workbench.neurons.sites import Layer
from workbench.statistics import split_halves, unit_means
from workbench.storage import read_arrays, read_json, read_table
from workbench.study.prompts import PromptSet, pairing
from workbench.study.study import BASE, Study
from workbench.study.variants import VariantTable

if TYPE_CHECKING:
    from workbench.methods.detectors import Detector
    from workbench.methods.detectors.clip_zero_shot import Clip

Progress = Callable[..., object]  # (step, of, note="")
Read = TypeVar("Read")
Array = TypeVar("Array", np.ndarray, torch.Tensor)


class Workspace:
    """Everything a stage needs: plan, store, and the base model, loaded once.

    progress   called with (step, of, note) inside long nodes
    """

    def __init__(
        self,
        study: Study,
        plan: Plan,
        store: Store,
        device: str = "cpu",
        model: Model | None = None,
        progress: Progress = lambda step, of, note="": None,
    ) -> None:
        self._study, self.plan, self.store, self.device = study, plan, store, device
        self.progress = progress
        self._variants: dict[str, Variant] = {}
        self._sets: dict[str, PromptSet] = {}
        self._detectors: dict[str | tuple[str, str], Detector] = {}
        self._computing: str | None = None
        self._most_rows: int | None = None
        if model is not None:
            self.model = self._told(model)

    def run(self, node: Node, shard: Shard, folder: Path) -> None:
        """Compute one shard of a node into `folder`."""
        stage = stages.stage(node.stage)
        self._computing = None if stage.reads_study else node.stage
        try:
            stage.run(self, node, shard, folder)
        finally:
            self._computing = None

    def in_pieces(self, n: int, compute: Callable[[int, int], Read]) -> list[Read]:
        """[compute(start, stop)] over n rows, as many at once as fit into memory.

        When memory runs out, everything is computed again with half as many rows at once, which is told and kept for what comes after.
        Numbers then differ from those of whole batches as much as between batch sizes: by rounding.

        Raises   RunError when one row does not fit
        """
        while True:
            size = min(n, self._most_rows or n)
            try:
                return [compute(start, min(start + size, n)) for start in range(0, n, size)]
            except torch.OutOfMemoryError as error:
                if size == 1:
                    raise RunError(
                        f"One row at a time does not fit into the memory of {self.model.device}. Take a narrower number format "
                        "(model.dtype), fewer workers on this device, or a device with more memory."
                    ) from error
                self._most_rows = max(1, size // 2)
            if self.model.device.type == "cuda":  # outside of the handler, which still holds what did not fit
                torch.cuda.empty_cache()
            self.store.warn(f"Memory ran out with {size} rows at once; from now on {self._most_rows} are computed at once.")

    @property
    def study(self) -> Study:
        """The study, for code outside the stages and for stages with READS_STUDY.

        Raises   PlanError while any other stage computes: its result would depend on something that is not in its key
        """
        if self._computing:
            raise PlanError(
                f"The stage {self._computing} reads the study while it computes. Give it what it needs in the parameters of its node, "
                "which are part of its key."
            )
        return self._study

    @property
    def base(self) -> str:
        """The name of the base model, as the study gives it."""
        return self._study.model.base

    @property
    def folder(self) -> Path:
        """The folder of the study, where files are looked for first."""
        return self._study.folder

    @property
    def batch(self) -> int:
        """How many prompts are computed at once."""
        return self._study.sampling.batch

    @property
    def labels(self) -> list[str]:
        """The labels of the concept, for the detectors."""
        return self._study.detectors.labels

    @property
    def sites(self) -> list[str]:
        """Names of the recorded sites."""
        return self._study.record.sites

    @property
    def trajectories(self) -> Sequence[str]:
        """Names of the base trajectories of the shared regime."""
        return self._study.record.trajectories

    @property
    def headline_trajectory(self) -> str:
        """The trajectory of the headline numbers."""
        return "reference" if "reference" in self.trajectories else self.trajectories[0]

    def part(self, variant: str) -> VariantTable:
        """The table of a variant in the study."""
        return self._study.variant(variant)

    @cached_property
    def model(self) -> Model:
        """The base model."""
        return self._told(models.of_study(self._study.model, self.device, self.folder))

    def _told(self, model: Model) -> Model:
        """The model, which now knows how the study samples and who opens detectors."""
        model.expected_guidance, model.expected_steps = self._study.sampling.guidance, self._study.sampling.steps
        model.detectors = self._opening
        return model

    @cached_property
    def empty(self) -> torch.Tensor:
        """Text state of the uncond branch in the base model."""
        return text.unconditional(self.model)

    @cached_property
    def clip(self) -> "Clip":
        """The CLIP model that the study names for scores.

        Raises   PlanError where it names none
        """
        from workbench.methods.detectors import placed_folder
        from workbench.methods.detectors.clip_zero_shot import Clip

        if self._study.quality is None or self._study.quality.clip is None:
            raise PlanError("The study names no CLIP model. Set quality.clip.")
        return Clip(placed_folder(self._study.quality.clip, self.folder, "clip"))

    @cached_property
    def other_format(self) -> Model:
        """The base model in another number format: bfloat16, or float32 when the study itself takes less than that."""
        dtype = torch.bfloat16 if self.model.dtype == torch.float32 else torch.float32
        parts = {}
        for part, module in self.model.modules.items():
            copied = {id(one): torch.nn.Parameter(one.to(dtype), requires_grad=False) for one in module.parameters()}
            parts[part] = copy.deepcopy(module, copied).to(dtype)  # copies what is not in `copied`: buffers
        return dataclasses.replace(self.model, **parts)

    @cached_property
    def layers(self) -> list[Layer]:
        """Recorded layers."""
        return sites.layers(self.model.unet, self.sites, self.model.text_encoder)

    @cached_property
    def neurons(self) -> pandas.DataFrame:
        """Index table of the recorded neurons."""
        return neuron_sets.index_table(self.layers)

    def variant(self, name: str | None) -> Variant | None:
        """The merged change of a variant over the base; None for the base itself."""
        if name is None or name == BASE:
            return None
        if name not in self._variants:
            part = self.part(name)
            own = read_change(part, self.result(erasing(name)))
            parent = self.variant(part.parent)
            self._variants[name] = own.over(parent) if parent else own
        return self._variants[name]

    def prompt_set(self, name: str) -> PromptSet:
        """A prompt set by name, from its file or from the attack that made it."""
        planned = self.plan.sets[name]
        if planned.table is not None:
            return planned.table
        if name not in self._sets:
            assert planned.node is not None, "a prompt set comes from a file or from an attack"
            folder = self.result(planned.node)
            which = "control" if planned.control else "adversarial"
            arrays = folder / f"{which}.safetensors"
            self._sets[name] = PromptSet(
                name,
                planned.kind,
                read_table(folder / f"{which}.parquet"),
                read_arrays(arrays)["prefix"] if arrays.exists() else None,
                planned.attack,
                planned.against,
                planned.control,
            )
        return self._sets[name]

    def result(self, node_id: str) -> Path:
        """The folder with the result of a node that has one shard."""
        node = self.plan.node(node_id)
        return self.store.result(node.stage, node.shards[0].key)

    def results(self, stage: str) -> list[Path]:
        """The folders with the results of a stage's nodes that have one shard each; none where the study does not ask for it."""
        return [self.store.result(stage, node.shards[0].key) for node in self.plan.of_stage(stage)]

    def there(self, node: Node) -> bool:
        """Whether all shards of a node are computed."""
        return all(self.store.has(node.stage, shard.key) for shard in node.shards)

    def gather(self, stage: str, variant: str, prompt_set: str, reader: Callable[[Path], Read]) -> list[Read]:
        """reader(folder) of every shard of a node, in order."""
        node = self.plan.node(Condition(variant, prompt_set).node(stage))
        return [reader(self.store.result(stage, shard.key)) for shard in node.shards]

    def detections(self, variant: str, prompt_set: str) -> pandas.DataFrame:
        """Data frame of the detectors' findings, one row per prompt."""
        parts = self.gather("detect", variant, prompt_set, lambda f: read_table(f / "detections.parquet"))
        return pandas.concat(parts, ignore_index=True)

    def images(self, variant: str, prompt_set: str) -> torch.Tensor:
        """(prompt, 3, height, width) uint8."""
        return torch.cat(self.gather("generate", variant, prompt_set, lambda f: read_arrays(f / "images.safetensors")["images"]))

    def source(self, node: Node, shard: Shard) -> torch.Tensor:
        """(prompt, 3, height, width) in [0, 1]: the images that a node reads, made by the node's first input."""
        source = self.plan.node(node.inputs[0])
        at = [s.start for s in source.shards].index(shard.start)
        return read_arrays(self.store.file("generate", source.shards[at].key, "images.safetensors"))["images"].float() / 255

    def mean_abs(self, variant: str, prompt_set: str, trajectory: str, quantity: str = "mean_abs") -> np.ndarray:
        """(prompt, call, neuron) float32 mean |a| in the shared regime, layers side by side; or a norm, NaN where none is kept.

        Values of the text encoder are repeated for every call.
        """
        files = {"unet": f"{trajectory}.safetensors", "text_encoder": "text.safetensors"}
        parts = dict.fromkeys(layer.site.part for layer in self.layers)

        def recorded(part: str) -> list[dict[str, torch.Tensor]]:
            return self.gather("record", variant, prompt_set, lambda folder: read_arrays(folder / files[part]))

        shards = {part: recorded(part) for part in parts}

        def of(layer: Layer) -> torch.Tensor:
            if quantity != "mean_abs" and not layer.site.weighed:
                return torch.full((1, 1, layer.n_neurons), torch.nan)
            return torch.cat([shard[f"{layer.path}|{quantity}"] for shard in shards[layer.site.part]])

        shape = (len(self.prompt_set(prompt_set)), len(self.plan.calls), -1)
        return torch.cat([of(layer).float().expand(shape) for layer in self.layers], dim=-1).numpy()

    def trajectory(self, name: str, rows: PromptSet) -> Trajectory:
        """The recorded UNet inputs of the base model on a trajectory, one for each row of a set, in the order of these rows."""
        inputs = torch.cat(self.gather("generate", BASE, name, lambda f: read_arrays(f / "latents.safetensors")["inputs"]))
        about = self.gather("generate", BASE, name, lambda f: read_json(f / "calls.json"))[0]
        return Trajectory(inputs[pairing(rows, self.prompt_set(name))], about["calls"], about["timesteps"])

    def given_detector(self, role: str) -> dict[str, Any]:
        """A detector as the study gives it: method and parameters."""
        return dict(getattr(self._study.detectors, role))

    @cached_property
    def _opening(self) -> Callable[[dict[str, Any]], "Detector"]:
        from workbench.methods.detectors import opening

        return opening(self.folder)

    def detector(self, role: str, remembering: bool = False) -> "Detector":
        """The attack-visible detector (steer) or the judge, read once.

        remembering   for judging only: an image judged before, in whichever condition, is looked up in the run folder;
                      detectors that cost next to nothing beside making the image declare REMEMBERED = False and leave no files.
        """
        if role not in self._detectors:
            from workbench.methods.detectors import opened

            self._detectors[role] = opened(getattr(self._study.detectors, role), self.folder)
        if not remembering or not registry.method("detectors", getattr(self._study.detectors, role)["method"]).remembered:
            return self._detectors[role]
        if (role, "remembering") not in self._detectors:
            from workbench.methods.detectors import Cached

            code = code_of("detectors", getattr(self._study.detectors, role)["method"])
            self._detectors[role, "remembering"] = Cached(self._detectors[role], self.store.folder / "answers", code)
        return self._detectors[role, "remembering"]

    def encode(self, rows: PromptSet) -> torch.Tensor:
        """(prompt, token, channel) text states of prompts, by the model as it is now."""
        with torch.no_grad():
            return text.encode(self.model, rows.prompts, rows.prefix)

    def resuming(self, node: Node, shard: Shard) -> dict[str, Any]:
        """For a long search or training: how to return to the base model for a while, and how to save and load its state."""
        own = {name: parameter.data for name, parameter in self.model.parameters().items()}
        return {
            "base": lambda: base_again(self.model, own),
            "kept": lambda name: self.store.kept_search(node.stage, shard.key, name),
            "keep": lambda name, state: self.store.keep_search(node.stage, shard.key, name, state),
        }

    @property
    def units(self) -> list[str]:
        """The units of the target set, without repeats."""
        return list(dict.fromkeys(self.prompt_set("target").units))

    def units_of(self, prompt_set: str) -> list[str]:
        """(row,) the units of the rows of a set; the rows of an attack have the units of the target rows that they pair with."""
        rows = self.prompt_set(prompt_set)
        if rows.attack is None:
            return rows.units
        target = self.prompt_set("target")
        return [target.units[place] for place in pairing(rows, target)]

    def half_a(self) -> np.ndarray:
        """Boolean (prompt,) of the target set: the selection half."""
        return split_halves(self.prompt_set("target").units, self._study.choose.seed)

    def units_in_half_a(self) -> np.ndarray:
        """The selection half, boolean (unit,) of `units`."""
        return split_halves(self.units, self._study.choose.seed)

    def in_units(self, prompt_set: str, values: Array) -> Array:
        """(prompt, ...): rows of `values` in the order of the target set's rows they pair with."""
        return values[pairing(self.prompt_set("target"), self.prompt_set(prompt_set))]

    def unit_means(self, prompt_set: str, values: np.ndarray) -> np.ndarray:
        """(unit, ...): the mean of `values` over the rows of each of `units`."""
        return unit_means(self.prompt_set("target").units, self.in_units(prompt_set, values))
