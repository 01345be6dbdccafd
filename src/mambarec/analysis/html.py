"""One self-contained page of a data set's runs: what the tests say, a chart, tables, training curves, study figures, settings.

The page is page/report.html filled in, with report.css and report.js inside it. It loads nothing: its Content-Security-Policy
allows this one script, this one style sheet and pictures that are within the page, and every text is escaped. The same runs
and figures give the same bytes.
"""

import base64
import json
import math
import re
import struct
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

from jinja2 import Environment
from markupsafe import Markup

from mambarec.analysis.comparison import TESTED, Comparison, compare
from mambarec.analysis.fairness import check_computed
from mambarec.analysis.figures import DARK, LIGHT, NIGHT
from mambarec.analysis.live import COLUMNS, FAILED, Live, Unfinished
from mambarec.analysis.published import published_here
from mambarec.analysis.ranking import Ranking, ranked, ranking
from mambarec.analysis.ranks import diagram, ranks, ranks_table
from mambarec.analysis.records import Record
from mambarec.analysis.tables import Table, all_tables
from mambarec.analysis.verdict import Verdict, verdict
from mambarec.base.errors import ConfigError, RunError, UserError
from mambarec.base.pages import content_hash, templates
from mambarec.base.places import DATA
from mambarec.base.words import command_text, duration, listed
from mambarec.config.configurator import Config
from mambarec.config.keys import NEUTRAL_KEYS, keys_with, modality_of
from mambarec.data.dataset import SPLITS, RecDataset
from mambarec.experiments.summary import failed_alike

PAGE = Path(__file__).parent / "page"
DIGITS = 6  # significant digits of the curves' values
SORTED_BY = "R@20"  # the column of the metric that orders rows, as the tables name it
NUMBER_LINES = 60  # a figure's numbers are in the page up to this many lines
_PLACES = NEUTRAL_KEYS | {"model", "dataset", "device"}  # no default to differ from
_DATA_KEYS = keys_with("data")
_URI_SAFE = " !$()*+,-./:;=?@[]_{}~"  # in a data URI within double quotes
_SRCSET_SAFE = _URI_SAFE.replace(" ", "").replace(",", "")  # which separate the pictures of a set


@dataclass(frozen=True)
class ShownRun:
    """What the page says of one run. differing: (key, value, default) where the YAMLs say otherwise; None if none is known."""

    label: str
    record: Record
    is_chosen: bool
    command: str
    differing: list[tuple[str, str, str]] | None


@dataclass(frozen=True)
class Embedded:
    """A study's figure. source, dark: data URIs, the second for a dark page, empty where there is none. size: width and height,
    for their ratio. numbers: its CSV, if that is short."""

    name: str
    source: str
    dark: str
    size: tuple[float, float]
    caption: str
    numbers: str


@dataclass(frozen=True)
class Answer:
    """What the finished runs of a data set say. It takes seconds to find, so a live page keeps it while no run has ended."""

    records: list[Record]
    comparison: Comparison
    verdict: Verdict
    ranking: Ranking
    tables: list[Table]
    facts: list[tuple[str, str]]
    runs: list[ShownRun]


def answer(
    records: Iterable[Record], reference: str | None = None, metrics: Sequence[str] | None = None, notes: Sequence[str] = ()
) -> Answer:
    """Of finished runs of one data set.

    RunError as compare, and for runs without Recall@20; ConfigError for another metric that the runs did not compute.
    """
    records = list(records)
    check_computed(records, [TESTED])
    comparison = compare(records, reference, notes=notes)
    dataset = records[0].dataset
    tables = [_without_dataset(table) for table in all_tables(comparison, metrics)]
    said, runs = verdict(comparison, dataset), _runs(records, comparison)
    order = [entry.label for entry in ranked(comparison.column(dataset))]
    beside = published_here(records, dataset)
    return Answer(
        records,
        comparison,
        said,
        ranking(comparison, dataset, said),
        [*(_sorted(table, order) for table in tables), *([beside] if beside else [])],
        _facts(runs, comparison),
        runs,
    )


