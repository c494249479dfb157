"""The picture of the README: a concept in the base model, erased, attacked and pruned; images above, activity of its neurons below.

python -m docs.pictures.story runs/emoji-ink-style     needs a finished run of the default study, chromium and playwright

Shown are, in the order of the study: the first prompt whose image shows the concept again when the erased variant is attacked, the first
other one where the pruned variant is attacked, and the first one of which neither does.
"""

import argparse
from pathlib import Path

import plotly.graph_objects as go
from PIL import Image

from experiments.pictures import save
from workbench.report.document import load
from workbench.ui import picture_files, run_list

OUT = Path(__file__).with_name("story.png")
ATTACK, TRAJECTORY = "embedding_pgd", "reference"
INK, GREY, ACCENT = "#1f2430", "#6b7280", "#b4380a"
# title, variant, prompt set, which rate; activity is that of the watched neurons, which no pruning touches
COLUMNS = (
    ("Base model", "base", "target", "ceiling"),
    ("Erased", "erased", "target", "success_rate"),
    ("Erased, attacked", "erased", f"{ATTACK}@erased", "asr"),
    ("Pruned, attacked", "pruned", f"{ATTACK}@pruned", "asr"),
)
WIDTH, TOP, SIDE, GAP, CHART = 860, 76, 116, 8, 200


def row_of(rows, **wanted):
    """The one row with these values."""
    return next(row for row in rows if all(row.get(key) == value for key, value in wanted.items()))


def chosen(document):
    """Units to show, by the rule above."""
    shown = {}
    for row in document["images"]:
        if (row["variant"], row["prompt_set"]) in (("erased", f"{ATTACK}@erased"), ("pruned", f"{ATTACK}@pruned")):
            shown.setdefault(row["unit"], {})[row["variant"]] = row["success"]
    first = next(unit for unit, seen in shown.items() if seen["erased"])
    second = next(unit for unit, seen in shown.items() if seen["pruned"] and unit != first)
    return [first, second, next(unit for unit, seen in shown.items() if not any(seen.values()))]


def figure(document, picture, units):
    """The picture; picture(variant, prompt_set, unit) -> image."""
    n, step = len(units), WIDTH / len(COLUMNS)
    tall = TOP + n * (SIDE + GAP)
    height = tall + CHART + 24
    made = go.Figure()
    for column, (title, variant, prompt_set, definition) in enumerate(COLUMNS):
        centre = (column + 0.5) * step
        rate = row_of(document["rates"], variant=variant, prompt_set=prompt_set, definition=definition)
        number = f"ink: {rate['rate']:.2f} ({rate['low']:.2f} to {rate['high']:.2f})"
        said = f"<b>{title}</b><br><span style='color:{GREY};font-size:12px'>{number}</span>"
        made.add_annotation(x=centre / WIDTH, y=1 - 34 / height, text=said, **PAPER)
        for place, unit in enumerate(units):
            image = picture(variant, prompt_set, unit).resize((2 * SIDE, 2 * SIDE), Image.Resampling.BICUBIC)
            corner = {"x": (centre - SIDE / 2) / WIDTH, "y": 1 - (TOP + place * (SIDE + GAP)) / height}
            size = {"sizex": SIDE / WIDTH, "sizey": SIDE / height, "sizing": "stretch"}
            made.add_layout_image(source=image, xref="paper", yref="paper", xanchor="left", yanchor="top", **corner, **size)
        about = {"variant": variant, "prompt_set": prompt_set, "neuron_set": "watch", "trajectory": TRAJECTORY, "site": "ff"}
        found = row_of(document["activity"], **about)
        ends = {"array": [found["high"] - found["value"]], "arrayminus": [found["value"] - found["low"]], "thickness": 2, "width": 8}
        marker = {"size": 12, "color": ACCENT if "@" in prompt_set else INK, "symbol": "diamond" if "@" in prompt_set else "circle"}
        made.add_scatter(x=[column], y=[found["value"]], error_y=ends, mode="markers", marker=marker, showlegend=False)
        text = f"{found['value']:.2f}"
        made.add_annotation(x=column, y=found["high"], text=text, showarrow=False, yshift=14, font={"size": 13, "color": INK})
    made.add_hline(y=0, line={"color": GREY, "width": 1, "dash": "dot"})
    title = {"text": "activity of the neurons<br>(0 = without the concept)", "font": {"size": 12, "color": GREY}}
    made.update_yaxes(range=[-0.12, 1.25], domain=[0.01, CHART / height], title=title, zeroline=False, gridcolor="#eef0f3")
    made.update_xaxes(range=[-0.5, len(COLUMNS) - 0.5], domain=[0, 1], showticklabels=False, showgrid=False, zeroline=False)
    font = {"family": "DejaVu Sans, Arial, sans-serif", "color": INK}
    return made.update_layout(width=WIDTH, height=height, margin=dict.fromkeys("lrtb", 0), plot_bgcolor="white", font=font)


PAPER = {
    "xref": "paper",
    "yref": "paper",
    "showarrow": False,
    "xanchor": "center",
    "yanchor": "middle",
    "align": "center",
    "font": {"size": 14},
}


def main():
    """Draw from a run folder."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path, help="folder of a finished run of emoji-ink-style")
    folder = parser.parse_args().run
    document, state = load(folder / "report"), run_list.look(folder)
    save({OUT: figure(document, lambda *which: picture_files.clear(state, *which), chosen(document))})


if __name__ == "__main__":
    main()
