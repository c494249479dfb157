"""The table of the null calibration: how often p was small, and how often a word was said, where nothing was done.

counted   per draw, how often of how many;  table   Markdown
"""

import null_draws

from workbench.statistics import wilson_by_unit

REACTIVATED = ("reactivated", "reactivated in part")
HEAD = "| units a half | draws | valid set | what was done | studies | share | 95 % interval |\n|---:|---:|---:|---|---:|---:|---|"


def counted(draws):
    """{what was done and asked: [(how often, of how many) of each draw]} of the draws of one size.

    Words are counted in draws with a valid set, since without one nothing is said about neurons; p are counted in all draws.
    """
    found = {}
    for draw in draws:
        for kind in (*null_draws.PER_UNIT, null_draws.SHARED):
            attacks = [one for one in draw["attacks"] if one["kind"] == kind]
            tested = [one["p_change"] < 0.05 for one in attacks if one["p_change"] is not None]
            _add(found, f"attack {kind}, a second draw of its control: p < 0.05", tested)
            if draw["valid"]:
                _add(found, f'attack {kind}: "reactivated", also in part', [one["outcome"] in REACTIVATED for one in attacks])
        for start, what in {"noise": "eraser noise", "rotated": "eraser rotated", "esd": "ESD, which did erase"}.items():
            made = [one["outcome"] == "deactivated" for name, one in draw["variants"].items() if name.startswith(start)]
            if draw["valid"]:
                _add(found, f'{what}: "deactivated"', made)
    return found


def _add(found, what, said):
    if said:
        found.setdefault(what, []).append((sum(said), len(said)))


def table(draws):
    """Markdown of the draws {units a half: draws}; intervals count draws, for what is said of one draw hangs together."""
    lines = [HEAD]
    for n, made in draws.items():
        valid = sum(draw["valid"] for draw in made)
        for what, each in counted(made).items():
            times, of = zip(*each, strict=True)
            found, _ = wilson_by_unit(times, of)
            lines.append(f"| {n} | {len(made)} | {valid} | {what} | {sum(of)} | {found.value:.3f} | {found.low:.3f} to {found.high:.3f} |")
    return "\n".join(lines)
