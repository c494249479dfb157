"""What the Ablation lab shows, as data: what is asked for, undo and redo, the same as Python and as a command, a pruned variant.

Needs neither torch nor Streamlit.
"""

import json
import shlex
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from workbench.errors import RunError, nearest
from workbench.execution.run_folder import Store
from workbench.resources import find
from workbench.storage import write_text
from workbench.study.study import BASE, Study
from workbench.ui import pick
from workbench.ui.run_list import State
from workbench.ui.text import short

MODES = {"zero": "zero", "mean": "mean", "scale": "scale", "clamp": "clamp", "patch": "patch from base"}
MOST_SEEDS = 4
MOST_LETTERS = 500
MOST_STEPS = 100


@dataclass(frozen=True)
class Asked:
    """What the lab is asked for.

    pick       which neurons, see pick.py
    mode, strength, calls (first, last; None = all), branch   what is done to them, see workbench/lab.py
    prompt, seeds, variants   for which images
    """

    pick: str = "concept"
    mode: str = "zero"
    strength: float = 1.0
    calls: tuple[int, int] | None = None
    branch: str = "cond"
    prompt: str = ""
    seeds: tuple[int, ...] = (1,)
    variants: tuple[str, ...] = ("base",)

    @property
    def is_random(self) -> bool:
        """Whether a comparable random set stands in for the picked neurons."""
        return self.pick.startswith("random:")

    def swapped(self, seed: int = 1) -> "Asked":
        """The same with a comparable random set, or back."""
        return replace(self, pick=self.pick.split(":", 2)[2] if self.is_random else f"random:{seed}:{self.pick}")


@dataclass
class History:
    """The states that were shown, for undo and redo."""

    states: list[Asked] = field(default_factory=list)
    place: int = -1

    def show(self, asked: Asked) -> None:
        """Note a state; what had been undone is forgotten when it is a new one."""
        if self.place >= 0 and self.states[self.place] == asked:
            return
        self.states = [*self.states[: self.place + 1], asked][-MOST_STEPS:]
        self.place = len(self.states) - 1

    def undo(self) -> Asked | None:
        """The state before, or None."""
        return self._go(-1)

    def redo(self) -> Asked | None:
        """The state that was undone last, or None."""
        return self._go(1)

    def _go(self, step: int) -> Asked | None:
        if not 0 <= self.place + step < len(self.states):
            return None
        self.place += step
        return self.states[self.place]

    @property
    def can_undo(self) -> bool:
        """Whether there is a state before."""
        return self.place > 0

    @property
    def can_redo(self) -> bool:
        """Whether something was undone."""
        return self.place < len(self.states) - 1


def seeds_of(text: str) -> tuple[int, ...]:
    """Seeds from "1001, 1002"; RunError for anything else, or more than MOST_SEEDS."""
    words = text.replace(",", " ").split()
    if not words or len(words) > MOST_SEEDS or not all(word.isdecimal() and word.isascii() and len(word) < 19 for word in words):
        raise RunError(f'"{short(text)}" is no list of 1 to {MOST_SEEDS} seeds. Write whole numbers, such as 1001, 1002.')
    return tuple(dict.fromkeys(map(int, words)))


def prompt_of(text: str) -> str:
    """A prompt as typed; RunError for an empty or overlong one, and for control characters."""
    if not text.strip():
        raise RunError("The prompt is empty. Type one, or choose one of the run's.")
    if len(text) > MOST_LETTERS or not text.isprintable():
        raise RunError(f"The prompt has {len(text)} letters, or control characters; at most {MOST_LETTERS} printable ones are read.")
    return text


def variants(state: State, study: Study) -> tuple[str, ...]:
    """base, then the finished variants of a run, in the order of its study."""
    finished = [node["variant"] for node in state.nodes if node["stage"] == "erase" and state.has(node)]
    return (BASE, *(one.name for one in study.variants if one.name in finished))


