"""A step of ESD and an edit of UCE beside the published algorithms written out plainly, on the same UNet, in turns.

Plain ESD keeps a second UNet that is trained and asks the base UNet three times, one after the other; plain UCE adds one outer product
after the other in single precision and inverts. Both are our own transcriptions of the formulas (arXiv 2303.07345, 2308.14761). Draws,
settings and latents are the same, and what the two ways give is compared. Times are CPU seconds, taken in turns; memory is the peak of
what tensors take above the model's, as torch's profiler sees it. On the bundled model.
"""

import copy
import statistics
import sys
import time

import torch

from workbench.methods.erasers import _closed_form, esd, uce
from workbench.models import load, text

PAIRS = [("an owl in ink style", "an owl"), ("a cat in ink style", "a cat")]
RETAINED = [
    f"a {thing} in {style} style" for thing in ("church", "house", "key", "hammer", "snail") for style in ("noto", "fluent", "emojione")
]
ROUNDS, STEPS, EDITS = 5, 3, 10
AS_PUBLISHED = {"form": "concept", "modules": "x", "iterations": STEPS, "learning_rate": 5e-5, "eta": 2.0, "steps": 50, "batch": 1}


def plain_esd(model, given, tell):
    """ESD of 2024 for one latent a step: {name: weight}; `tell` is called after every step."""
    base, trained = model.unet, copy.deepcopy(model.unet)
    weights = {name: weight for name, weight in trained.named_parameters() if ".attn2." in name}
    for weight in weights.values():
        weight.requires_grad_(True)
    optimiser = torch.optim.Adam(weights.values(), lr=given.learning_rate)
    generator = torch.Generator().manual_seed(given.seed)
    with torch.no_grad():
        concepts, empty = text.encode(model, [concept for concept, _ in PAIRS]), text.encode(model, [""])
    for _ in range(given.iterations):
        pair, call = (int(torch.randint(high, (1,), generator=generator)) for high in (len(PAIRS), given.steps))
        seed = int(torch.randint(2**31, (1,), generator=generator))
        concept, scheduler = concepts[pair][None], model.new_scheduler(given.steps)
        with torch.no_grad():
            x = torch.randn(1, *model.latent_shape, generator=torch.Generator().manual_seed(seed)) * scheduler.init_noise_sigma
            for t in scheduler.timesteps[:call]:
                both = scheduler.scale_model_input(torch.cat([x, x]), t)
                without, with_text = base(both, t, encoder_hidden_states=torch.cat([empty, concept])).sample.chunk(2)
                x = scheduler.step(without + given.guidance * (with_text - without), t, x).prev_sample
            t = scheduler.timesteps[call]
            x = scheduler.scale_model_input(x, t)
            start = base(x, t, encoder_hidden_states=concept).sample
            towards = base(x, t, encoder_hidden_states=concept).sample
            without = base(x, t, encoder_hidden_states=empty).sample
            target = start - given.eta * (towards - without)
        loss = torch.nn.functional.mse_loss(trained(x, t, encoder_hidden_states=concept).sample, target)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        tell()
    return {name: weight.detach() for name, weight in weights.items()}


def plain_uce(model, given):
    """UCE of 2025: every key and value weight by sums of outer products and an inverse, in single precision; {name: weight}."""

    def last(prompt):
        with torch.no_grad():
            return text.encode(model, [prompt])[0, len(text.words(model, prompt))]

    edits, kept = [(last(concept), last(anchor)) for concept, anchor in PAIRS], [last(prompt) for prompt in RETAINED]
    found, own = {}, dict(model.unet.named_parameters())
    for name in _closed_form.edited_names(model.unet):
        weight = own[name].detach()
        left, right = given.ridge * weight, given.ridge * torch.eye(weight.shape[1])
        for concept, guide in edits:
            left = left + given.erase_scale * torch.outer(weight @ guide, concept)
            right = right + given.erase_scale * torch.outer(concept, concept)
        for state in kept:
            left = left + given.preserve_scale * torch.outer(weight @ state, state)
            right = right + given.preserve_scale * torch.outer(state, state)
        found[name] = left @ torch.linalg.inv(right)
    return found


def run(model, what, way):
    """(seconds of a step or an edit, {name: weight})."""
    if what == "ESD":
        given, marks = esd.Parameters(**AS_PUBLISHED, trajectories=0, guidance=3.0), [time.process_time()]
        tell = lambda *about: marks.append(time.process_time())  # noqa: E731
        found = plain_esd(model, given, tell) if way == "plain" else esd.erase(model, PAIRS, given, progress=tell)
        return (marks[-1] - marks[0]) / STEPS, found
    given, began = uce.Parameters(), time.process_time()
    for _ in range(EDITS):
        found = plain_uce(model, given) if way == "plain" else uce.erase(model, PAIRS, given, retained=RETAINED)
    return (time.process_time() - began) / EDITS, found


def peak(model, what, way):
    """Megabytes of tensors that one way holds at its peak, above those of the model."""
    with torch.profiler.profile(profile_memory=True, activities=[torch.profiler.ProfilerActivity.CPU]) as seen:
        run(model, what, way)
    held, most = 0, 0
    for event in sorted(seen.profiler.kineto_results.events(), key=lambda event: event.start_ns()):
        if event.name() == "[memory]":
            held += event.nbytes()
            most = max(most, held)
    return most / 2**20


def main():
    """Print the table as Markdown, each row as soon as it is measured."""
    model = load.load("emoji")
    sys.stdout.write(
        "| what | CPU time, ours over plain | range | peak memory, ours over plain | ours | plain | weights differ by at most |\n"
    )
    sys.stdout.write("|---|---:|---|---:|---:|---:|---:|\n")
    for what, name in (("ESD", "ESD, one step"), ("UCE", "UCE, one edit")):
        ratios, seconds, apart = [], {"ours": [], "plain": []}, 0.0
        for _ in range(ROUNDS):
            found = {}
            for way in seconds:
                taken, weights = run(model, what, way)
                seconds[way].append(taken)
                found[way] = {key.removeprefix("unet."): weight for key, weight in weights.items()}
            ratios.append(seconds["ours"][-1] / seconds["plain"][-1])
            assert found["ours"].keys() == found["plain"].keys(), "the two ways changed other weights"
            apart = max(apart, *(float((weight - found["plain"][key]).abs().max()) for key, weight in found["ours"].items()))
        megabytes = {way: peak(model, what, way) for way in seconds}
        each = [f"{1000 * statistics.median(seconds[way]):.0f} ms, {megabytes[way]:.1f} MB" for way in seconds]
        spread = f"{min(ratios):.2f} to {max(ratios):.2f}"
        more = megabytes["ours"] / megabytes["plain"]
        sys.stdout.write(f"| {name} | {statistics.median(ratios):.2f} | {spread} | {more:.2f} | {' | '.join(each)} | {apart:.1e} |\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
