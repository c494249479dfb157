"""The picture of the README: a concept in the base model, erased, attacked and pruned; images above, activity of its neurons below.

python -m docs.pictures.story runs/emoji-ink-style     needs a finished run of the default study, chromium and playwright

Shown are the first N_RETURNED prompts whose image shows the concept again under the attack, and the first N_NOT of which it does not.
"""

import argparse
from pathlib import Path

import plotly.graph_objects as go
from PIL import Image

from experiments.pictures import save
from workbench.report.document import load
from workbench.ui import picture_files, run_list

OUT = Path(__file__).with_name("story.png")
ATTACK, N_RETURNED, N_NOT, TRAJECTORY = "embedding_pgd", 2, 1, "reference"
INK, GREY, ACCENT = "#1f2430", "#6b7280", "#b4380a"
# title, variant, prompt set, neuron set
COLUMNS = (
    ("Base model", "base", "target", "concept"),
    ("Erased", "erased", "target", "concept"),
    ("Erased, attacked", "erased", f"{ATTACK}@erased", "concept"),
    ("Erased and pruned, attacked", "pruned", f"{ATTACK}@pruned", "watch"),
)
WIDTH, TOP, SIDE, GAP, CHART = 860, 78, 92, 10, 250


def row_of(rows, **wanted):
    """The one row with these values."""
    return next(row for row in rows if all(row.get(key) == value for key, value in wanted.items()))


def chosen(document):
    """Units to show, by the rule above, in the order of the study."""
    rows = [row for row in document["images"] if (row["variant"], row["prompt_set"]) == ("erased", f"{ATTACK}@erased")]
    returned = [row["unit"] for row in rows if row["success"]][:N_RETURNED]
    return returned + [row["unit"] for row in rows if not row["success"]][:N_NOT]


def rate_of(document, variant, prompt_set):
    """The row of the rate that belongs to the images of a condition."""
    definition = "success_rate" if prompt_set == "target" else "asr"
    return row_of(document["rates"], variant=variant, prompt_set=prompt_set, definition=definition)


def figure(document, picture, units):
    """The picture; picture(variant, prompt_set, unit) -> image."""
    n, step = len(units), WIDTH / len(COLUMNS)
    tall = TOP + n * (SIDE + GAP)
    height = tall + CHART + 70
    made = go.Figure()
    for column, (title, variant, prompt_set, neurons) in enumerate(COLUMNS):
        centre = (column + 0.5) * step
        rate = rate_of(document, variant, prompt_set)
        said = f"<b>{title}</b><br><span style='color:{GREY}'>shows it: {rate['rate']:.2f} ({rate['low']:.2f} to {rate['high']:.2f})</span>"
        made.add_annotation(x=centre / WIDTH, y=1 - 34 / height, text=said, **PAPER)
        for place, unit in enumerate(units):
            image = picture(variant, prompt_set, unit).resize((2 * SIDE, 2 * SIDE), Image.Resampling.BICUBIC)
            corner = {"x": (centre - SIDE / 2) / WIDTH, "y": 1 - (TOP + place * (SIDE + GAP)) / height}
            size = {"sizex": SIDE / WIDTH, "sizey": SIDE / height, "sizing": "stretch"}
            made.add_layout_image(source=image, xref="paper", yref="paper", xanchor="left", yanchor="top", **corner, **size)
        about = {"variant": variant, "prompt_set": prompt_set, "neuron_set": neurons, "trajectory": TRAJECTORY, "site": "ff"}
        found = row_of(document["activity"], **about)
        ends = {"array": [found["high"] - found["value"]], "arrayminus": [found["value"] - found["low"]], "thickness": 2, "width": 8}
        marker = {"size": 12, "color": ACCENT if "@" in prompt_set else INK, "symbol": "diamond" if "@" in prompt_set else "circle"}
        made.add_scatter(x=[column], y=[found["value"]], error_y=ends, mode="markers", marker=marker, showlegend=False)
        text = f"{found['value']:.2f}" + (" (watched neurons)" if neurons == "watch" else "")
        made.add_annotation(x=column, y=found["high"], text=text, showarrow=False, yshift=14, font={"size": 13, "color": INK})
    made.add_hline(y=0, line={"color": GREY, "width": 1, "dash": "dot"})
    title = {"text": "activity of the concept's neurons<br>1 = base model, 0 = without the concept", "font": {"size": 12, "color": GREY}}
    made.update_yaxes(range=[-0.15, 1.3], domain=[0.02, CHART / height], title=title, zeroline=False, gridcolor="#eef0f3")
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