def first(state: State, shown: Sequence[str]) -> Asked:
    """What the lab shows first: the concept neurons set to 0, on a prompt of the run, in the first three variants that can be shown."""
    named, known = pick.choices(state), first_prompt(state)
    prompt, seed = known or ("", 1)
    chosen = "concept" if "concept" in named else (named or ["top:score:50"])[0]
    return Asked(pick=chosen, prompt=prompt, seeds=(seed,), variants=tuple(shown[:3]))


def rest(state: State, neurons: Mapping[str, Sequence[int]]) -> dict[str, list[int]]:
    """The concept neurons that are not picked."""
    concept = pick.resolve(state, "concept") if "concept" in pick.choices(state) else {}
    left = {path: sorted(set(chosen) - set(neurons.get(path, ()))) for path, chosen in concept.items()}
    return {path: chosen for path, chosen in left.items() if chosen}


def key_of(asked: Asked, variant: str, neurons: Mapping[str, Sequence[int]]) -> tuple[Any, ...]:
    """What the vectors of an attack were found against: prompt, seeds, variant, and the ablation."""
    said = [sorted((path, list(chosen)) for path, chosen in neurons.items()), asked.mode, asked.strength, asked.calls, asked.branch]
    return asked.prompt, asked.seeds, variant, json.dumps(said)


def first_prompt(state: State) -> tuple[str, int] | None:
    """(prompt, seed) of the run's images with the concept; those on which an attack succeeded come first. None without images."""
    rows = [row for row in (state.document or {}).get("images", []) if row["prompt_set"] == "target" and row["variant"] == "base"]
    woken = [row["unit"] for row in (state.document or {}).get("images", []) if row["attack"] and row["success"] and not row["control"]]
    rows.sort(key=lambda row: -woken.count(row["unit"]))
    return (rows[0]["prompt"], int(rows[0]["seed"])) if rows else None


def prompts(state: State) -> list[tuple[str, int]]:
    """(prompt, seed) of the run's images of the base model, target prompts first."""
    rows = [row for row in (state.document or {}).get("images", []) if row["variant"] == "base" and row["attack"] is None]
    rows.sort(key=lambda row: row["prompt_set"] != "target")
    return list(dict.fromkeys((row["prompt"], int(row["seed"])) for row in rows))


def place(state: State) -> str:
    """What names the run on a command line: its folder, or the name of the example."""
    return state.name if state.read_only else str(state.folder)


def as_python(state: State, asked: Asked, neurons: dict[str, list[int]]) -> str:
    """Python that computes what is on screen."""
    name = json.dumps(place(state))
    lines = ["import workbench", "from workbench.lab import NeuronAblation", "", f"lab = workbench.Lab({name})"]
    if asked.pick in ("concept", "prune", "watch", "suppressed"):
        lines.append(f"neurons = lab.neurons({json.dumps(asked.pick)})")
    else:
        lines.append(f"neurons = {json.dumps(neurons)}")
    more = "" if asked.calls is None else f", calls={asked.calls}"
    more += "" if asked.branch == "cond" else f", branch={json.dumps(asked.branch)}"
    lines.append(f'ablation = NeuronAblation(neurons, "{asked.mode}", {asked.strength:g}{more})')
    lines.append(f"asked = [{json.dumps(asked.prompt)}] * {len(asked.seeds)}, {list(asked.seeds)}")
    lines.append(f"for variant in {list(asked.variants)}:")
    lines.append("    before, after = lab.images(*asked, variant), lab.images(*asked, variant, ablation)")
    lines.append("    print(variant, lab.found(before), lab.found(after), lab.target(*asked, variant, ablation))")
    return "\n".join(lines)


def words(asked: Asked) -> list[str]:
    """The options of `workbench ablate` for a state."""
    found = ["--pick", asked.pick, "--mode", asked.mode, "--strength", f"{asked.strength:g}"]
    if asked.calls is not None:
        found += ["--calls", f"{asked.calls[0]}-{asked.calls[1]}"]
    found += [] if asked.branch == "cond" else ["--branch", asked.branch]
    return [*found, "--prompt", asked.prompt, "--seeds", ",".join(map(str, asked.seeds)), "--variants", ",".join(asked.variants)]


