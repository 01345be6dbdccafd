"""Tables of a comparison, in the layout of the MambaRec paper's Table 2, as text, Markdown, CSV or LaTeX."""

import csv
import io
import re
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from statistics import mean

from mambarec.analysis.comparison import METRICS, TESTED, Comparison, Entry
from mambarec.analysis.fairness import BUDGET_KEYS
from mambarec.base.cells import guarded
from mambarec.base.errors import ConfigError
from mambarec.base.words import count, is_python, listed, seeds_text, value_text

CAPPED = "†"


@dataclass(frozen=True)
class Cell:
    """A text with its emphasis; starred where a test says so. mark: a sign behind it that the caption explains."""

    text: str
    bold: bool = False
    underlined: bool = False
    star: bool = False
    mark: str = ""


@dataclass(frozen=True)
class Table:
    """Rows of cells under column names; `groups` spans columns: (name, how many), the first being that of the row names.

    notes: what a reader must know, a thought each.
    """

    title: str
    columns: list[str]
    rows: list[list[Cell]]
    notes: list[str] = field(default_factory=list)
    groups: list[tuple[str, int]] = field(default_factory=list)
    last_apart: bool = False  # a rule before the last row

    @property
    def caption(self) -> str:
        """The notes in one paragraph."""
        return " ".join(self.notes)

    @property
    def alignment(self) -> str:
        """A letter a column: 'l' for words, as the first is, 'r' for figures."""
        words = (all(row[i].text[:1].isalpha() for row in self.rows) for i in range(len(self.columns)))
        return "".join("l" if i == 0 or of_words else "r" for i, of_words in enumerate(words))


def performance_table(comparison: Comparison, metrics: Sequence[str] = METRICS) -> Table:
    """Test metrics by model and data set, mean ± standard deviation over seeds, and the gain over the strongest baseline."""
    rows = []
    peers = {dataset: found for dataset in comparison.datasets if len(found := comparison.peers(dataset)) > 1}
    ranked = {
        (dataset, metric): sorted({round(entry.mean(metric), 4) for entry in found}, reverse=True)
        for dataset, found in peers.items()
        for metric in metrics
    }
    ranks = {(entry.label, dataset) for dataset, found in peers.items() for entry in found}
    starred = {(test.dataset, test.label) for test in comparison.tests if test.is_significant}
    capped = {entry.label for entry in comparison.entries.values() if entry.at_cap}
    for label in comparison.labels:
        row = [Cell(label, mark=f" {CAPPED}" * (label in capped))]
        for dataset in comparison.datasets:
            entry = comparison.entries.get((label, dataset))
            for metric in metrics:
                if entry is None:
                    row.append(Cell("–"))
                    continue
                value = round(entry.mean(metric), 4)
                place = ranked[dataset, metric].index(value) if (label, dataset) in ranks else -1
                star = metric == TESTED and (dataset, label) in starred
                row.append(Cell(mean_and_deviation(entry, metric), bold=place == 0, underlined=place == 1, star=star))
        rows.append(row)
    by_test = comparison.by_test and any(entry.n_points > 1 for entry in comparison.entries.values())
    gains = [comparison.gain(dataset, metric) for dataset in comparison.datasets for metric in metrics]
    has_gains = any(gain is not None for gain in gains)
    if has_gains:
        rows.append([Cell("Improv."), *(Cell("–" if gain is None else f"{gain:+.2%}") for gain in gains)])
    return Table(
        "Test performance" + (", GRID POINTS CHOSEN ON TEST as MMRec does" if by_test else ""),
        ["Model", *(_short(metric) for _ in comparison.datasets for metric in metrics)],
        rows,
        _notes(comparison, has_gains),
        [("", 1), *((dataset, len(metrics)) for dataset in comparison.datasets)],
        last_apart=has_gains,
    )


def mean_and_deviation(entry: Entry, metric: str) -> str:
    """'0.1000 ± 0.0100' over the seeds of an entry; the mean alone where there is one seed."""
    deviation = entry.deviation(metric)
    return f"{entry.mean(metric):.4f}" + (f" ± {deviation:.4f}" if deviation is not None else "")


