"""The one room that wires methods together: what each stage does with its inputs, one function per stage.

A stage reads results of other nodes through the store, computes, and writes its own result into a folder it is given.
"""

from functools import cached_property

import numpy as np
import pandas
import torch

from workbench import registry
from workbench.diffusion.denoise import Trajectory, denoise, evaluate
from workbench.errors import RunError
from workbench.methods.attacks import Context, Look
from workbench.models import load as models
from workbench.models import masks, text
from workbench.models.variants import Variant, applied, exchanged
from workbench.neurons import sets as neuron_sets
from workbench.neurons import sites
from workbench.neurons.reduce import Parts, Statistics
from workbench.neurons.taps import Taps
from workbench.statistics import split_halves
from workbench.storage import read_arrays, read_json, read_table, write_arrays, write_json, write_table
from workbench.study.prompts import PromptSet
from workbench.study.study import BASE

LOG = ["of", "id", "iteration", "passes", "loss", "found", "score", "prompt"]
OTHER_NOISE = 7_000_003
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


class Room:
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
        return models.load(self.study.model.base, self.device, DTYPES[self.study.model.dtype])

    @cached_property
    def empty(self):
        """Text state of the empty prompt in the base model."""
        return text.encode(self.model, [""])

    @cached_property
    def layers(self):
        """Recorded layers."""
        return sites.layers(self.model.unet, self.study.record.sites)

    @cached_property
    def neurons(self):
        """Index table of the recorded neurons."""
        return neuron_sets.index_table(self.layers)

    def run(self, node, shard, folder):
        """Compute one shard of a node into `folder`."""
        getattr(self, f"_{node.stage}")(node, shard, folder)

    def variant(self, name):
        """The merged change of a variant over the base; None for the base itself."""
        if name in (None, BASE):
            return None
        if name not in self._variants:
            part = self.study.variant(name)
            folder = self._folder(f"erase:{name}")
            weights = read_arrays(folder / "weights.safetensors") if (folder / "weights.safetensors").exists() else {}
            pruned = masks.load(folder / "mask.safetensors")[0] if (folder / "mask.safetensors").exists() else {}
            own = Variant(name, part.parent, weights, pruned)
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
        return [reader(self.store.path(stage, shard.key)) for shard in node.shards]

    def detections(self, variant, prompt_set):
        """Data frame of the detectors' findings, one row per prompt."""
        parts = self.gather("detect", variant, prompt_set, lambda f: read_table(f / "detections.parquet"))
        return pandas.concat(parts, ignore_index=True)

    def images(self, variant, prompt_set):
        """(prompt, 3, height, width) uint8."""
        return torch.cat(self.gather("generate", variant, prompt_set, lambda f: read_arrays(f / "images.safetensors")["images"]))

    def mean_abs(self, variant, prompt_set, trajectory):
        """(prompt, call, neuron) float32 mean |a| in the shared regime, layers side by side."""
        shards = self.gather("record", variant, prompt_set, lambda f: read_arrays(f / f"{trajectory}.safetensors"))
        per_layer = [torch.cat([s[f"{layer.path}|mean_abs"] for s in shards]) for layer in self.layers]
        return torch.cat(per_layer, dim=-1).float().numpy()

    def detector(self, role, remembering=False):
        """The steering or judging detector, read once.

        remembering   for judging only: an image judged before, in whichever condition, is looked up in the run folder. The
                      bundled detectors cost next to nothing beside making the image, so they leave no files.
        """
        if role not in self._detectors:
            given = dict(getattr(self.study.detectors, role))
            method = registry.method("detectors", given.pop("method"))
            self._detectors[role] = method.call(method.parameters(**given))
        if not remembering or getattr(self.study.detectors, role)["method"] == "emoji":
            return self._detectors[role]
        if (role, "remembering") not in self._detectors:
            from workbench.methods.detectors import Cached

            self._detectors[role, "remembering"] = Cached(self._detectors[role], self.store.folder / "answers")
        return self._detectors[role, "remembering"]

    def _folder(self, node_id):
        node = self.plan.node(node_id)
        folder = self.store.path(node.stage, node.shards[0].key)
        if not folder.is_dir():
            raise RunError(f"The result of {node_id} is missing; run the study again to make it.")
        return folder

    def _encode(self, rows):
        with torch.no_grad():
            return text.encode(self.model, rows.prompts, rows.prefix)

    def _erase(self, node, shard, folder):
        part = self.study.variant(node.variant)
        method = registry.method("erasers", part.method)
        prune = None
        if "score" in node.inputs:
            table = read_table(self._folder("score") / "neurons.parquet")
            column = "in_prune" if part.parameters.get("neurons", "prune") == "prune" else "in_concept"
            prune = neuron_sets.by_layer(table[["layer", "index"]], table[column] & (table["site"] == "ff"))
        with applied(self.model, self.variant(part.parent)):
            result = method.call(
                self.model,
                node.parameters["pairs"],
                method.parameters(**part.parameters),
                prune=prune,
                progress=self.progress,
            )
        if all(value.dtype == torch.bool for value in result.values()):
            masks.save(folder / "mask.safetensors", result, {"method": part.method, "study": self.study.name})
        else:
            write_arrays(folder / "weights.safetensors", result, {"method": part.method})

    def _generate(self, node, shard, folder):
        rows = self.prompt_set(node.prompt_set).rows(shard.start, shard.stop)
        with applied(self.model, self.variant(node.variant)):
            latents, trajectory = denoise(
                self.model,
                self._encode(rows),
                self._encode(PromptSet("empty", "reference", pandas.DataFrame({"prompt": [""]}))),
                rows.seeds,
                n_steps=node.parameters["steps"],
                guidance=node.parameters["guidance"],
                keep=node.parameters["keep"],
            )
        images = (self.model.decode(latents) * 255).round().byte()
        write_arrays(folder / "images.safetensors", {"images": images})
        write_arrays(folder / "latents.safetensors", {"latents": latents, "inputs": trajectory.inputs})
        write_json(folder / "calls.json", {"calls": trajectory.calls, "timesteps": trajectory.timesteps})

    def _detect(self, node, shard, folder):
        from workbench.analysis.quality import features

        source = self.plan.node(node.inputs[0])
        at = [s.start for s in source.shards].index(shard.start)
        images = read_arrays(self.store.path("generate", source.shards[at].key) / "images.safetensors")["images"]
        images = images.float() / 255
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

    def _attack(self, node, shard, folder):
        targets = self.prompt_set("target")
        method = registry.method("attacks", node.parameters["method"])
        parameters = method.parameters(**node.parameters["parameters"])
        clean = torch.cat(self.gather("generate", BASE, "target", lambda f: read_arrays(f / "latents.safetensors")["latents"]))
        own = {name: parameter.data for name, parameter in self.model.parameters().items()}
        context = Context(
            self.study.concept.names,
            node.variant,
            clean,
            self._looking(node.parameters["sampling"]),
            base=lambda: exchanged(self.model, own),
            pairs=node.parameters["pairs"],
            kept=lambda name: self.store.kept_search(shard.key, name),
            keep=lambda name, state: self.store.keep_search(shard.key, name, state),
            passes_per_look=len(self.model.new_scheduler(node.parameters["sampling"]["steps"]).timesteps) * 2,
            progress=self.progress,
            folder=self.study.folder,
        )
        with applied(self.model, self.variant(node.variant)):
            adversarial = method.call(self.model, targets, parameters, context)
            control = method.module.control(self.model, targets, adversarial, parameters, context)
        for which, made in (("adversarial", adversarial), ("control", control)):
            write_table(folder / f"{which}.parquet", made.table)
            if made.prefix is not None:
                write_arrays(folder / f"{which}.safetensors", {"prefix": made.prefix})
        for name, arrays in context.files.items():
            write_arrays(folder / name, arrays)
        log = pandas.DataFrame(context.log, columns=[*LOG, "seconds"])
        write_table(folder / "log.parquet", log[LOG])
        write_table(folder / "seconds.parquet", log[["of", "id", "iteration", "seconds"]])

    def _looking(self, sampling):
        """PromptSet -> list of Look: one image of each prompt from noise that no image of the study starts from."""
        detector = self.detector("steer")

        def looks(candidate):
            found = []
            for start in range(0, len(candidate), self.study.sampling.batch):
                rows = candidate.rows(start, start + self.study.sampling.batch)
                seeds = [seed + OTHER_NOISE for seed in rows.seeds]
                latents, _ = denoise(
                    self.model, self._encode(rows), self.empty, seeds, n_steps=sampling["steps"], guidance=sampling["guidance"]
                )
                present, score = detector.present(self.model.decode(latents), self.study.detectors.labels)
                found += [Look(bool(p), float(s)) for p, s in zip(present, score, strict=True)]
            return found

        return looks

    def trajectory(self, name, units):
        """The base model's kept UNet inputs of a trajectory, in the order of `units`."""
        inputs = torch.cat(self.gather("generate", BASE, name, lambda f: read_arrays(f / "latents.safetensors")["inputs"]))
        about = self.gather("generate", BASE, name, lambda f: read_json(f / "calls.json"))[0]
        place = {unit: row for row, unit in enumerate(self.prompt_set(name).units)}
        order = [place[unit] for unit in units]
        return Trajectory(inputs[order], about["calls"], about["timesteps"])

    def _record(self, node, shard, folder):
        rows = self.prompt_set(node.prompt_set).rows(shard.start, shard.stop)
        with applied(self.model, self.variant(node.variant)):
            trajectories = {name: self.trajectory(name, rows.units) for name in self.study.record.trajectories}
            kept = {name: Statistics(self.layers, len(rows), one.calls) for name, one in trajectories.items()}
            with Taps(self.model.unet, self.layers, Parts(kept.values())) as taps:
                evaluate(self.model, self._encode(rows), list(trajectories.values()), taps)
        for name, one in trajectories.items():
            about = {"calls": one.calls, "timesteps": one.timesteps}
            write_arrays(folder / f"{name}.safetensors", kept[name].to_tensors(), about)

    def half_a(self):
        """Boolean (prompt,) of the target set: the half of the units on which neurons are chosen."""
        return split_halves(self.prompt_set("target").units, self.study.choose.seed)

    def in_units(self, prompt_set, values):
        """Rows of `values` reordered to the units of the target set."""
        place = {unit: row for row, unit in enumerate(self.prompt_set(prompt_set).units)}
        return values[[place[unit] for unit in self.prompt_set("target").units]]

    def window_mean(self, variant, prompt_set, trajectory):
        """(prompt, neuron) mean over the recorded calls, rows in the order of the target's units."""
        return self.in_units(prompt_set, self.mean_abs(variant, prompt_set, trajectory).mean(axis=1))

    def _score(self, node, shard, folder):
        choose, half = self.study.choose, self.half_a()
        mean = {
            name: np.mean([self.window_mean(BASE, name, t) for t in self.study.record.trajectories], axis=0)
            for name in ("target", "reference")
        }
        table = self.neurons.copy()
        halves = {"a": half, "b": ~half}
        for name, method in registry.methods("scores").items():
            if "erased" in method.module.NEEDS:
                continue
            for suffix, rows in halves.items():
                table[f"{name}_{suffix}"] = method.call(mean["target"][rows], mean["reference"][rows], layer=table["layer"].to_numpy())
        score = table[f"{choose.score}_a"].to_numpy()
        table["in_concept"] = table["in_suppressed"] = False
        for site in self.study.record.sites:
            here = (table["site"] == site).to_numpy()
            table["in_concept"] |= neuron_sets.top(score, choose.share, here) & (score > 0)
            table["in_suppressed"] |= neuron_sets.top(-score, choose.share, here) & (score < 0)
        concept_ff = table["in_concept"] & (table["site"] == "ff")
        table["in_prune"], table["in_watch"] = neuron_sets.halve(concept_ff, score, choose.seed)
        write_table(folder / "neurons.parquet", table)

    def _measure(self, node, shard, folder):
        from workbench.run.measure import measure

        measure(self, folder)

    def _report(self, node, shard, folder):
        write_json(folder / "done.json", {"written": True})
