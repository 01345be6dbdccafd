"""Tables of a comparison, in the layout of the MambaRec paper's Table 2, as text, Markdown, CSV or LaTeX."""

import csv
import io
import re
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from statistics import mean

from analysis.comparison import METRICS, TESTED, Comparison, Entry
from utils.errors import ConfigError
from utils.words import count


@dataclass(frozen=True)
class Cell:
    """A text with its emphasis; starred where a test says so."""

    text: str
    bold: bool = False
    underlined: bool = False
    star: bool = False


@dataclass(frozen=True)
class Table:
    """Rows of cells under column names; `groups` spans columns: (name, how many), the first being that of the row names."""

    title: str
    columns: list[str]
    rows: list[list[Cell]]
    caption: str = ""
    groups: list[tuple[str, int]] = field(default_factory=list)
    last_apart: bool = False  # a rule before the last row

    @property
    def alignment(self) -> str:
        """A letter a column: 'l' for words, as the first is, 'r' for figures."""
        words = (all(row[i].text[:1].isalpha() for row in self.rows) for i in range(len(self.columns)))
        return "".join("l" if i == 0 or of_words else "r" for i, of_words in enumerate(words))


def performance_table(comparison: Comparison, metrics: Sequence[str] = METRICS) -> Table:
    """Test metrics by model and data set, mean ± standard deviation over seeds, and the gain over the strongest baseline."""
    rows = []
    ranked = {
        (dataset, metric): sorted({round(entry.mean(metric), 4) for entry in comparison.column(dataset)}, reverse=True)
        for dataset in comparison.datasets
        for metric in metrics
    }
    starred = {(test.dataset, test.label) for test in comparison.tests if test.is_significant}
    for label in comparison.labels:
        row = [Cell(label)]
        for dataset in comparison.datasets:
            entry = comparison.entries.get((label, dataset))
            for metric in metrics:
                if entry is None:
                    row.append(Cell("–"))
                    continue
                place = ranked[dataset, metric].index(round(entry.mean(metric), 4))
                star = metric == TESTED and (dataset, label) in starred
                row.append(Cell(mean_and_deviation(entry, metric), bold=place == 0, underlined=place == 1, star=star))
        rows.append(row)
    if comparison.reference and len(comparison.labels) > 1:
        gains = [comparison.gain(dataset, metric) for dataset in comparison.datasets for metric in metrics]
        rows.append([Cell("Improv."), *(Cell("–" if gain is None else f"{gain:+.2%}") for gain in gains)])
    return Table(
        "Test performance" + (", GRID POINTS CHOSEN ON TEST as MMRec does" if comparison.by_test else ""),
        ["Model", *(_short(metric) for _ in comparison.datasets for metric in metrics)],
        rows,
        _caption(comparison),
        [("", 1), *((dataset, len(metrics)) for dataset in comparison.datasets)],
        last_apart=bool(comparison.reference) and len(comparison.labels) > 1,
    )


def mean_and_deviation(entry: Entry, metric: str) -> str:
    """'0.1000 ± 0.0100' over the seeds of an entry; the mean alone where there is one seed."""
    deviation = entry.deviation(metric)
    return f"{entry.mean(metric):.4f}" + (f" ± {deviation:.4f}" if deviation is not None else "")


def _short(metric: str) -> str:
    name, _, cutoff = metric.partition("@")
    return f"{ {'recall': 'R', 'ndcg': 'N'}.get(name, name.capitalize()) }@{cutoff}"


def _caption(comparison: Comparison) -> str:
    entries = list(comparison.entries.values())
    seeds = sorted({len(entry.records) for entry in entries})
    parts = [f"{'Mean ± standard deviation over' if seeds[-1] > 1 else 'Of'} {_span(seeds)} seed{'s' * (seeds[-1] > 1)}."]
    if comparison.by_test:
        parts.append("The grid points were chosen on TEST, for comparison with MMRec only: these figures are optimistic.")
    else:
        parts.append("Each model at its best grid point on validation.")
    parts.append("Best in bold, second best underlined.")
    if comparison.tests:
        parts.append(
            f"*: {comparison.reference} differs from this model in Recall@20, Wilcoxon signed-rank test over users (values "
            f"averaged over seeds), p < 0.05 after Holm's correction for {_comparisons(comparison)}."
        )
        parts.append(f"Improv.: {comparison.reference} over the strongest other model.")
    left_out = [f"{entry.label} on {entry.dataset} {entry.n_incomplete}" for entry in entries if entry.n_incomplete]
    if left_out:
        parts.append(f"Grid points left out for want of a seed: {', '.join(left_out)}.")
    parts.append(f"Budget: {_budget(comparison)}.")
    return " ".join(parts)


def _comparisons(comparison: Comparison) -> str:
    count = len(comparison.tests)
    return f"{count} comparison{'s' * (count > 1)}"