def as_command(state: State, asked: Asked) -> str:
    """The command line that computes what is on screen."""
    return shlex.join(["workbench", "ablate", place(state), *words(asked), "--out", "ablation"])


def pruned_study(state: State, name: str, parent: str, mask: Path, folder: Path) -> Path:
    """Write a study: that of the run with one more variant, whose mask is a file; returns its path.

    The file is `NAME.toml` in `folder`. Files that the study names are given by their full paths, so that it works from there.
    Raises   RunError when the study cannot be extended, the variant's name is taken, or the file is there already
    """
    store = Store(state.folder)
    study = store.study()
    variants = [one["name"] for one in study["variants"]]
    if name in variants:
        raise RunError(f'The study has a variant "{name}" already. Choose another name.')
    if parent not in (*variants, "base"):
        raise RunError(f'The study has no variant "{parent}".{nearest(parent, variants)}')
    path = folder / f"{study['name']}-{name}.toml"
    if path.exists():
        raise RunError(f"{path} exists already, and nothing is replaced. Choose another name.")
    text = (store.folder / "study.toml").read_text(encoding="utf-8")
    try:
        said = tomllib.loads(text)
    except ValueError:
        said = {}
    if "variants" not in said:
        raise RunError(f"{store.folder / 'study.toml'} cannot be extended: the study was built in Python. Add the mask {mask} in Python.")
    beside = Path(store.study_folder())
    for value in sorted({value for value in _texts(said) if "/" in value or "." in value}):
        if (beside / value).exists() and not Path(value).is_absolute():
            text = text.replace(json.dumps(value), json.dumps(str((beside / value).resolve())))
        elif find(value, beside) is None:
            continue  # bundled data, found from anywhere
    text = text.replace(f"name = {json.dumps(study['name'])}", f"name = {json.dumps(path.stem)}", 1)
    base = "" if parent == "base" else f'parent = "{parent}"\n'
    text = f"{text.rstrip()}\n\n# made in the Ablation lab of the run {store.folder.name}\n[[variants]]\nname = {json.dumps(name)}\n"
    text += f'method = "mask_from_file"\n{base}role = "pruned"\nparameters = {{ file = {json.dumps(str(mask.resolve()))} }}\n'
    folder.mkdir(parents=True, exist_ok=True)
    write_text(path, text)
    return path


def _texts(value: Any) -> Iterable[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for one in value.values() if isinstance(value, dict) else value:
            yield from _texts(one)


def described(asked: Asked, neurons: dict[str, list[int]]) -> str:
    """What is done, in words."""
    n = sum(map(len, neurons.values()))
    what = {
        "zero": "set to 0" if asked.strength == 1 else f"moved {asked.strength:.0%} of the way to 0".replace("%", " %"),
        "mean": "moved to the mean of the reference prompts" + ("" if asked.strength == 1 else f" by {100 * asked.strength:.0f} %"),
        "scale": f"multiplied by {asked.strength:g}",
        "clamp": f"held at {asked.strength:g} times the mean of the target prompts",
        "patch": "set to the values of the base model" + ("" if asked.strength == 1 else f" by {100 * asked.strength:.0f} %"),
    }[asked.mode]
    where = "all calls" if asked.calls is None else f"calls {asked.calls[0]} to {asked.calls[1]}"
    branch = {"cond": "cond branch", "uncond": "uncond branch", "both": "both branches"}[asked.branch]
    return f"{n} neurons ({pick.words(asked.pick)}) in {len(neurons)} layers, {what}; {where}, {branch}"


def as_plain(asked: Asked) -> dict[str, Any]:
    """The state as plain values, for a file beside results."""
    return asdict(asked)
