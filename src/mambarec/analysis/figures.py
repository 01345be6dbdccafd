"""How figures look and are saved: at a paper's column width, light and dark, each with its title, numbers and caption.

Lines are told apart by colour, and without it by markers and dashes.
A figure is drawn from a table of its numbers, a row per bar, point or cell. A column `<name>_std` beside a column `<name>` is
the standard deviation over seeds, NaN where there is one seed, and becomes the error bars. matplotlib is part of the optional
extra [report].
"""

import functools
import io
import textwrap
from collections.abc import Callable, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from mambarec.base.cells import guarded_frame
from mambarec.base.extras import optional
from mambarec.base.files import replacing, write_text

WIDTH = 3.3  # inches, a column of a two-column paper
_PIXELS = 700  # the width of a figure in a notebook
DARK = "-dark"  # ends the name of the form for dark pages
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "*")
DASHES = ("-", "--", "-.", ":")
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
    "lines.linewidth": 1.1,
    "lines.markersize": 3.5,
    "errorbar.capsize": 2,
    "xtick.minor.size": 0,
    "savefig.dpi": 300,
    "svg.hashsalt": "mambarec",  # the same figure gives the same bytes
}


@dataclass(frozen=True)
class Theme:
    """Colours of the paper, of texts and axes, of grid lines and of series; of the bars of the default and of the others."""

    paper: str
    ink: str
    rule: str
    series: tuple[str, ...]
    default: str
    other: str

    @property
    def settings(self) -> dict[str, Any]:
        """STYLE in these colours."""
        of_paper = ("figure.facecolor", "axes.facecolor", "savefig.facecolor")
        of_ink = ("text.color", "axes.labelcolor", "axes.edgecolor", "axes.titlecolor", "xtick.color", "ytick.color")
        return STYLE | dict.fromkeys(of_paper, self.paper) | dict.fromkeys(of_ink, self.ink) | {"grid.color": self.rule}


# The series are Okabe and Ito's palette, told apart with every kind of colour vision; on dark paper lighter where needed.
LIGHT = Theme(
    "#FFFFFF",
    "#000000",
    "#DDDDDD",
    ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000"),
    "#0072B2",
    "#56B4E9",
)
NIGHT = Theme(
    "#16181A",
    "#E4E4E1",
    "#3B3F43",
    ("#4DB1F0", "#FF8A4C", "#35C79A", "#E08CC6", "#E69F00", "#9AD3FF", "#E4E4E1"),
    "#4DB1F0",
    "#2C6089",
)
_THEME: ContextVar[Theme] = ContextVar("theme", default=LIGHT)
_METRICS = {"recall": "Recall", "ndcg": "NDCG", "map": "MAP", "mrr": "MRR", "hitrate": "Hit rate", "precision": "Precision"}


@dataclass(frozen=True)
class XAxis:
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
    """A figure with what belongs to it: the stem of its files, how it is drawn, its numbers, its caption, and its title.

    about: the line under the title, which says of what data and seeds the figure is.
    """

    name: str
    draw: Callable[[], Any]
    numbers: pd.DataFrame
    caption: str
    title: str
    about: str

    @cached_property
    def figure(self) -> Any:
        """The figure on light paper."""
        return self._drawn(LIGHT)

    def save(self, folder: Path) -> list[Path]:
        """Write <name>.png, .svg, -dark.svg, .csv and .txt (the caption) into `folder`; returns their paths."""
        folder.mkdir(parents=True, exist_ok=True)
        paths = [folder / f"{self.name}{end}" for end in (".png", ".svg", f"{DARK}.svg", ".csv", ".txt")]
        with matplotlib().rc_context(LIGHT.settings), replacing(paths[0]) as file:
            self.figure.savefig(file, format="png", metadata={"Software": None})
        write_text(paths[1], self.svg(LIGHT))
        write_text(paths[2], self.svg(NIGHT))
        write_text(paths[3], guarded_frame(self.numbers).to_csv(index=False))
        write_text(paths[4], self.caption + "\n")
        return paths

    def svg(self, theme: Theme) -> str:
        """The figure on the paper of a theme."""
        text = io.StringIO()
        figure = self.figure if theme is LIGHT else self._drawn(theme)
        with matplotlib().rc_context(theme.settings):
            figure.savefig(text, format="svg", metadata={"Date": None, "Creator": None})
        return text.getvalue()

    def _drawn(self, theme: Theme) -> Any:
        token = _THEME.set(theme)
        try:
            figure = self.draw()
            return _entitled(figure, self.title, self.about)
        finally:
            _THEME.reset(token)


