"""A word attack that does not beat its control: is it wrong, under-powered, or is there nothing to find?

Two questions for each concept of the emoji model. *Power*: on the base model, with every name of the concept permitted, does the
search find a name? UnlearnDiffAtk starts from prompts without the concept, P4D (N) from nothing; their controls have as many looks.
*Ceiling of one word*: every permitted word before prompts of the erased model, with its loss on noise that all words share; the
best words by loss are drawn before other prompts and judged, beside as many random words and no word.

What is finished is kept under runs/attack-power/; stopped, it resumes. The table goes to docs/results/attack-power.md.
"""

import argparse
import sys
from datetime import UTC, datetime
from pathlib import Path

import pandas
import torch

from experiments.attack_table.run import ATTACKS, CONCEPTS, LOOKS, ROOT, study_of
from experiments.attack_table.tables import markdown, share
from workbench import registry
from workbench.analysis.rates import rate
from workbench.diffusion.denoise import denoise
from workbench.diffusion.objectives import add_noise
from workbench.errors import WorkbenchError
from workbench.execution import execute
from workbench.methods.attacks import Context, Look
from workbench.methods.attacks._words import writable_tokens
from workbench.models import text
from workbench.models.variants import applied
from workbench.storage import digest, read_json, write_json, write_text
from workbench.study.prompts import PromptSet
from workbench.study.study import load_study

N_PAIRS, N_PROMPTS, N_WORDS, N_JUDGED = 20, 4, 5, 20
LEVELS = (500, 600, 700, 800)
SEEDS, LOOKED = 60_000, 700_000
SEARCHES = {"unlearn_diff_atk": {"timesteps": 10, "iterations": 12, "looks": LOOKS}, "p4d": ATTACKS["p4d_n"] | {"iterations": 100}}


def sampled(workspace, prompts, seeds):
    """Latents (prompt, channel, height, width) of the model as it is."""
    found, batch, sampling = [], workspace.study.sampling.batch, workspace.study.sampling
    with torch.no_grad():
        empty = text.unconditional(workspace.model)
        for start in range(0, len(prompts), batch):
            states = text.encode(workspace.model, prompts[start : start + batch])
            part = seeds[start : start + batch]
            found.append(denoise(workspace.model, states, empty, part, n_steps=sampling.steps, guidance=sampling.guidance)[0])
    return torch.cat(found)


def present(workspace, role, prompts, seeds):
    """(found, score) of the concept in one image of each prompt, by the steering or judging detector."""
    with torch.no_grad():
        return workspace.detector(role).present(
            workspace.model.decode(sampled(workspace, prompts, seeds)), workspace.study.detectors.labels
        )


def power(workspace, name):
    """Rows' counts: does the search find the concept's name on the base model when it may use it?"""
    settings = dict(SEARCHES[name])
    settings.pop("method", None)
    method = registry.method("attacks", name)
    parameters = method.parameters(**settings)
    pairs = workspace.plan.node("attack:random_tokens").parameters["pairs"][:N_PAIRS]
    asked = [prompt if name == "p4d" else anchor for prompt, anchor in pairs]
    ids, seeds = [str(i) for i in range(len(pairs))], [SEEDS + i for i in range(len(pairs))]
    targets = PromptSet("target", "target", pandas.DataFrame({"id": ids, "unit": ids, "prompt": asked, "seed": seeds, "expect": None}))

    def looks(candidate):
        found, score = present(workspace, "steer", candidate.prompts, [seed + LOOKED for seed in candidate.seeds])
        return [Look(bool(f), float(s)) for f, s in zip(found, score, strict=True)]

    clean = sampled(workspace, [prompt for prompt, _ in pairs], seeds)
    context = Context([], None, clean, looks, pairs=pairs, passes_per_look=2 * workspace.study.sampling.steps)
    made = method.call(workspace.model, targets, parameters, context)
    control = method.control(workspace.model, targets, made, parameters, context)
    said = [any(word in prompt for word in workspace.study.concept.names) for prompt in made.prompts]
    without = [anchor for _, anchor in pairs]
    sets = {"none": without, "attack": made.prompts, "control": control.prompts}
    return {"n": len(pairs), "named": sum(said)} | {
        key: int(present(workspace, "judge", prompts, seeds)[0].sum()) for key, prompts in sets.items()
    }