def report(
    records: Iterable[Record],
    figures: Iterable[Path] = (),
    reference: str | None = None,
    metrics: Sequence[str] | None = None,
    notes: Sequence[str] = (),
) -> str:
    """The page, HTML, of finished runs of one data set and of the figures in some folders; metrics and notes as in the tables.

    RunError as compare, and for a figure that cannot be read; ConfigError for a metric that the runs did not compute.
    """
    found = answer(records, reference, metrics, notes)
    return page(found.records[0].dataset, found, figures)


class LivePage:
    """Writes the page of a data set at any moment; what finished runs say is found again only when there are more of them."""

    def __init__(self, dataset: str, figures: Sequence[Path], reference: str | None, metrics: Sequence[str] | None):
        self.dataset, self.figures, self.reference, self.metrics = dataset, figures, reference, metrics
        self.known: tuple[list[Path], Answer | None] = ([], None)
        self.obstacle = ""

    def page(self, records: Sequence[Record], live: Live) -> str:
        """ConfigError as `answer`. Runs that cannot be compared yet, and a reference without a finished run, are no error."""
        sources = [record.source for record in records]
        if sources != self.known[0]:
            asked = (self.reference or "").split(" ")[0].lower()
            awaited = self.reference if any(record.model.lower() == asked for record in records) else None
            try:
                self.known, self.obstacle = (sources, answer(records, awaited, self.metrics) if records else None), ""
            except RunError as error:
                self.known, self.obstacle = (sources, None), f"The finished runs cannot be compared yet: {error}"
        return page(self.dataset, self.known[1], self.figures, live, self.obstacle)


def page(dataset: str, found: Answer | None, figures: Iterable[Path] = (), live: Live | None = None, obstacle: str = "") -> str:
    """The page of a data set. found: None while no run has finished, or for an obstacle. live: what makes it a live page."""
    css, js = (Markup((PAGE / f"report.{kind}").read_text(encoding="utf-8")) for kind in ("css", "js"))
    runs = found.runs if found else []
    going_on = list(zip(_going_on_labels(live.runs), live.runs, strict=True)) if live else []
    curves = [*map(_curve, runs), *(_going_on_curve(label, run) for label, run in going_on)]
    return (
        _templates()
        .get_template("report.html")
        .render(
            dataset=dataset,
            found=found,
            sentence=found.verdict.sentence if found else obstacle or "No run has finished yet.",
            tables=found.tables if found else [],
            is_numeric=_is_numeric,
            is_sorted_by=lambda table, column: table.columns[column] == SORTED_BY,
            live=live,
            going_on=[(label, run.words(live.written)) for label, run in going_on] if live else [],
            live_columns=COLUMNS,
            failed=failed_alike(
                [(label, run.error) for label, run in going_on if run.state(live.written) == FAILED] if live else []
            ),
            models=Counter(curve["model"] for curve in curves),
            curves=_script_json(curves),
            pictures=[_picture(stem) for folder in figures for stem in _stems(folder)],
            runs=runs,
            environments=_environments(runs),
            css=css,
            js=js,
            css_hash=content_hash(css),
            js_hash=content_hash(js),
        )
    )


def overview(answers: Mapping[str, Answer], pages: Mapping[str, str], reference: str | None = None) -> str:
    """The page above those of several data sets: what the tests say on each, and ranks over all. pages: relative addresses."""
    css = Markup((PAGE / "report.css").read_text(encoding="utf-8"))
    found = ranks(compare([record for each in answers.values() for record in each.records], reference))
    picture, reason = None, ""
    try:
        drawn = diagram(found)
        if drawn:
            light, dark = drawn.svg(LIGHT), drawn.svg(NIGHT)
            picture = Embedded(drawn.name, _svg_uri(light), _svg_uri(dark, _SRCSET_SAFE), _svg_size(light), drawn.caption, "")
    except ConfigError as error:
        reason = str(error)
    return (
        _templates()
        .get_template("overview.html")
        .render(
            verdicts={dataset: each.verdict for dataset, each in answers.items()},
            pages={dataset: quote(address) for dataset, address in pages.items()},
            table=ranks_table(found),
            picture=picture,
            reason=reason,
            css=css,
            css_hash=content_hash(css),
        )
    )