def current_theme() -> Theme:
    """The colours to draw in."""
    return _THEME.get()


def matplotlib() -> Any:
    """The package, or ConfigError that says how to get it."""
    return optional("matplotlib", "matplotlib", "report", "figures need")


def styled(draw: Callable[..., Any]) -> Callable[..., Any]:
    """Let a function draw in STYLE and the colours of the theme, whatever the settings around it."""

    @functools.wraps(draw)
    def drawn(*arguments: Any, **options: Any) -> Any:
        with matplotlib().rc_context(current_theme().settings):
            return draw(*arguments, **options)

    return drawn


def metric_name(metric: str) -> str:
    """'recall@20' -> 'Recall@20', 'ndcg@20' -> 'NDCG@20'."""
    name, _, cutoff = metric.partition("@")
    return f"{_METRICS.get(name, name.capitalize())}@{cutoff}"


def over_seeds(frame: pd.DataFrame, keys: Sequence[str], quantities: Sequence[str]) -> pd.DataFrame:
    """A row per model and values of `keys`: means over seeds, and standard deviations as <quantity>_std."""
    grouped = frame.groupby(["model", *keys], sort=False, observed=True)
    table = grouped[list(quantities)].mean()
    deviations = grouped[list(quantities)].std().add_suffix("_std")
    both = pd.concat([table, deviations], axis=1)[[name for each in quantities for name in (each, f"{each}_std")]]
    return both.join(grouped.size().rename("seeds")).reset_index()


@styled
def bars(table: pd.DataFrame, metrics: Sequence[str], names: str = "label") -> Any:
    """Horizontal bars with their values, a row of the table each, and a panel per metric beside one another.

    Those where a column `is_default` is true are dark and say so, all are dark where there is no such column.
    """
    theme = current_theme()
    defaults = table.get("is_default")
    labels = [textwrap.fill(name, 18) for name in table[names]]
    if defaults is not None:
        labels = [f"{name}\n(default)" if default else name for name, default in zip(labels, defaults, strict=True)]
    figure = new_figure(0.55 + sum(0.14 + 0.11 * (label.count("\n") + 1) for label in labels))
    panels = figure.subplots(1, len(metrics), sharey=True, squeeze=False)[0]
    places = np.arange(len(table))
    colours = [theme.default if default else theme.other for default in table.get("is_default", [True] * len(table))]
    for panel, metric in zip(panels, metrics, strict=True):
        values, errors = table[metric], _deviations(table, metric)
        panel.barh(places, values, 0.7, color=colours, xerr=errors, ecolor=theme.ink, error_kw={"lw": 0.8, "capsize": 2})
        ends = values if errors is None else values + errors
        for place, value, end in zip(places, values, ends, strict=True):
            panel.annotate(f"{value:.4f}", (end, place), (3, 0), textcoords="offset points", va="center", fontsize=6)
        longest = max(ends.max(), 1e-9)
        panel.set_xlim(0, 1.5 * longest)  # room for the values
        panel.set_xlabel(metric_name(metric))
        panel.set_xticks(_round_values(longest))
        panel.spines["bottom"].set_bounds(0, longest)
        panel.tick_params(axis="y", length=0)
    panels[0].set_yticks(places, labels)
    panels[0].invert_yaxis()  # the first on top
    return figure


def _round_values(highest: float) -> list[float]:
    """0 and two or three round values up to `highest`."""
    from matplotlib.ticker import MaxNLocator

    return [value for value in MaxNLocator(3).tick_values(0, highest) if 0 <= value <= highest]


