"""How figures look and are saved: at a paper's column width, told apart without colour, each with its numbers and caption.

A figure is drawn from a table of its numbers, a row per bar, point or cell. A column `<name>_std` beside a column `<name>` is
the standard deviation over seeds, NaN where there is one seed, and becomes the error bars. matplotlib is part of the optional
extra [report].
"""

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from utils.extras import optional
from utils.files import replacing, write_text

WIDTH = 3.3  # inches, a column of a two-column paper
# Okabe and Ito's palette, told apart with every kind of colour vision; beyond it, and in grey, markers and dashes tell.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "*")
DASHES = ("-", "--", "-.", ":")
REFERENCE, OTHER = COLOURS[0], COLOURS[5]  # dark and light in grey
STYLE = {
    "figure.constrained_layout.use": True,
    "font.size": 8,
    "axes.labelsize": 8,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "legend.fontsize": 7,
    "legend.frameon": False,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.formatter.useoffset": False,
    "grid.linewidth": 0.4,
    "grid.color": "#DDDDDD",
    "lines.linewidth": 1.1,
    "lines.markersize": 3.5,
    "errorbar.capsize": 2,
    "xtick.minor.size": 0,
    "savefig.dpi": 300,
    "svg.hashsalt": "mambarec",  # the same figure gives the same bytes
}
_METRICS = {"recall": "Recall", "ndcg": "NDCG", "map": "MAP", "mrr": "MRR", "hitrate": "Hit rate", "precision": "Precision"}


@dataclass(frozen=True)
class Axis:
    """What lies on the x axis: a column of the table, and how it is shown. log: the base of a logarithmic axis, 0 for none."""

    column: str
    label: str
    log: int = 0
    ticks: str | None = None  # a column with the text at each value; without it, the values themselves


@dataclass(frozen=True)
class Panel:
    """One of the plots under one another: its y label and its columns, each with its name in the legend."""

    label: str
    columns: Mapping[str, str]
    unit: float = 1.0  # what values are divided by
    from_zero: bool = False


@dataclass(frozen=True)
class Picture:
    """A figure with what belongs to it: the stem of its files, its numbers and its caption."""

    name: str
    figure: Any
    numbers: pd.DataFrame
    caption: str

    def save(self, folder: Path) -> list[Path]:
        """Write <name>.png, .svg, .csv and .txt (the caption) into `folder`; returns their paths."""
        folder.mkdir(parents=True, exist_ok=True)
        paths = [folder / f"{self.name}.{suffix}" for suffix in ("png", "svg", "csv", "txt")]
        with matplotlib().rc_context(STYLE):
            for path, metadata in ((paths[0], {"Software": None}), (paths[1], {"Date": None, "Creator": None})):
                with replacing(path) as file:
                    self.figure.savefig(file, format=path.suffix[1:], metadata=metadata)
        write_text(paths[2], self.numbers.to_csv(index=False))
        write_text(paths[3], self.caption + "\n")
        return paths


def matplotlib() -> Any:
    """The package, or ConfigError that says how to get it."""
    return optional("matplotlib", "matplotlib", "report", "figures need")


def styled(draw: Callable[..., Any]) -> Callable[..., Any]:
    """Let a function draw in STYLE, whatever the settings around it."""

    @functools.wraps(draw)
    def drawn(*arguments: Any, **options: Any) -> Any:
        with matplotlib().rc_context(STYLE):
            return draw(*arguments, **options)

    return drawn


def metric_name(metric: str) -> str:
    """'recall@20' -> 'Recall@20', 'ndcg@20' -> 'NDCG@20'."""
    name, _, cutoff = metric.partition("@")
    return f"{_METRICS.get(name, name.capitalize())}@{cutoff}"


@styled
def bars(table: pd.DataFrame, metrics: Sequence[str], names: str = "label") -> Any:
    """Horizontal bars with their values, a row of the table each, and a panel per metric beside one another.

    Those where a column `is_default` is true are dark, all where there is no such column.
    """
    figure = _figure(0.7 + 0.24 * len(table))
    panels = figure.subplots(1, len(metrics), sharey=True, squeeze=False)[0]
    places = np.arange(len(table))
    colours = [REFERENCE if default else OTHER for default in table.get("is_default", [True] * len(table))]
    for panel, metric in zip(panels, metrics, strict=True):
        values, errors = table[metric], _deviations(table, metric)
        panel.barh(places, values, 0.7, color=colours, xerr=errors, error_kw={"lw": 0.8, "capsize": 2})
        ends = values if errors is None else values + errors
        for place, value, end in zip(places, values, ends, strict=True):
            panel.annotate(f"{value:.4f}", (end, place), (3, 0), textcoords="offset points", va="center", fontsize=6)
        panel.set_xlim(0, 1.5 * max(ends.max(), 1e-9))  # room for the values
        panel.set_xlabel(metric_name(metric))
        panel.locator_params(axis="x", nbins=3)
        panel.tick_params(axis="y", length=0)
    panels[0].set_yticks(places, table[names])
    panels[0].invert_yaxis()  # the first on top
    return figure