def _short(metric: str) -> str:
    name, _, cutoff = metric.partition("@")
    return f"{ {'recall': 'R', 'ndcg': 'N'}.get(name, name.capitalize()) }@{cutoff}"


def _notes(comparison: Comparison, has_gains: bool) -> list[str]:
    """Search points, split, seeds, budget, marks, tests, what else a reader must know, and what the runs cost."""
    several = any(len(comparison.column(dataset)) > 1 for dataset in comparison.datasets)
    has_ranks = any(len(comparison.peers(dataset)) > 1 for dataset in comparison.datasets)
    among = f" among the rows with the budget of {comparison.reference}" if _budgets_differ(comparison) else ""
    among = among if comparison.reference else ""
    parts = [
        points_sentence(comparison),
        _seeds_sentence(comparison),
        *tuned_sentences(comparison),
        *unusual_sentences(comparison),
        _processes_sentence(comparison),
        *budget_sentences(comparison),
        _cap_sentence(comparison),
        f"Best in bold, second best underlined{among}." if has_ranks else "",
        "No row is marked as the best, because the rows have different budgets." if several and not has_ranks else "",
    ]
    if comparison.tests:
        parts.append(
            f"*: the row differs from {comparison.reference} in Recall@20. Two tests over users, the Wilcoxon signed-rank test "
            "and the paired t-test, both have p < 0.05 after Holm's correction for "
            f"{count(len(comparison.tests), 'comparison')}. The value of a user is the mean over the seeds."
        )
        if any(len(seeds) == 1 for seeds in comparison.seeds.values()):
            parts.append("With one seed, a star speaks of these runs: another seed may give another result.")
    if has_gains:
        parts.append(f"Improv.: {comparison.reference} against the strongest other row{among}.")
    return [part for part in (*parts, *comparison.notes, *_cost_sentences(comparison)) if part]


def points_sentence(comparison: Comparison) -> str:
    """How many settings of each row were tried, and what chose among them."""
    tried = {key: entry.n_points for key, entry in comparison.entries.items()}
    if set(tried.values()) == {1}:
        return "One setting was tried for each row." if len(tried) > 1 else "One setting was tried."
    by = "TEST chose the one shown, as MMRec does, so the figures are optimistic" if comparison.by_test else None
    by = by or "validation chose the one shown"
    where = len(comparison.datasets) > 1
    entries = [entry for dataset in comparison.datasets for entry in comparison.column(dataset) if entry.n_points > 1]
    by += ": " + ", ".join(f"{entry.label}{f' on {entry.dataset}' * where} {entry.setting}" for entry in entries)
    if len(set(tried.values())) == 1:
        return f"Settings tried{' of each row' * (len(tried) > 1)}: {next(iter(tried.values()))}; {by}."
    texts = []
    for dataset in comparison.datasets:
        column = comparison.column(dataset)
        most = [f"{entry.label} {entry.n_points}" for entry in column if entry.n_points > 1]
        rest = ["all others 1"] if len(column) - len(most) > 1 else [f"{one.label} 1" for one in column if one.n_points == 1]
        prefix = f"on {dataset} " * (len(comparison.datasets) > 1)
        texts.append(prefix + ", ".join([*most, *rest]))
    return f"Settings tried: {'; '.join(texts)}; {by}."


def _seeds_sentence(comparison: Comparison) -> str:
    """The split, and the seeds that all rows share, of each data set where these differ."""
    seeds = {dataset: seeds_text(found) for dataset, found in comparison.seeds.items()}
    if len(set(seeds.values())) == 1:
        which = next(iter(seeds.values()))
        where = f"the test {'split' if len(seeds) == 1 else 'splits'} of {listed(list(seeds))}"
    else:
        which = "; ".join(f"{dataset} {text}" for dataset, text in seeds.items())
        where = "the test splits"
    several = any(len(found) > 1 for found in comparison.seeds.values())
    same = ", the same for all rows" * (len(comparison.labels) > 1)
    return f"Figures of {where}, {'mean ± standard deviation over ' if several else ''}{which}{same}."