@styled
def lines(table: pd.DataFrame, x: XAxis, panels: Sequence[Panel], by: str | None = None) -> Any:
    """Lines over x, a panel under the other; a line per column of the panel, or per value of the table's column `by`.

    The value of x where a column `is_default` is true is marked.
    """
    theme = current_theme()
    groups = [(None, table)] if by is None else list(table.groupby(by, sort=False))
    columns = _legend_columns([str(name) for name, _ in groups]) if by else 0
    below = -(-len(groups) // columns) if by else 0  # rows of the legend
    x_label = textwrap.fill(x.label, 44)
    figure = new_figure(0.45 + 1.15 * len(panels) + 0.16 * below + 0.12 * x_label.count("\n"))
    all_axes = figure.subplots(len(panels), 1, sharex=True, squeeze=False)[:, 0]
    for axes, panel in zip(all_axes, panels, strict=True):
        series = [(group or name, rows, column) for group, rows in groups for column, name in panel.columns.items()]
        ends = [0.0] if panel.from_zero else []
        for i, (name, rows, column) in enumerate(series):
            values = rows[column] / panel.unit
            errors = _deviations(rows, column)
            errors = None if errors is None else errors / panel.unit
            axes.errorbar(
                rows[x.column],
                values,
                errors,
                color=theme.series[i % len(theme.series)],
                marker=MARKERS[i % len(MARKERS)],
                linestyle=DASHES[i % len(DASHES)],
                elinewidth=0.8,
                label=name,
            )
            spread = 0 if errors is None else errors
            ends += [float((values - spread).min()), float((values + spread).max())]
        axes.set_ylabel(panel.label)
        axes.grid(axis="y")
        axes.locator_params(axis="y", nbins=5)
        axes.margins(y=0.08)
        if panel.from_zero:
            axes.set_ylim(0, 1.08 * max(max(ends), 1e-9))
        axes.spines["left"].set_bounds(min(ends), max(ends))
        axes.spines["bottom"].set_bounds(table[x.column].min(), table[x.column].max())
        for default in table[x.column][table["is_default"]] if "is_default" in table else []:
            axes.axvline(default, color=theme.ink, linewidth=0.6, linestyle=":", zorder=0)
        if by is None and len(series) > 1:
            axes.legend(loc="best", ncols=len(series), borderaxespad=0.2)
    if by:
        figure.legend(*all_axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=columns)
    _show_x(all_axes[-1], table, x)
    all_axes[-1].set_xlabel(x_label)
    figure.align_ylabels(all_axes)
    return figure


def _show_x(axes: Any, table: pd.DataFrame, x: XAxis) -> None:
    """Scale, and ticks at the values of the table alone, the default among them named."""
    if x.log:
        axes.set_xscale("log", base=x.log)
    shown = table.drop_duplicates(x.column)
    texts = [f"{value:g}" for value in shown[x.column]] if x.ticks is None else list(shown[x.ticks])
    defaults = shown.get("is_default", [False] * len(shown))
    texts = [f"{text}\ndefault" if default else text for text, default in zip(texts, defaults, strict=True)]
    axes.set_xticks(shown[x.column], texts)


def _legend_columns(names: Sequence[str]) -> int:
    """How many columns, 3 at most, a legend of these names can have in WIDTH. matplotlib fills one column after another."""
    from matplotlib.textpath import TextPath

    size = 7  # that of the legend
    widths = [TextPath((0, 0), name, size=size).get_extents().width + 5 * size for name in names]  # the line and spaces too
    for columns in (3, 2):
        length = -(-len(names) // columns)
        if sum(max(widths[start : start + length]) for start in range(0, len(names), length)) <= 72 * WIDTH:
            return min(columns, len(names))
    return 1


@styled
def heat_map(table: pd.DataFrame, rows: str, columns: str, metric: str, names: Mapping[str, str] | None = None) -> Any:
    """A cell per pair of values of two columns, its number in it; a pair that the table lacks stays empty.

    names: what the axes are called. The cell where a column `is_default` is true has a frame and says so.
    """
    names = names or {}
    grid = table.pivot(index=rows, columns=columns, values=metric).sort_index(ascending=False)
    found = table[table["is_default"]] if "is_default" in table else table[:0]
    default = {(row[rows], row[columns]) for _, row in found.iterrows()}
    figure = new_figure(0.75 + 0.36 * len(grid))
    axes = figure.subplots()
    image = axes.imshow(grid, cmap="cividis", aspect="auto")
    for (i, j), value in np.ndenumerate(grid.to_numpy()):
        dark = image.norm(value) < 0.55  # a single value is 0 on the scale, hence dark
        colour = current_theme().ink if np.isnan(value) else "white" if dark else "black"
        text = "–" if np.isnan(value) else f"{value:.4f}"
        if (grid.index[i], grid.columns[j]) in default:
            text += "\ndefault"
            axes.add_patch(_frame(i, j, colour))
        axes.text(j, i, text, ha="center", va="center", fontsize=7, color=colour)
    axes.set_xticks(range(grid.shape[1]), [f"{value:g}" for value in grid.columns])
    axes.set_yticks(range(grid.shape[0]), [f"{value:g}" for value in grid.index])
    axes.set_xlabel(names.get(columns, columns))
    axes.set_ylabel(textwrap.fill(names.get(rows, rows), 20))
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    figure.colorbar(image, ax=axes, label=metric_name(metric)).outline.set_visible(False)
    return figure


def _frame(row: int, column: int, colour: str) -> Any:
    """Just within a cell of a heat map."""
    from matplotlib.patches import Rectangle

    return Rectangle((column - 0.47, row - 0.44), 0.94, 0.88, fill=False, edgecolor=colour, linewidth=1.2)


@styled
def clouds(table: pd.DataFrame, by: str) -> Any:
    """Points at columns x and y, a square panel per value of column `by` beside one another."""
    groups, series = list(table.groupby(by, sort=False)), current_theme().series
    figure = new_figure(0.3 + WIDTH / len(groups))
    for i, (panel, (name, rows)) in enumerate(zip(figure.subplots(1, len(groups), squeeze=False)[0], groups, strict=True)):
        panel.scatter(rows["x"], rows["y"], s=1.5, linewidths=0, alpha=0.6, color=series[i], rasterized=True)
        panel.set(title=name, xticks=[], yticks=[], xlabel="t-SNE 1", aspect="equal", adjustable="datalim")
        panel.set_ylabel("t-SNE 2" if i == 0 else None)
        panel.title.set_fontsize(8)
        panel.spines[["top", "right"]].set_visible(True)
    return figure


@styled
def densities(table: pd.DataFrame, by: str) -> Any:
    """The columns `density` over `angle` (degrees), a line per value of column `by`."""
    groups, series = list(table.groupby(by, sort=False)), current_theme().series
    figure = new_figure(2.0)
    axes = figure.subplots()
    for i, (name, rows) in enumerate(groups):
        axes.plot(rows["angle"], rows["density"], color=series[i], linestyle=DASHES[i], label=name)
    axes.set(xlabel="angle (degrees)", ylabel="density (per radian)", xlim=(-180, 180), xticks=range(-180, 181, 90))
    axes.set_ylim(0, 1.05 * table["density"].max())
    axes.spines["left"].set_bounds(0, table["density"].max())
    axes.grid(axis="y")
    figure.legend(loc="outside lower center", ncols=len(groups))
    return figure


@styled
def _entitled(figure: Any, title: str, about: str) -> Any:
    """Put title and subtitle above a figure, which grows by them."""
    text = "\n".join([*textwrap.wrap(title, 56), *textwrap.wrap(about, 60)])
    width, height = figure.get_size_inches()
    figure.set_size_inches(width, height + 0.06 + 0.135 * (text.count("\n") + 1))
    figure.suptitle(text, x=0.01, ha="left", fontsize=7.5)
    return figure


def new_figure(height: float, width: float = WIDTH, **options: Any) -> Any:
    """An empty figure; its size in inches. A notebook shows it as a picture, also where pyplot was not imported."""
    return _figure_class()(figsize=(width, height), **options)


@functools.cache
def _figure_class() -> Any:
    matplotlib()
    from matplotlib import figure

    class Figure(figure.Figure):
        """A figure that a notebook shows _PIXELS wide."""

        def _repr_png_(self) -> bytes:
            file = io.BytesIO()
            self.savefig(file, format="png", dpi=_PIXELS / self.get_figwidth())
            return file.getvalue()

    return Figure


def _deviations(table: pd.DataFrame, column: str) -> pd.Series | None:
    """The standard deviations of a column; None where no row has one."""
    name = f"{column}_std"
    return table[name].fillna(0) if name in table and table[name].notna().any() else None
