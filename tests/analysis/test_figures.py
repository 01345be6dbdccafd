"""Figures: no text is cut off at the edge, however long its words are."""

import numpy as np
import pandas as pd
import pytest

from mambarec.analysis.figures import Panel, Picture, XAxis, bars, lines

pytest.importorskip("matplotlib", reason="figures need the extra [report]")

LONG = [
    "content kNN",
    "interactions kNN",
    "popularity",
    "VBPR",
    "FREEDOM",
    "MGCN",
    "MambaRec",
    "MambaRec, item_dropout 0.5",
    "a row whose name is of many words, more than fit",
]


def cut_off(picture: Picture) -> list[str]:
    """The texts of a figure that reach over its edge, by more than a pixel."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.text import Text

    figure = picture.figure
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    box = figure.bbox.padded(1)
    shown = [text for text in figure.findobj(Text) if text.get_visible() and text.get_text().strip()]
    extents = [(text.get_text(), text.get_window_extent(canvas.get_renderer())) for text in shown]
    return [text for text, one in extents if not (box.contains(*one.min) and box.contains(*one.max))]


def picture(draw, table):
    return Picture(
        "name", draw, table, "a caption", "Test pairs of new items that are found, by the nearest item", "demo, test"
    )


@pytest.mark.parametrize("n_rows", range(1, len(LONG) + 1))
@pytest.mark.parametrize("label", ["cosine", "cosine to the nearest training item (mean of each fifth of the items)"])
def test_lines_with_long_names_are_not_cut(n_rows, label):
    names = LONG[-n_rows:]
    table = pd.DataFrame([{"model": name, "x": x, "y": x * 0.01} for name in names for x in (1, 2, 5)])
    drawn = picture(lambda: lines(table, XAxis("x", label), [Panel("test pairs found", {"y": ""})], by="model"), table)
    assert cut_off(drawn) == []


def test_bars_with_long_names_are_not_cut():
    table = pd.DataFrame({"label": LONG, "recall@20": np.linspace(0.1, 0.2, len(LONG)), "is_default": False})
    assert cut_off(picture(lambda: bars(table, ["recall@20"]), table)) == []