def losses(workspace, clean, prompts, words):
    """(word, prompt) log of the loss with the word before the prompt over that without, on noise that all words share."""
    model, n = workspace.model, len(prompts)
    noise = torch.randn(clean.shape, generator=torch.Generator().manual_seed(SEEDS))
    at = torch.tensor(LEVELS[:n])
    noised, found, some = add_noise(model, clean, noise, at), [], max(1, workspace.study.sampling.batch * 2 // n)

    def asked(texts, k):
        predicted = model.predict(noised.repeat(k, 1, 1, 1), at.repeat(k), text.encode(model, texts))
        return (predicted - noise.repeat(k, 1, 1, 1)).square().mean(dim=(1, 2, 3)).log().view(k, n)

    with torch.no_grad():
        plain = asked(prompts, 1)
        for start in range(0, len(words), some):
            part = words[start : start + some]
            found.append(asked([f"{word} {prompt}" for word in part for prompt in prompts], len(part)) - plain)
    return torch.cat(found)


def ceiling(workspace):
    """What the best single word does to the erased model: losses of all words, and rates of the best beside random ones."""
    targets, names = workspace.prompt_set("target"), workspace.study.concept.names
    words = [workspace.model.tokenizer.decode([token]).strip() for token in writable_tokens(workspace.model, names)]
    clean = sampled(workspace, targets.prompts[:N_PROMPTS], targets.seeds[:N_PROMPTS])
    drawn = torch.randperm(len(words), generator=torch.Generator().manual_seed(SEEDS))[:N_WORDS].tolist()
    prompts = targets.prompts[N_PROMPTS : N_PROMPTS + N_JUDGED]
    seeds = targets.seeds[N_PROMPTS : N_PROMPTS + N_JUDGED]
    with applied(workspace.model, workspace.variant(workspace.study.variants[0].name)):
        gap = losses(workspace, clean, targets.prompts[:N_PROMPTS], words)
        mean = gap.mean(dim=1)
        best = mean.argsort()[:N_WORDS].tolist()

        def seen(some):
            return sum(int(present(workspace, "judge", [f"{words[i]} {p}" for p in prompts], seeds)[0].sum()) for i in some)

        found = {"best": seen(best), "random": seen(drawn), "none": int(present(workspace, "judge", prompts, seeds)[0].sum())}
    halves = gap[:, : N_PROMPTS // 2].mean(dim=1), gap[:, N_PROMPTS // 2 :].mean(dim=1)
    agreement = torch.corrcoef(torch.stack([halves[0].argsort().argsort(), halves[1].argsort().argsort()]).float())[0, 1]
    about = {"n_words": len(words), "lowest": float(mean.min().exp() - 1), "agreement": float(agreement), "words": [words[i] for i in best]}
    return about | found | {"n": len(prompts), "n_drawn": N_WORDS * len(prompts)}


def kept(folder, workspace, what, function):
    """A finished part, or it is computed and kept; keyed by model, study and what this file asks."""
    asked = [
        workspace.plan.node(f"erase:{workspace.study.variants[0].name}").key,
        what,
        SEARCHES,
        N_PAIRS,
        N_PROMPTS,
        N_WORDS,
        N_JUDGED,
        LEVELS,
    ]
    place = folder / f"{workspace.study.concept.name}-{what}-{digest(asked)[:12]}.json"
    if not place.is_file():
        sys.stderr.write(f"{workspace.study.concept.name}: {what}\n")
        write_json(place, function())
    return read_json(place)


def tables(found):
    """Markdown of both questions."""
    one, two = [], []
    for concept, parts in found.items():
        for name in SEARCHES:
            row = parts[name]
            rates = [share(rate(row[key], row["n"])) for key in ("none", "attack", "control")]
            one.append([concept, f"`{name}`", row["n"], *rates, f"{row['named']} of {row['n']}"])
        row = parts["words"]
        cells = [share(rate(row[key], row["n_drawn" if key != "none" else "n"])) for key in ("none", "best", "random")]
        two.append([concept, row["n_words"], f"{100 * row['lowest']:+.1f} %", f"{row['agreement']:.2f}", *cells, ", ".join(row["words"])])
    first = markdown(["concept", "attack", "n", "without the concept", "attack", "control", "texts with a name"], one)
    columns = ["concept", "words", "best word's loss", "rank agreement", "no word", f"best {N_WORDS}", f"{N_WORDS} random", "best words"]
    return first, markdown(columns, two)


def main():
    """Compute what is missing, print, keep."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--concepts", default=",".join(CONCEPTS), help="with commas")
    parser.add_argument("--out", default="runs/attack-power", help="folder of the results")
    given = parser.parse_args()
    out, found = Path(given.out), {}
    for concept in given.concepts.split(","):
        study = study_of(load_study(CONCEPTS[concept]), 4 + N_PROMPTS + N_JUDGED, {"random_tokens": {}})
        _, workspace = execute.prepare(study, out / concept)
        erased = [workspace.plan.node(f"erase:{study.variants[0].name}")]
        execute.run_nodes(workspace, erased, others=[Path("runs") / name for name in CONCEPTS.values()])
        found[concept] = {
            name: kept(out, workspace, name, lambda workspace=workspace, name=name: power(workspace, name)) for name in SEARCHES
        }
        found[concept]["words"] = kept(out, workspace, "words", lambda workspace=workspace: ceiling(workspace))
    first, second = tables(found)
    report = "\n".join(
        [
            "# Can the word attacks find a word, and is there one?\n",
            f"Made by `.venv/bin/python -m experiments.attack_power.run`, {datetime.now(UTC):%Y-%m-%d}. "
            "Brackets are Wilson's 95 % intervals.\n",
            "## With the names permitted, on the base model\n",
            "Share of images in which the judge sees the concept: prompts without it, the search's texts, the control's "
            "(as many detector queries).\n",
            first,
            "## Every single permitted word, on the erased model\n",
            f"The loss of each word before {N_PROMPTS} prompts, against no word, on the same noise (below 0: the word helps to draw it); "
            "how far the words' ranks on one half of the prompts are those on the other (0: the order is noise); then the "
            f"{N_WORDS} best words and {N_WORDS} random ones before {N_JUDGED} other prompts each, judged.\n",
            second,
        ]
    )
    sys.stdout.write(report)
    if set(found) == set(CONCEPTS):
        write_text(ROOT / "docs" / "results" / "attack-power.md", report)


if __name__ == "__main__":
    try:
        main()
    except WorkbenchError as error:
        sys.stderr.write(f"attack power: {error}\n")
        sys.exit(2)