def _budgets_differ(comparison: Comparison) -> bool:
    return any(
        entry.budget != comparison.column(dataset)[0].budget
        for dataset in comparison.datasets
        for entry in comparison.column(dataset)
    )


def budget_sentences(comparison: Comparison) -> list[str]:
    """What limited the runs; of each data set where these differ. What rows have differently, their names say."""
    texts: dict[str, list[str]] = {}
    for dataset in comparison.datasets:
        budgets = [entry.budget for entry in comparison.column(dataset)]
        first = budgets[0]
        varied = {key for key in BUDGET_KEYS if len({str(one[key]) for one in budgets}) > 1}
        epochs = "the epochs that the row names" if "epochs" in varied else count(first["epochs"], "epoch")
        step = (
            "the evaluations that the row names" if "stopping_step" in varied else count(first["stopping_step"], "evaluation")
        )
        often = f", one every {first['eval_step']} epochs," if first["eval_step"] != 1 and "eval_step" not in varied else ""
        metric = "metric" if "valid_metric" in varied else first["valid_metric"]
        start = (
            "the min_epochs that the row names"
            if "min_epochs" in varied
            else f"the first {count(first['min_epochs'], 'epoch')}"
        )
        counted = f". Evaluations in {start} do not count" if "min_epochs" in varied or first["min_epochs"] else ""
        text = (
            f"at most {epochs}. A run stops early after {step}{often} without a better validation {metric}{counted}. The "
            "figures are those of the epoch with the best validation value"
        )
        texts.setdefault(text, []).append(dataset)
    if len(texts) == 1:
        return [f"Budget: {next(iter(texts))}."]
    return [f"Budget on {listed(datasets)}: {text}." for text, datasets in texts.items()]


def tuned_sentences(comparison: Comparison) -> list[str]:
    """Which rows have values that a search has kept, and how long these searches were, as the files say."""
    found: dict[str, list[str]] = {}
    for dataset in comparison.datasets:
        for entry in comparison.column(dataset):
            if record := next((one for one in entry.records if one.tuned()), None):
                name = record.tuned()
                found.setdefault(record.tuned_budget(), []).append(f"{entry.label} ({name})")
    if not found:
        return []
    if len(found) == 1:
        (limit,) = found
        names, each = found[limit], "The search of each had" if len(found[limit]) > 1 else "Its search had"
        return [f"Tuned on validation: {listed(names)}. {each} the budget: {limit}."]
    texts = [f"{listed(names)} with the budget: {limit}" for limit, names in found.items()]
    return [f"Tuned on validation, WITH DIFFERENT BUDGETS: {'; '.join(texts)}."]


def unusual_sentences(comparison: Comparison) -> list[str]:
    """Which rows have other values than their YAMLs, but for those that names, chosen points or the budget say."""
    found: dict[str, list[str]] = {}
    entries = [entry for dataset in comparison.datasets for entry in comparison.column(dataset)]
    for entry in entries:
        said, others = f"{entry.label} {entry.setting}".split(), entry.records[0].unusual()
        words = [f"{key}={value_text(value)}" for key, value in others.items() if key not in {*BUDGET_KEYS, "tuned"}]
        if words := [word for word in words if word not in said]:
            where = f" on {entry.dataset}" * (len(comparison.datasets) > 1)
            found.setdefault(" ".join(words), []).append(f"{entry.label}{where}")
    if not found:
        return []
    texts = [f"{'all rows' if len(names) == len(entries) > 1 else listed(names)} {words}" for words, names in found.items()]
    return [f"Other values than those of the YAMLs: {'; '.join(texts)}."]


