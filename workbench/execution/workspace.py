"""The one workspace that wires methods together: what each stage does with its inputs, one function per stage.

A stage reads results of other nodes through the store, computes, and writes its own result into a folder it is given.
"""

import copy
import dataclasses
from contextlib import nullcontext
from functools import cached_property, partial

import numpy as np
import pandas
import torch

from workbench import registry
from workbench.diffusion.denoise import Trajectory, denoise, evaluate
from workbench.errors import MethodError, ModelError
from workbench.execution.method_code import code_of
from workbench.execution.variant_files import read_change, write_change
from workbench.methods.attacks import Context, Look
from workbench.models import load as models
from workbench.models import text
from workbench.models.variants import applied, exchanged
from workbench.neurons import sets as neuron_sets
from workbench.neurons import sites
from workbench.neurons.reduce import Parts, Statistics
from workbench.neurons.taps import Taps
from workbench.neurons.text_taps import ONCE, TextTaps
from workbench.statistics import split_halves, unit_means
from workbench.storage import read_arrays, read_json, read_table, write_arrays, write_json, write_table
from workbench.study.prompts import PromptSet, pairing
from workbench.study.study import BASE

LOG = ["of", "id", "iteration", "passes", "loss", "found", "score", "prompt"]
OTHER_NOISE = 7_000_003
AGAIN_NOISE = 11_000_003
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


