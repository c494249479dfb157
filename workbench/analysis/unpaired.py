"""Two rates of different prompts, or of runs that do not share them: their difference with an interval."""

from math import sqrt


def difference(a, b):
    """{difference, low, high} of two rates that are not paired, b - a; nulls where one of them, or its interval, is missing.

    d - sqrt((p_b - l_b)^2 + (u_a - p_a)^2)   to   d + sqrt((u_b - p_b)^2 + (p_a - l_a)^2),   d = p_b - p_a

    a, b     rows with rate, low, high: l and u are the ends of each rate's own 95 % interval (Wilson's; by units where it is by units)
    Source   Newcombe 1998, Statistics in Medicine 17, method 10
    """
    if any(row.get(key) is None for row in (a, b) for key in ("rate", "low", "high")):
        return {"difference": None, "low": None, "high": None}
    d = b["rate"] - a["rate"]
    down = sqrt((b["rate"] - b["low"]) ** 2 + (a["high"] - a["rate"]) ** 2)
    up = sqrt((b["high"] - b["rate"]) ** 2 + (a["rate"] - a["low"]) ** 2)
    return {"difference": d, "low": max(-1.0, d - down), "high": min(1.0, d + up)}