def _processes_sentence(comparison: Comparison) -> str:
    """Which runs had sampled steps that several processes shared: BatchNorm, MMD and contrasts see less of a batch there."""
    texts = []
    for entry in comparison.entries.values():
        for record in entry.records:
            n = record.environment.get("processes", 1)
            if n > 1 and record.config.get("propagation") == "sampled":
                texts.append(f"{entry.label} on {entry.dataset} seed {record.seed} by {n}")
    return f"Trained by several processes, each with a part of every batch: {'; '.join(texts)}." if texts else ""


def _cap_sentence(comparison: Comparison) -> str:
    entries = [entry for dataset in comparison.datasets for entry in comparison.column(dataset) if entry.at_cap]
    if not entries:
        return "No run ended at its last epoch: all stopped early."
    where = len(comparison.datasets) > 1
    texts = [f"{entry.label}{f' on {entry.dataset}' * where} {entry.at_cap} of {len(entry.records)}" for entry in entries]
    return f"{CAPPED}: runs that ended at their last epoch and might have improved: {', '.join(texts)}."


def _cost_sentences(comparison: Comparison) -> list[str]:
    """Runs, epochs and seconds of each row, all its settings together; a sentence for each data set."""
    texts = []
    for dataset in comparison.datasets:
        each = "; ".join(
            f"{entry.label} {count(entry.n_trials, 'run')}, {count(entry.n_epochs, 'epoch')}, {entry.seconds:.0f} s"
            for entry in comparison.column(dataset)
        )
        where = f" on {dataset}" * (len(comparison.datasets) > 1)
        texts.append(f"Cost{where}, all settings and seeds together: {each}.")
    return texts


def efficiency_table(comparison: Comparison) -> Table:
    """Size, time and memory of each row at its chosen grid point, means over seeds."""
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
    notes = [
        "Each value is the mean over the seeds.",
        "The seconds are those of training, without evaluation.",
        f"Machine: {'; '.join(machines)}.",
    ]
    return Table("Efficiency", columns.split("|"), rows, notes)


def significance_table(comparison: Comparison) -> Table:
    """The tests of the reference against each other model."""
    rows = []
    for one in comparison.tests:
        test = one.test
        texts = [one.dataset, one.label, f"{test.difference:+.4f}", f"{test.low:+.4f} to {test.high:+.4f}"]
        texts += [_p(test.wilcoxon), _p(one.wilcoxon_adjusted), _p(test.t_test), _p(one.t_test_adjusted)]
        rows.append([Cell(text, star=i == 5 and one.is_significant) for i, text in enumerate(texts)])
    columns = "Data set|Against|Difference|95% interval|Wilcoxon p|after Holm|t-test p|after Holm"
    datasets = {one.dataset for one in comparison.tests}
    used = {dataset: found for dataset, found in comparison.seeds.items() if dataset in datasets}
    said = {dataset: seeds_text(found) for dataset, found in used.items()}
    alike = len(set(said.values())) == 1
    seeds = next(iter(said.values())) if alike else "; ".join(f"{text} on {dataset}" for dataset, text in said.items())
    several = any(len(found) > 1 for found in used.values())
    averaged = f", each with the mean over {seeds}" if several else f", {seeds}"
    notes = [
        f"Difference: {comparison.reference} minus the other row, in test Recall@20. It is the mean over users{averaged}.",
        "Interval: percentile bootstrap over users.",
        "The Wilcoxon signed-rank test also ranks users without a difference (Pratt). The t-test is paired. Holm's correction "
        f"is for {count(len(comparison.tests), 'comparison')}.",
        "*: p < 0.05 in both tests after the correction.",
    ]
    return Table("Significance", columns.split("|"), rows, notes)


def _p(value: float) -> str:
    return "< 1e-4" if value < 1e-4 else f"{value:.4f}"