def _budget(comparison: Comparison) -> str:
    """Trials, epochs and seconds per model; the trials once when all models have the same number."""
    texts = []
    for dataset in comparison.datasets:
        column = comparison.column(dataset)
        trials = [count(entry.n_trials, "trial") for entry in column]
        equal = len(set(trials)) == 1
        each = ", ".join(
            " ".join([entry.label, *([] if equal else [own]), count(entry.n_epochs, "epoch"), f"{entry.seconds:.0f} s"])
            for entry, own in zip(column, trials, strict=True)
        )
        texts.append(f"{dataset}, {trials[0]} of each model: {each}" if equal else f"{dataset}, {each}")
    return "; ".join(texts)


def _span(numbers: Sequence[int]) -> str:
    return f"{numbers[0]}" if len(numbers) == 1 else f"{numbers[0]} to {numbers[-1]}"


def efficiency_table(comparison: Comparison) -> Table:
    """Size, time and memory of each model at its chosen grid point, means over seeds."""
    rows = []
    for dataset in comparison.datasets:
        for entry in comparison.column(dataset):
            results = [record.result for record in entry.records]
            peaks = [result["peak_memory_mb"] for result in results if result["peak_memory_mb"]]
            cells = [
                dataset,
                entry.label,
                f"{results[0]['parameters']:,}",
                f"{results[0]['parameters_without_features']:,}",
                f"{mean(result['seconds_per_epoch'] for result in results):.2f}",
                f"{mean(result['best_epoch'] + 1 for result in results):.0f}",
                f"{mean(result['epochs'] for result in results):.0f}",
                f"{mean(peaks):,.0f}" if peaks else "–",
            ]
            rows.append([Cell(text) for text in cells])
    columns = "Data set|Model|Parameters|without raw features|Seconds per epoch|Epochs to best|Epochs|Peak memory, MB"
    machines = sorted(
        {
            f"{record.environment['device']}, {record.environment['threads']} thread{'s' * (record.environment['threads'] > 1)}"
            for entry in comparison.entries.values()
            for record in entry.records
        }
    )
    caption = f"Means over seeds. Seconds of training alone, without evaluation; {'; '.join(machines)}."
    return Table("Efficiency", columns.split("|"), rows, caption)


def significance_table(comparison: Comparison) -> Table:
    """The tests of the reference against each other model."""
    rows = []
    for one in comparison.tests:
        test = one.test
        texts = [one.dataset, one.label, f"{test.difference:+.4f}", f"{test.low:+.4f} to {test.high:+.4f}"]
        texts += [_p(test.wilcoxon), _p(one.wilcoxon_adjusted), _p(test.t_test), _p(one.t_test_adjusted)]
        rows.append([Cell(text, star=i == 5 and one.is_significant) for i, text in enumerate(texts)])
    columns = "Data set|Against|Difference|95% interval|Wilcoxon p|Holm|t-test p|Holm"
    caption = (
        f"{comparison.reference} minus the other model, Recall@20 of each user, averaged over seeds. Interval: percentile "
        "bootstrap over users. Wilcoxon signed-rank test, zero differences ranked (Pratt); paired t-test; Holm's correction "
        f"over {_comparisons(comparison)}. *: p < 0.05."
    )
    reference = comparison.reference or ""
    entries = [
        (comparison.entries[reference, one.dataset], comparison.entries[one.label, one.dataset]) for one in comparison.tests
    ]
    if any(one.seeds != other.seeds for one, other in entries):
        caption += " Two models with different seeds are compared on those that both have."
    return Table("Significance", columns.split("|"), rows, caption)


def _p(value: float) -> str:
    return "< 1e-4" if value < 1e-4 else f"{value:.4f}"


def all_tables(comparison: Comparison, metrics: Sequence[str] = METRICS) -> list[Table]:
    """Performance, efficiency and, with a reference, significance; ConfigError for a metric that the runs did not compute."""
    computed = next(iter(comparison.entries.values())).records[0].result["test"]
    for metric in metrics:
        if metric not in computed:
            raise ConfigError(f"metrics: the runs have no '{metric}'; they have {', '.join(computed)}")
    tables = [performance_table(comparison, metrics), efficiency_table(comparison)]
    return [*tables, significance_table(comparison)] if comparison.tests else tables


# renderings