def _templates() -> Environment:
    found = templates(PAGE)
    found.filters.update(text=_text, anchor=_anchor)
    return found


# runs

Key = tuple[str, str, int]  # model, settings, seed


def _runs(records: Sequence[Record], comparison: Comparison) -> list[ShownRun]:
    """Each run once, in the table's order of rows; the runs that the table shows before the others of the row."""
    chosen = {_key(record) for entry in comparison.entries.values() for record in entry.records}
    unique = {_key(record): record for record in records}
    rows = {
        _key(record): comparison.labels.index(entry.label) for entry in comparison.entries.values() for record in entry.runs
    }
    defaults = {model: _defaults(model, records[0].dataset) for model in {record.model for record in records}}
    labels = _labels(unique, defaults)
    order = sorted(unique, key=lambda key: (rows.get(key, len(rows)), key not in chosen, _natural(labels[key])))
    return [
        ShownRun(labels[key], record, key in chosen, _command(record), _differing(record.config, defaults[record.model]))
        for key in order
        for record in [unique[key]]
    ]


def _key(record: Record) -> Key:
    return record.model, json.dumps(_settings(record), sort_keys=True), record.seed


def _settings(record: Record) -> dict[str, Any]:
    return record.settings() | record.machine()


def _labels(records: dict[Key, Record], defaults: dict[str, dict[str, Any] | None]) -> dict[Key, str]:
    """Each run's model, those settings that vary between the model's runs and are not the default here, and the seed."""
    n_runs = Counter(record.model for record in records.values())
    values: dict[tuple[str, str], list[str]] = {}
    for record in records.values():
        for key, value in _settings(record).items():
            values.setdefault((record.model, key), []).append(_text(value))
    varied = {place for place, found in values.items() if len(found) < n_runs[place[0]] or len(set(found)) > 1}
    labels = {}
    for name, record in records.items():
        usual = defaults[record.model] or {}
        settings = {key: value for key, value in _settings(record).items() if (record.model, key) in varied}
        named = [f"{key}={_word(value)}" for key, value in settings.items() if key not in usual or usual[key] != value]
        labels[name] = " ".join([record.model, *named, f"seed {record.seed}"])
    return labels


def _natural(label: str) -> list[str | float]:
    """To sort by: numbers within the label count by their value."""
    parts = re.split(r"(\d+\.?\d*(?:e-?\d+)?)", label)
    return [float(part) if i % 2 else part for i, part in enumerate(parts)]


def _command(record: Record) -> str:
    arguments = record.environment.get("command") or [""]
    return command_text(arguments) if arguments[0] else ""


def _differing(config: dict[str, Any], defaults: dict[str, Any] | None) -> list[tuple[str, str, str]] | None:
    if defaults is None:
        return None
    return [
        (key, _text(value), _text(defaults[key]) if key in defaults else "–")
        for key, value in config.items()
        if key not in _PLACES and (key not in defaults or defaults[key] != value)
    ]


def _defaults(model: str, dataset: str) -> dict[str, Any] | None:
    """The settings of this version's YAMLs; None for a model or a data set that it does not know."""
    try:
        return Config(model, dataset).plain()
    except UserError:
        return None


def _curve(run: ShownRun) -> dict[str, Any]:
    record = run.record
    return _drawn(run.label, record.model, run.is_chosen, record.valid_metric, record.result["best_epoch"], record.epochs)