@styled
def lines(table: pd.DataFrame, x: Axis, panels: Sequence[Panel], by: str | None = None) -> Any:
    """Lines over x, a panel under the other; a line per column of the panel, or per value of the table's column `by`."""
    groups = [(None, table)] if by is None else list(table.groupby(by, sort=False))
    above = -(-len(groups) // 3) if by else 0  # rows of the legend
    figure = _figure(0.45 + 1.15 * len(panels) + 0.16 * above)
    all_axes = figure.subplots(len(panels), 1, sharex=True, squeeze=False)[:, 0]
    for axes, panel in zip(all_axes, panels, strict=True):
        series = [(group or name, rows, column) for group, rows in groups for column, name in panel.columns.items()]
        for i, (name, rows, column) in enumerate(series):
            errors = _deviations(rows, column)
            axes.errorbar(
                rows[x.column],
                rows[column] / panel.unit,
                None if errors is None else errors / panel.unit,
                color=COLOURS[i % len(COLOURS)],
                marker=MARKERS[i % len(MARKERS)],
                linestyle=DASHES[i % len(DASHES)],
                elinewidth=0.8,
                label=name,
            )
        axes.set_ylabel(panel.label)
        axes.grid(axis="y")
        axes.locator_params(axis="y", nbins=5)
        has_legend = by is None and len(series) > 1
        if panel.from_zero:
            axes.update_datalim([(table[x.column].iloc[0], 0)])
            axes.margins(y=0.4 if has_legend else 0.1)  # room for the legend, for the highest marker
            axes.autoscale_view()
            axes.set_ylim(bottom=0)
        if has_legend:
            axes.legend(loc="upper right", ncols=len(series), borderaxespad=0)
    if by:
        figure.legend(*all_axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=min(3, len(groups)))
    _show_x(all_axes[-1], table, x)
    figure.align_ylabels(all_axes)
    return figure


def _show_x(axes: Any, table: pd.DataFrame, x: Axis) -> None:
    """Scale, ticks at the values of the table alone, and label of the x axis."""
    if x.log:
        axes.set_xscale("log", base=x.log)
    shown = table.drop_duplicates(x.column)
    axes.set_xticks(shown[x.column], [f"{value:g}" for value in shown[x.column]] if x.ticks is None else shown[x.ticks])
    axes.set_xlabel(x.label)


@styled
def heat_map(table: pd.DataFrame, rows: str, columns: str, metric: str) -> Any:
    """A cell per pair of values of two columns, its number in it; a pair that the table lacks stays empty."""
    grid = table.pivot(index=rows, columns=columns, values=metric).sort_index(ascending=False)
    figure = _figure(0.75 + 0.36 * len(grid))
    axes = figure.subplots()
    image = axes.imshow(grid, cmap="cividis", aspect="auto")
    for (i, j), value in np.ndenumerate(grid.to_numpy()):
        dark = image.norm(value) < 0.55  # a single value is 0 on the scale, hence dark
        text = "–" if np.isnan(value) else f"{value:.4f}"
        axes.text(j, i, text, ha="center", va="center", fontsize=7, color="white" if dark else "black")
    axes.set_xticks(range(grid.shape[1]), [f"{value:g}" for value in grid.columns])
    axes.set_yticks(range(grid.shape[0]), [f"{value:g}" for value in grid.index])
    axes.set_xlabel(columns)
    axes.set_ylabel(rows)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    figure.colorbar(image, ax=axes, label=metric_name(metric)).outline.set_visible(False)
    return figure


@styled
def clouds(table: pd.DataFrame, by: str) -> Any:
    """Points at columns x and y, a square panel per value of column `by` beside one another."""
    groups = list(table.groupby(by, sort=False))
    figure = _figure(0.3 + WIDTH / len(groups))
    for i, (panel, (name, rows)) in enumerate(zip(figure.subplots(1, len(groups), squeeze=False)[0], groups, strict=True)):
        panel.scatter(rows["x"], rows["y"], s=1.5, linewidths=0, alpha=0.6, color=COLOURS[i], rasterized=True)
        panel.set(title=name, xticks=[], yticks=[], xlabel="t-SNE 1", aspect="equal", adjustable="datalim")
        panel.set_ylabel("t-SNE 2" if i == 0 else None)
        panel.title.set_fontsize(8)
        panel.spines[["top", "right"]].set_visible(True)
    return figure


@styled
def densities(table: pd.DataFrame, by: str) -> Any:
    """The columns `density` over `angle` (degrees), a line per value of column `by`."""
    groups = list(table.groupby(by, sort=False))
    figure = _figure(1.9)
    axes = figure.subplots()
    for i, (name, rows) in enumerate(groups):
        axes.plot(rows["angle"], rows["density"], color=COLOURS[i], linestyle=DASHES[i], label=name)
    axes.set(xlabel="angle (degrees)", ylabel="density (per radian)", xlim=(-180, 180), xticks=range(-180, 181, 90))
    axes.set_ylim(bottom=0)
    axes.grid(axis="y")
    figure.legend(loc="outside upper center", ncols=len(groups))
    return figure


def _figure(height: float) -> Any:
    matplotlib()
    from matplotlib.figure import Figure

    return Figure(figsize=(WIDTH, height))


def _deviations(table: pd.DataFrame, column: str) -> pd.Series | None:
    """The standard deviations of a column; None where no row has one."""
    name = f"{column}_std"
    return table[name].fillna(0) if name in table and table[name].notna().any() else None