def as_text(table: Table) -> str:
    """For a terminal: **bold** as it is in Markdown, _underlined_."""
    rows = [table.columns, *([_marked(cell, "**", "_", "*") for cell in row] for row in table.rows)]
    widths = [max(len(row[i]) for row in rows) for i in range(len(table.columns))]
    sides = [{"l": "<", "r": ">"}[letter] for letter in table.alignment]
    lines = ["  ".join(f"{text:{side}{width}}" for text, side, width in zip(row, sides, widths, strict=True)) for row in rows]
    if table.groups:
        spans, start = [], 0
        for name, count in table.groups:
            width = sum(widths[start : start + count]) + 2 * (count - 1)
            spans.append(f"{name:^{width}}")
            start += count
        lines.insert(0, "  ".join(spans))
    rule = "-" * max(map(len, lines))
    lines.insert(2 if table.groups else 1, rule)
    if table.last_apart:
        lines.insert(-1, rule)
    return "\n".join([table.title, "", *(line.rstrip() for line in lines), *_wrapped(table.caption)])


def _wrapped(caption: str) -> list[str]:
    return ["", *textwrap.wrap(caption, 128)] if caption else []


def as_markdown(table: Table) -> str:
    """For GitHub; several data sets are named in the column names."""
    names = list(table.columns)
    if len(table.groups) > 2:
        groups = [name for name, count in table.groups for _ in range(count)]
        names = [f"{group} {name}".strip() for group, name in zip(groups, names, strict=True)]
    title = f"**{table.title}**" + (f" ({table.groups[1][0]})" if len(table.groups) == 2 else "")
    lines = [title, "", f"| {' | '.join(names)} |", f"|{'---|' * len(names)}"]
    for row in table.rows:
        texts = [_marked(cell, "**", "<u>", r"\*").replace("|", r"\|") for cell in row]
        lines.append(f"| {' | '.join(texts)} |")
    return "\n".join([*lines, "", table.caption.replace("*:", "\\*:")] if table.caption else lines)


def as_csv(table: Table) -> str:
    """Plain figures, one row a model; mean and deviation in one cell as printed, and no marks."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    groups = [name for name, count in table.groups for _ in range(count)] or [""] * len(table.columns)
    writer.writerow([f"{group} {name}".strip() for group, name in zip(groups, table.columns, strict=True)])
    writer.writerows([cell.text for cell in row] for row in table.rows)
    return buffer.getvalue().rstrip("\n")


def as_latex(table: Table) -> str:
    """A table environment for booktabs, across both columns of a page where it has two, and narrow enough for two data sets."""
    lines = [r"\begin{table*}", r"\centering", f"\\caption{{{_latex(table.caption or table.title)}}}"]
    lines.append(r"\footnotesize\setlength{\tabcolsep}{3pt}")
    lines += [f"\\begin{{tabular}}{{{table.alignment}}}", r"\toprule"]
    if table.groups:
        lines.append(
            " & ".join(f"\\multicolumn{{{count}}}{{c}}{{{_latex(name)}}}" if name else "" for name, count in table.groups)
            + r" \\"
        )
        start = 1
        for name, count in table.groups:
            if name:
                lines.append(f"\\cmidrule(lr){{{start}-{start + count - 1}}}")
            start += count
    lines += [" & ".join(map(_latex, table.columns)) + r" \\", r"\midrule"]
    rows = [" & ".join(_latex_cell(cell) for cell in row) + r" \\" for row in table.rows]
    if table.last_apart:
        rows.insert(-1, r"\midrule")
    return "\n".join([*lines, *rows, r"\bottomrule", r"\end{tabular}", r"\end{table*}"])


def _latex_cell(cell: Cell) -> str:
    figure, sign, deviation = cell.text.partition(" ± ")
    text = _latex(figure) + f"{{\\tiny$\\pm${deviation.removeprefix('0')}}}" * bool(sign)
    text = f"\\textbf{{{text}}}" if cell.bold else f"\\underline{{{text}}}" if cell.underlined else text
    return text + "$^*$" * cell.star


_LATEX = {"\\": r"\textbackslash{}", "±": r"$\pm$", "–": "--", "<": "$<$"} | {mark: f"\\{mark}" for mark in "&%$#_{}"}


def _latex(text: str) -> str:
    escaped = "".join(_LATEX.get(mark, mark) for mark in text)
    return re.sub(r"(?<![\w.-])-(?=\d)", "$-$", escaped)  # a minus, where the hyphen is one


def _marked(cell: Cell, bold: str, underline: str, star: str) -> str:
    closing = underline.replace("<", "</")
    text = f"{bold}{cell.text}{bold}" if cell.bold else f"{underline}{cell.text}{closing}" if cell.underlined else cell.text
    return text + star * cell.star


FORMATS: dict[str, Callable[[Table], str]] = {"text": as_text, "markdown": as_markdown, "csv": as_csv, "latex": as_latex}


def rendered(comparison: Comparison, form: str = "text", metrics: Sequence[str] = METRICS) -> str:
    """All tables of a comparison in one of FORMATS; ConfigError for a metric that the runs did not compute."""
    return "\n\n".join(FORMATS[form](table) for table in all_tables(comparison, metrics))