class Workspace:
    """Everything a stage needs: study, plan, store, and the base model, loaded once.

    progress   called with (step, of, note) inside long nodes
    """

    def __init__(self, study, plan, store, device="cpu", model=None, progress=lambda step, of, note="": None):
        self.study, self.plan, self.store, self.device = study, plan, store, device
        self.progress = progress
        self._variants, self._sets, self._detectors = {}, {}, {}
        if model is not None:
            self.model = model

    @cached_property
    def model(self):
        """The base model."""
        return models.load(self.study.model.base, self.device, DTYPES[self.study.model.dtype], self.study.folder)

    @cached_property
    def empty(self):
        """Text state of the uncond branch in the base model."""
        return text.unconditional(self.model)

    @cached_property
    def clip(self):
        """The CLIP model the study names for scores."""
        from workbench.methods.detectors import placed_folder
        from workbench.methods.detectors.clip_zero_shot import Clip

        return Clip(placed_folder(self.study.quality.clip, self.study.folder, "clip"))

    @cached_property
    def other_format(self):
        """The base model in another number format: bfloat16, or float32 when the study itself takes less than that."""
        dtype = torch.bfloat16 if self.model.dtype == torch.float32 else torch.float32
        parts = {part: copy.deepcopy(module).to(dtype) for part, module in self.model.modules.items()}
        return dataclasses.replace(self.model, **parts)

    @cached_property
    def layers(self):
        """Recorded layers."""
        return sites.layers(self.model.unet, self.study.record.sites, self.model.text_encoder)

    @cached_property
    def neurons(self):
        """Index table of the recorded neurons."""
        return neuron_sets.index_table(self.layers)

    def run(self, node, shard, folder):
        """Compute one shard of a node into `folder`."""
        own = getattr(self, f"_{node.stage}", None)
        if own is None:
            from workbench.execution.optional_stages import STAGES

            own = partial(STAGES[node.stage], self)
        own(node, shard, folder)

    def variant(self, name):
        """The merged change of a variant over the base; None for the base itself."""
        if name in (None, BASE):
            return None
        if name not in self._variants:
            part = self.study.variant(name)
            own = read_change(part, self._folder(f"erase:{name}"))
            parent = self.variant(part.parent)
            self._variants[name] = own.over(parent) if parent else own
        return self._variants[name]

    def prompt_set(self, name):
        """A prompt set by name, from its file or from the attack that made it."""
        planned = self.plan.sets[name]
        if planned.table is not None:
            return planned.table
        if name not in self._sets:
            folder = self._folder(planned.node)
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

    def gather(self, stage, variant, prompt_set, reader):
        """reader(folder) of every shard of a node, in order."""
        node = self.plan.node(f"{stage}:{variant}:{prompt_set}")
        return [reader(self.store.result(stage, shard.key)) for shard in node.shards]

    def detections(self, variant, prompt_set):
        """Data frame of the detectors' findings, one row per prompt."""
        parts = self.gather("detect", variant, prompt_set, lambda f: read_table(f / "detections.parquet"))
        return pandas.concat(parts, ignore_index=True)

    def images(self, variant, prompt_set):
        """(prompt, 3, height, width) uint8."""
        return torch.cat(self.gather("generate", variant, prompt_set, lambda f: read_arrays(f / "images.safetensors")["images"]))

    def mean_abs(self, variant, prompt_set, trajectory, quantity="mean_abs"):
        """(prompt, call, neuron) float32 mean |a| in the shared regime, layers side by side; or a norm, NaN where none is kept.

        What the text encoder shows is repeated for every call.
        """
        files = {"unet": f"{trajectory}.safetensors", "text_encoder": "text.safetensors"}
        parts = dict.fromkeys(layer.site.part for layer in self.layers)
        shards = {part: self.gather("record", variant, prompt_set, lambda f, p=part: read_arrays(f / files[p])) for part in parts}

        def of(layer):
            if quantity != "mean_abs" and not layer.site.weighed:
                return torch.full((1, 1, layer.n_neurons), torch.nan)
            return torch.cat([shard[f"{layer.path}|{quantity}"] for shard in shards[layer.site.part]])

        shape = (len(self.prompt_set(prompt_set)), len(self.plan.calls), -1)
        return torch.cat([of(layer).float().expand(shape) for layer in self.layers], dim=-1).numpy()

    def detector(self, role, remembering=False):
        """The steering or judging detector, read once.

        remembering   for judging only: an image judged before, in whichever condition, is looked up in the run folder. The
                      bundled detectors cost next to nothing beside making the image, so they leave no files.
        """
        if role not in self._detectors:
            from workbench.methods.detectors import opened

            self._detectors[role] = opened(getattr(self.study.detectors, role), self.study.folder)
        if not remembering or getattr(self.study.detectors, role)["method"] == "emoji":
            return self._detectors[role]
        if (role, "remembering") not in self._detectors:
            from workbench.methods.detectors import Cached

            code = code_of("detectors", getattr(self.study.detectors, role)["method"])
            self._detectors[role, "remembering"] = Cached(self._detectors[role], self.store.folder / "answers", code)
        return self._detectors[role, "remembering"]

    def _folder(self, node_id):
        node = self.plan.node(node_id)
        return self.store.result(node.stage, node.shards[0].key)

    def _encode(self, rows):
        with torch.no_grad():
            return text.encode(self.model, rows.prompts, rows.prefix)

    def _resuming(self, node, shard):
        """What a long search or training gets: the way to the base model, and what it had reached before it was killed."""
        own = {name: parameter.data for name, parameter in self.model.parameters().items()}
        return {
            "base": lambda: exchanged(self.model, own),
            "kept": lambda name: self.store.kept_search(node.stage, shard.key, name),
            "keep": lambda name, state: self.store.keep_search(node.stage, shard.key, name, state),
        }

    def _erase(self, node, shard, folder):
        from workbench.execution.stages.named_sets import to_prune
        from workbench.execution.stages.score import chosen

        part = self.study.variant(node.variant)
        method = registry.method("erasers", part.method)
        prune = to_prune(self, part, node) if part.method == "prune_neurons" else None
        spare = chosen(self._folder("score"), f"in_{part.spare}") if part.spare else None
        log, resuming = [], self._resuming(node, shard)
        if part.parent == BASE:
            resuming["base"] = nullcontext
        with applied(self.model, self.variant(part.parent)):
            result = method.call(
                self.model,
                node.parameters["pairs"],
                method.parameters(**part.settings),
                prune=prune,
                spare=spare,
                like=read_change(self.study.variant(part.like), self._folder(f"erase:{part.like}")).masks if part.like else None,
                retained=node.parameters.get("retained", ()),
                progress=self.progress,
                log=log,
                folder=self.study.folder,
                base_digest=node.parameters["model"],
                **resuming,
            )
            _check_weights(part, result)
            about = {"study": self.study.name, "variant": part.name, "method": part.method, "parent": part.parent}
            about |= {"parameters": method.parameters(**part.settings).model_dump(mode="json")}
            about |= {"spare": part.spare} if part.spare else {}
            about |= {"preset": part.preset} if part.preset else {}
            about |= {"base": self.study.model.base, "base_digest": node.parameters["model"]}
            write_change(folder, result, about, log)

    def _generate(self, node, shard, folder):
        rows = self.prompt_set(node.prompt_set).rows(shard.start, shard.stop)
        with applied(self.model, self.variant(node.variant)):
            latents, trajectory = denoise(
                self.model,
                self._encode(rows),
                text.unconditional(self.model),
                rows.seeds,
                n_steps=node.parameters["steps"],
                guidance=node.parameters["guidance"],
                keep=node.parameters["keep"],
            )
        images = self.model.decode(latents)
        self._check_finite(node.variant, node.prompt_set, "images", latents, images)
        images = (images * 255).round().byte()
        write_arrays(folder / "images.safetensors", {"images": images})
        write_arrays(folder / "latents.safetensors", {"latents": latents, "inputs": trajectory.inputs})
        write_json(folder / "calls.json", {"calls": trajectory.calls, "timesteps": trajectory.timesteps})

    def _detect(self, node, shard, folder):
        from workbench.analysis.quality import features

        images = self._source(node, shard)
        rows = self.prompt_set(node.prompt_set).rows(shard.start, shard.stop)
        found, wanted = rows.table[["id", "unit", "expect"]].copy(), self.study.detectors.labels
        for role in ("steer", "judge"):
            detector = self.detector(role, remembering=True)
            present, score = detector.present(images, wanted)
            found[role], found[f"{role}_score"] = present.numpy(), score.numpy()
            if rows.kind == "retained":
                right, expected = np.zeros(len(rows), bool), rows.table["expect"].to_numpy()
                for label in dict.fromkeys(expected):
                    at = np.flatnonzero(expected == label)
                    right[at] = detector.present(images[at], [label])[0].numpy()
                found[f"{role}_expected"] = right
        judge = self.detector("judge", remembering=True)
        for label in wanted:
            found[f"judge|{label}"] = judge.present(images, [label])[0].numpy()
        write_table(folder / "detections.parquet", found)
        if rows.kind == "retained" and judge.features:
            seen = torch.as_tensor(features(judge, images), dtype=torch.float32)
            write_arrays(folder / "features.safetensors", {"features": seen})

    def _source(self, node, shard):
        """(prompt, 3, height, width) in [0, 1]: the images a node looks at, which its first input made."""
        source = self.plan.node(node.inputs[0])
        at = [s.start for s in source.shards].index(shard.start)
        return read_arrays(self.store.file("generate", source.shards[at].key, "images.safetensors"))["images"].float() / 255

    def _clip(self, node, shard, folder):
        from workbench.analysis.quality import clip_scores

        rows = self.prompt_set(node.prompt_set).rows(shard.start, shard.stop)
        scores = clip_scores(self.clip, self._source(node, shard), rows.prompts)
        write_table(folder / "scores.parquet", rows.table[["id", "unit"]].assign(score=scores, cut=self.clip.n_cut(rows.prompts)))

    def _again(self, node, shard, folder):
        from workbench.analysis.quality import features

        rows, sampling = self.prompt_set(node.prompt_set).rows(shard.start, shard.stop), node.parameters
        other = sampling["what"] == "seed"
        model, seeds = (self.model, [seed + AGAIN_NOISE for seed in rows.seeds]) if other else (self.other_format, rows.seeds)
        with torch.no_grad():
            states, empty = text.encode(model, rows.prompts), text.unconditional(model)
        latents, _ = denoise(model, states, empty, seeds, n_steps=sampling["steps"], guidance=sampling["guidance"])
        images = model.decode(latents)
        self._check_finite(node.variant, node.prompt_set, "images", latents, images, dtype=model.dtype)
        images = (images * 255).round() / 255
        gap = (images - self._source(node, shard)).abs().flatten(1)
        write_table(folder / "differences.parquet", rows.table[["id", "unit"]].assign(difference=gap.mean(dim=1).numpy()))
        judge = self.detector("judge", remembering=True)
        if judge.features:
            seen = torch.as_tensor(features(judge, images), dtype=torch.float32)
            write_arrays(folder / "features.safetensors", {"features": seen})

    def _attack(self, node, shard, folder):
        targets = self.prompt_set("target")
        method = registry.method("attacks", node.parameters["method"])
        parameters = method.parameters(**node.parameters["parameters"])
        clean = torch.cat(self.gather("generate", BASE, "target", lambda f: read_arrays(f / "latents.safetensors")["latents"]))
        context = Context(
            self.study.concept.not_for_attacks,
            node.variant,
            clean,
            self._looking(node.variant, node.parameters["sampling"]),
            pairs=node.parameters["pairs"],
            passes_per_look=len(self.model.new_scheduler(node.parameters["sampling"]["steps"]).timesteps) * 2,
            progress=self.progress,
            folder=self.study.folder,
            called=self.study.concept.names,
            **self._resuming(node, shard),
        )
        with applied(self.model, self.variant(node.variant)):
            adversarial = method.call(self.model, targets, parameters, context)
            control = method.module.control(self.model, targets, adversarial, parameters, context)
        for which, made in (("adversarial", adversarial), ("control", control)):
            _check_embeddings(node, which, made)
            write_table(folder / f"{which}.parquet", made.table)
            if made.prefix is not None:
                write_arrays(folder / f"{which}.safetensors", {"prefix": made.prefix})
        for name, arrays in context.files.items():
            write_arrays(folder / name, arrays)
        log = pandas.DataFrame(context.log, columns=[*LOG, "seconds"])
        write_table(folder / "log.parquet", log[LOG])
        write_table(folder / "seconds.parquet", log[["of", "id", "iteration", "seconds"]])

    def _looking(self, variant, sampling):
        """PromptSet -> list of Look: one image of each prompt from noise that no image of the study starts from."""
        detector = self.detector("steer")

        def looks(candidate):
            found, empty = [], text.unconditional(self.model)
            for start in range(0, len(candidate), self.study.sampling.batch):
                rows = candidate.rows(start, start + self.study.sampling.batch)
                seeds = [seed + OTHER_NOISE for seed in rows.seeds]
                latents, _ = denoise(self.model, self._encode(rows), empty, seeds, n_steps=sampling["steps"], guidance=sampling["guidance"])
                images = self.model.decode(latents)
                self._check_finite(variant, candidate.name, "images", latents, images)
                present, score = detector.present(images, self.study.detectors.labels)
                found += [Look(bool(p), float(s)) for p, s in zip(present, score, strict=True)]
            return found

        return looks

    def trajectory(self, name, rows):
        """The base model's kept UNet inputs of a trajectory that the rows of a set pair with, in their order."""
        inputs = torch.cat(self.gather("generate", BASE, name, lambda f: read_arrays(f / "latents.safetensors")["inputs"]))
        about = self.gather("generate", BASE, name, lambda f: read_json(f / "calls.json"))[0]
        return Trajectory(inputs[pairing(rows, self.prompt_set(name))], about["calls"], about["timesteps"])

    def _record(self, node, shard, folder):
        rows = self.prompt_set(node.prompt_set).rows(shard.start, shard.stop)
        with applied(self.model, self.variant(node.variant)):
            trajectories = {name: self.trajectory(name, rows) for name in self.study.record.trajectories}
            of = {part: [layer for layer in self.layers if layer.site.part == part] for part in ("unet", "text_encoder")}
            also = node.parameters.get("also", ())
            kept = {name: Statistics(of["unet"], len(rows), one.calls, also) for name, one in trajectories.items()}
            said = Statistics(of["text_encoder"], len(rows), [ONCE], also)
            with torch.no_grad(), TextTaps(self.model.text_encoder, of["text_encoder"], said) as text_taps:
                states = text_taps.encode(self.model, rows.prompts, rows.prefix)
            with Taps(self.model.unet, of["unet"], Parts(kept.values())) as taps:
                evaluate(self.model, states, list(trajectories.values()), taps)
        self._check_activations(node, [*kept.values(), said])
        for name, one in trajectories.items():
            about = {"calls": one.calls, "timesteps": one.timesteps}
            tensors = kept[name].to_tensors()
            self._check_stored(node, tensors)
            write_arrays(folder / f"{name}.safetensors", tensors, about)
        if of["text_encoder"]:
            tensors = said.to_tensors()
            self._check_stored(node, tensors)
            write_arrays(folder / "text.safetensors", tensors)

    def _check_finite(self, variant, prompt_set, what, *values, dtype=None):
        """Refuse what a variant made for a prompt set when a row of `values` (row, ...) holds NaN or infinity.

        Raises   ModelError that names the variant, the set, how many rows, and what to do
        """
        broken = torch.stack([~value.isfinite().flatten(1).all(dim=1).cpu() for value in values]).any(dim=0)
        if broken.any():
            raise ModelError(
                f"{self._named(variant)} makes {what} that hold NaN or infinity: {int(broken.sum())} of {len(broken)} {what} of the prompt "
                f'set "{prompt_set}". No detector can judge such an image, so the run stops here. {self._cure(variant, dtype)}'
            )

    def _check_activations(self, node, statistics):
        """Refuse recorded activations that are not finite.

        statistics   a list of Statistics, filled
        Raises       ModelError that names the variant, the set and the first layer
        """
        found = [(path, moments) for one in statistics for (path, _), moments in one.moments.items() if moments.count.sum()]
        wrong = dict.fromkeys(path for path, moments in found if not (moments.mean.isfinite().all() and moments.m2.isfinite().all()))
        self._refuse_layers(node, wrong, {path for path, _ in found}, "are not finite")

    def _check_stored(self, node, tensors):
        """Refuse statistics {name: tensor} that were finite and are too large for the number format they are stored in."""
        wrong = dict.fromkeys(name.split("|")[0] for name, values in tensors.items() if not values.isfinite().all())
        self._refuse_layers(node, wrong, {name.split("|")[0] for name in tensors}, "are too large to be stored")

    def _refuse_layers(self, node, wrong, layers, what):
        if wrong:
            raise ModelError(
                f'{self._named(node.variant)} has activations that {what}, on the prompt set "{node.prompt_set}": in {len(wrong)} of '
                f'{len(layers)} layers, first in "{next(iter(wrong))}". They cannot be measured, so the run stops here. '
                f"{self._cure(node.variant)}"
            )

    def _named(self, variant):
        return "The base model" if variant in (None, BASE) else f'The variant "{variant}"'

    def _cure(self, variant, dtype=None):
        """What to do about a model whose numbers are not finite."""
        dtype = dtype or self.model.dtype
        narrow = "" if dtype == torch.float32 else f"Numbers overflow easily in {str(dtype).removeprefix('torch.')}: "
        narrow += "set model.dtype to float32. If that does not help, " if narrow else ""
        if variant in (None, BASE):
            cure = f"check the files of the base model, {self.study.model.base}."
        elif (part := self.study.variant(variant)).method == "from_checkpoint":
            cure = f"check its checkpoint: workbench inspect {part.parameters.get('path', 'FILE')}"
        else:
            cure = f"check the settings of its eraser {part.method}: fewer iterations or a lower learning_rate, where it has them."
        return narrow + (cure if narrow else cure[0].upper() + cure[1:])

    @property
    def units(self):
        """The units of the target set, each once."""
        return list(dict.fromkeys(self.prompt_set("target").units))

    def units_of(self, prompt_set):
        """(row,) the units of a set by itself, in its own order: those of the target for what an attack made of it, else its own."""
        rows = self.prompt_set(prompt_set)
        if rows.attack is None:
            return rows.units
        target = self.prompt_set("target")
        return [target.units[place] for place in pairing(rows, target)]

    def half_a(self):
        """Boolean (prompt,) of the target set: the half of the units on which neurons are chosen."""
        return split_halves(self.prompt_set("target").units, self.study.choose.seed)

    def units_in_half_a(self):
        """The same half, boolean (unit,) of `units`."""
        return split_halves(self.units, self.study.choose.seed)

    def in_units(self, prompt_set, values):
        """(prompt, ...): rows of `values` in the order of the target set's rows they pair with."""
        return values[pairing(self.prompt_set("target"), self.prompt_set(prompt_set))]

    def unit_means(self, prompt_set, values):
        """(unit, ...): the mean of `values` over the rows of each of `units`."""
        return unit_means(self.prompt_set("target").units, self.in_units(prompt_set, values))

    def _score(self, node, shard, folder):
        from workbench.execution.stages.score import score

        score(self, folder)

    def _measure(self, node, shard, folder):
        from workbench.execution.stages.measure import measure

        measure(self, folder)

    def _report(self, node, shard, folder):
        write_json(folder / "done.json", {"written": True})


def _check_weights(part, result):
    """Refuse what an eraser returned when some of it is not finite."""
    wrong = [name for name, value in result.items() if not value.isfinite().all()]
    if wrong:
        raise MethodError(
            f'The eraser {part.method} of the variant "{part.name}" made weights that hold NaN or infinity: {len(wrong)} of {len(result)} '
            f'tensors, first "{wrong[0]}". Its training diverged: lower its learning_rate or iterations, or set model.dtype to float32.'
        )


def _check_embeddings(node, which, made):
    """Refuse embeddings that an attack returned when some are not finite."""
    if made.prefix is None:
        return
    broken = ~made.prefix.isfinite().flatten(1).all(dim=1)
    if broken.any():
        raise MethodError(
            f'The attack {node.parameters["method"]} on "{node.variant or BASE}" made {which} embeddings that hold NaN or infinity: '
            f"{int(broken.sum())} of {len(broken)} prompts. Its search diverged: lower its learning rate or iterations."
        )