def _drawn(
    label: str, model: str, is_chosen: bool, metric: str, best: int | None, epochs: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    """What the script draws: of each epoch the validation metric and the loss, null where there is none. Epochs are from 0."""
    return {
        "label": label,
        "model": model,
        "chosen": is_chosen,
        "metric": metric,
        "best": best,
        "valid": [_rounded(row.get("valid", {}).get(metric)) for row in epochs],
        "loss": [_rounded(row.get("loss")) for row in epochs],
    }


def _going_on_labels(runs: Sequence[Unfinished]) -> list[str]:
    """Each unfinished run's model and seed, and the settings in which those of a model differ."""
    labels = []
    for run in runs:
        peers = [peer.config for peer in runs if peer.model == run.model]
        varied = [
            key for key in run.config if key not in _PLACES | {"seed"} and any(one.get(key) != run.config[key] for one in peers)
        ]
        labels.append(" ".join([run.model, *(f"{key}={_word(run.config[key])}" for key in varied), f"seed {run.seed}"]))
    return labels


def _going_on_curve(label: str, run: Unfinished) -> dict[str, Any]:
    return _drawn(f"{label} (unfinished)", run.model, True, run.valid_metric, run.progress[0], run.epochs)


def _rounded(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else float(f"{value:.{DIGITS}g}")


# head and foot


def _facts(runs: Sequence[ShownRun], comparison: Comparison) -> list[tuple[str, str]]:
    """What heads the page: the data set, as far as its files are there, and how much was compared."""
    records = [run.record for run in runs]
    entries = list(comparison.entries.values())
    facts = []
    dataset = _dataset(records)
    if dataset:
        pairs = [len(dataset.users[split]) for split in SPLITS]
        widths = [f"{name} {width}" for name, width in dataset.feature_widths().items() if name in dataset.modalities]
        facts += [
            ("Users", f"{len(dataset.present_users):,}"),
            ("Items", f"{len(dataset.present_items):,}"),
            ("Pairs: training, validation, test", " / ".join(f"{count:,}" for count in pairs)),
            ("Density", f"{sum(pairs) / len(dataset.present_users) / len(dataset.present_items):.3%}"),
            ("Width of features", ", ".join(widths) or "none read"),
        ]
    return [
        *facts,
        ("Users tested", f"{len(records[0].users):,}"),
        ("Runs", f"{len(runs):,}"),
        ("Models", f"{len({record.model for record in records})}"),
        ("Grid points", f"{sum(entry.n_points for entry in entries):,}"),
        ("Seeds", ", ".join(map(str, sorted({record.seed for record in records})))),
        ("Epochs", f"{sum(record.result['epochs'] for record in records):,}"),
        ("Time of all runs", duration(sum(record.result["seconds_total"] for record in records))),
    ]


def _dataset(records: Sequence[Record]) -> RecDataset | None:
    """The very data that the runs read, from where they read it or from data/; None where it is in neither."""
    record = max(records, key=lambda one: len(one.environment.get("data_files", {})))
    keys = [key for key in record.config if key in _DATA_KEYS or modality_of(key)]
    given = {key: record.config[key] for key in keys if record.config[key] is not None}
    for path in (record.config.get("data_path"), DATA):
        try:
            dataset = RecDataset(Config(record.model, record.dataset, {**given, "data_path": f"{path}"}), of_finished_run=True)
            files = record.environment.get("data_files")
            if dict(dataset.digests) == files if files else dataset.fingerprint == record.environment.get("data"):
                return dataset
        except UserError:
            continue
    return None


def _environments(runs: Sequence[ShownRun]) -> list[tuple[str, list[tuple[str, int]]]]:
    """Versions, machines and data: the values of each, the most frequent first, and how many runs have them."""
    found: dict[str, Counter[str]] = {}
    for environment in (run.record.environment for run in runs):
        files = {f"SHA-256 of {name}": digest for name, digest in environment.get("data_files", {}).items()}
        for name, value in {**environment, **files}.items():
            if name not in ("command", "data", "data_files"):  # the first is with each run, the second a hash of the third
                found.setdefault(name, Counter())[_text(value)] += 1
    return [(name, values.most_common()) for name, values in found.items()]


# the figures of studies


def _stems(folder: Path) -> list[Path]:
    stems = {path.with_suffix("") for path in folder.glob("*") if path.suffix in (".svg", ".png")}
    return sorted(stem for stem in stems if not stem.name.endswith(DARK))


def _picture(stem: Path) -> Embedded:
    """Of SVG and PNG the one that is smaller within the page, the dark SVG, and the caption and the numbers beside them."""

    def read(suffix: str) -> bytes:
        path = stem.with_name(f"{stem.name}{suffix}")
        return path.read_bytes() if path.exists() else b""

    try:
        svg, dark, caption, numbers = (
            read(suffix).decode("utf-8").strip() for suffix in (".svg", f"{DARK}.svg", ".txt", ".csv")
        )
        png = read(".png")
        forms = []
        if svg:
            forms.append((_svg_uri(svg), _svg_size(svg)))
        if png:
            forms.append(("data:image/png;base64," + base64.b64encode(png).decode(), _png_size(png)))
        if not forms:
            raise ValueError("its file is empty")
    except (OSError, ValueError) as error:
        files = listed(sorted(path.name for path in stem.parent.glob("*") if path.with_suffix("") == stem))
        raise RunError(f"{stem}: this figure cannot be read ({error}); draw it again, or remove {files}") from None
    source, size = min(forms, key=lambda form: len(form[0]))
    is_short = numbers.count("\n") < NUMBER_LINES
    return Embedded(
        stem.name, source, _svg_uri(dark, _SRCSET_SAFE) if dark else "", size, caption or stem.name, numbers if is_short else ""
    )


def _svg_uri(svg: str, safe: str = _URI_SAFE) -> str:
    return "data:image/svg+xml," + quote(svg.replace("\n", " "), safe=safe)


def _svg_size(text: str) -> tuple[float, float]:
    box = re.search(r"""<svg\b[^>]*\sviewBox=["']\s*\S+?[\s,]+\S+?[\s,]+([\d.]+)[\s,]+([\d.]+)""", text)
    if not box:
        raise ValueError("its SVG has no viewBox")
    return float(box[1]), float(box[2])


def _png_size(data: bytes) -> tuple[float, float]:
    if data[:8] != b"\x89PNG\r\n\x1a\n" or len(data) < 24:
        raise ValueError("its PNG is none")
    return struct.unpack(">II", data[16:24])


# what the template needs


def _text(value: Any) -> str:
    return value if isinstance(value, str) and value.isprintable() else json.dumps(value, ensure_ascii=False)


def _word(value: Any) -> str:
    return ",".join(map(_text, value)) if isinstance(value, list) else _text(value)


def _anchor(title: str) -> str:
    return title.partition(",")[0].lower().replace(" ", "-")


def _without_dataset(table: Table) -> Table:
    """The page is of one data set, so that no column need name it."""
    if table.columns[0] != "Data set":
        return table
    return replace(table, columns=table.columns[1:], rows=[row[1:] for row in table.rows])


def _sorted(table: Table, order: Sequence[str]) -> Table:
    """The rows in the order of models, the last one apart from them; as it is where no column names the models."""
    rows, last = (table.rows[:-1], table.rows[-1:]) if table.last_apart else (table.rows, [])
    for i in range(len(table.columns)):
        if all(row[i].text in order for row in rows):
            return replace(table, rows=sorted(rows, key=lambda row: order.index(row[i].text)) + last)
    return table


def _is_numeric(table: Table, column: int) -> bool:
    """Whether a column holds numbers, or dashes for want of one, so that it is set to the right and sorted by value."""
    return all(re.match(r"(< )?[-+]?\d|–$", row[column].text) for row in table.rows)


def _script_json(content: Any) -> Markup:
    """JSON in which no text can end the script element around it."""
    return Markup(json.dumps(content, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c"))