def all_tables(comparison: Comparison, metrics: Sequence[str] | None = None) -> list[Table]:
    """Performance, efficiency and, where there are tests, significance.

    metrics: None for those of METRICS that every run computed. ConfigError for one that a run did not compute.
    """
    records = [record for entry in comparison.entries.values() for record in entry.records]
    for metric in metrics or ():
        for record in records:
            if metric not in record.result["test"]:
                there = ", ".join(record.result["test"])
                raise ConfigError(f"metrics: the runs have no '{metric}'; {record.source} has {there}")
    shown = list(dict.fromkeys(metrics or ())) or [
        metric for metric in METRICS if all(metric in record.result["test"] for record in records)
    ]
    if not shown:
        there = ", ".join(records[0].result["test"])
        hint = f"Table.to_frame() has {there}" if is_python() else f"choose among {there} with --metrics"
        raise ConfigError(f"the runs have none of {', '.join(METRICS)}; {hint}")
    tables = [performance_table(comparison, shown), efficiency_table(comparison)]
    return [*tables, significance_table(comparison)] if comparison.tests else tables


def chosen_lines(comparison: Comparison) -> str:
    """Of each row the setting that was chosen and its test figure, and what a reader must know besides."""
    lines = []
    for dataset in comparison.datasets:
        for entry in comparison.column(dataset):
            metric = entry.records[0].valid_metric
            name = " ".join(text for text in (f"{entry.label} on {dataset}", entry.setting) if text)
            by = f"chosen of {entry.n_points} on {'TEST' if comparison.by_test else 'validation'}, " * (entry.n_points > 1)
            capped = f"; {entry.at_cap} of {count(len(entry.records), 'run')} ended at the last epoch" if entry.at_cap else ""
            lines.append(f"{name}: {by}test {metric} {mean_and_deviation(entry, metric)}, {seeds_text(entry.seeds)}{capped}")
    return "\n".join([*lines, *comparison.notes])


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
    notes = [textwrap.fill(note, 128, initial_indent="- ", subsequent_indent="  ") for note in table.notes]
    return "\n".join([table.title, "", *(line.rstrip() for line in lines), *[""] * bool(notes), *notes])


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
    notes = [f"- {note.replace('*', chr(92) + '*')}" for note in table.notes]
    return "\n".join([*lines, *[""] * bool(notes), *notes])


def as_csv(table: Table) -> str:
    """Plain figures, one row a model; mean and deviation in one cell as printed, no marks, and no commas in numbers."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    groups = [name for name, count in table.groups for _ in range(count)] or [""] * len(table.columns)
    writer.writerow([f"{group} {name}".strip() for group, name in zip(groups, table.columns, strict=True)])
    for row in table.rows:
        writer.writerow([guarded(row[0].text), *(_without_commas(cell.text) for cell in row[1:])])
    return buffer.getvalue().rstrip("\n")


def _without_commas(text: str) -> str:
    return text.replace(",", "") if re.fullmatch(r"\d{1,3}(,\d{3})+", text) else text


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
    return text + "$^*$" * cell.star + _latex(cell.mark)


_LATEX = {"\\": r"\textbackslash{}", "±": r"$\pm$", "–": "--", "<": "$<$", "†": r"$\dagger$"} | {
    mark: f"\\{mark}" for mark in "&%$#_{}"
}


def _latex(text: str) -> str:
    escaped = "".join(_LATEX.get(mark, mark) for mark in text)
    return re.sub(r"(?<![\w.-])-(?=\d)", "$-$", escaped)  # a minus, where the hyphen is one


def _marked(cell: Cell, bold: str, underline: str, star: str) -> str:
    closing = underline.replace("<", "</")
    text = f"{bold}{cell.text}{bold}" if cell.bold else f"{underline}{cell.text}{closing}" if cell.underlined else cell.text
    return text + star * cell.star + cell.mark


FORMATS: dict[str, Callable[[Table], str]] = {"text": as_text, "markdown": as_markdown, "csv": as_csv, "latex": as_latex}
ENDINGS = {".txt": "text", ".md": "markdown", ".csv": "csv", ".tex": "latex"}  # of files in one of FORMATS


def rendered(comparison: Comparison, form: str = "text", metrics: Sequence[str] | None = None) -> str:
    """All tables of a comparison in one of FORMATS; metrics and ConfigError as all_tables."""
    return "\n\n".join(FORMATS[form](table) for table in all_tables(comparison, metrics))
