"""One self-contained page of a data set's finished runs: tables, training curves, study figures, settings.

The page is page/report.html filled in, with report.css and report.js inside it. It loads nothing: its Content-Security-Policy
allows this one script, this one style sheet and pictures that are within the page, and every text is escaped. The same runs
and figures give the same bytes.
"""

import base64
import hashlib
import json
import math
import re
import shlex
import struct
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from analysis.comparison import METRICS, Comparison, compare
from analysis.records import Record
from analysis.tables import Table, all_tables
from utils.configurator import NEUTRAL_KEYS, SRC, Config
from utils.dataset import SPLITS, RecDataset
from utils.errors import RunError, UserError
from utils.words import duration

PAGE = Path(__file__).parent / "page"
DIGITS = 6  # significant digits of the curves' values
NUMBER_LINES = 60  # a figure's numbers are in the page up to this many lines
_PLACES = NEUTRAL_KEYS | {"model", "dataset", "device"}  # no default to differ from
_DATA_KEYS = (
    "inter_file_name",
    "field_separator",
    "USER_ID_FIELD",
    "ITEM_ID_FIELD",
    "inter_splitting_label",
    "filter_out_cod_start_users",
)
_URI_SAFE = " !$()*+,-./:;=?@[]_{}~"  # in a data URI within double quotes


@dataclass(frozen=True)
class Run:
    """What the page says of one run. differing: (key, value, default) where the YAMLs say otherwise; None if none is known."""

    label: str
    record: Record
    is_chosen: bool
    command: str
    differing: list[tuple[str, str, str]] | None


@dataclass(frozen=True)
class Embedded:
    """A study's figure. source: a data URI. size: width and height, for their ratio. numbers: its CSV, if that is short."""

    name: str
    source: str
    size: tuple[float, float]
    caption: str
    numbers: str


def report(
    records: Iterable[Record],
    figures: Iterable[Path] = (),
    reference: str | None = None,
    metrics: Sequence[str] = METRICS,
) -> str:
    """The page, HTML, of runs of one data set and of the figures in some folders.

    RunError as compare, and for a figure that cannot be read; ConfigError for a metric that the runs did not compute.
    """
    records = list(records)
    comparison = compare(records, reference)
    runs = _runs(records, comparison)
    css, js = (Markup((PAGE / f"report.{kind}").read_text(encoding="utf-8")) for kind in ("css", "js"))
    templates = Environment(
        loader=FileSystemLoader(PAGE), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    templates.filters.update(text=_text, anchor=_anchor)
    return templates.get_template("report.html").render(
        dataset=records[0].dataset,
        facts=_facts(runs, comparison),
        tables=[_without_dataset(table) for table in all_tables(comparison, metrics)],
        is_numeric=_is_numeric,
        models=Counter(run.record.model for run in runs),
        curves=_script_json([_curve(run) for run in runs]),
        pictures=[_picture(stem) for folder in figures for stem in _stems(folder)],
        runs=runs,
        environments=_environments(runs),
        css=css,
        js=js,
        css_hash=_hash(css),
        js_hash=_hash(js),
    )


# runs

Key = tuple[str, str, int]  # model, settings, seed


def _runs(records: Sequence[Record], comparison: Comparison) -> list[Run]:
    """Each run once, in the table's order of models; the runs of a model's chosen grid point before the others."""
    chosen = {_key(record) for entry in comparison.entries.values() for record in entry.records}
    unique = {_key(record): record for record in records}
    defaults = {model: _defaults(model, records[0].dataset) for model in comparison.labels}
    labels = _labels(unique, defaults)
    order = sorted(unique, key=lambda key: (comparison.labels.index(key[0]), key not in chosen, _natural(labels[key])))
    return [
        Run(labels[key], record, key in chosen, _command(record), _differing(record.config, defaults[record.model]))
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
    program, *words = record.environment.get("command") or [""]
    return f"python {shlex.join([Path(program).name, *words])}" if program else ""


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


def _curve(run: Run) -> dict[str, Any]:
    """What the script draws: of each epoch the validation metric and the loss, null where there is none."""
    record = run.record
    return {
        "label": run.label,
        "model": record.model,
        "chosen": run.is_chosen,
        "metric": record.valid_metric,
        "best": record.result["best_epoch"],
        "valid": [_rounded(row.get("valid", {}).get(record.valid_metric)) for row in record.epochs],
        "loss": [_rounded(row.get("loss")) for row in record.epochs],
    }


def _rounded(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else float(f"{value:.{DIGITS}g}")


# head and foot


def _facts(runs: Sequence[Run], comparison: Comparison) -> list[tuple[str, str]]:
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
        ("Epochs", f"{sum(entry.n_epochs for entry in entries):,}"),
        ("Time of all runs", duration(sum(entry.seconds for entry in entries))),
    ]


def _dataset(records: Sequence[Record]) -> RecDataset | None:
    """The very data that the runs read, from where they read it or from data/; None where it is in neither."""
    record = max(records, key=lambda one: len(one.environment.get("data_files", {})))
    keys = [key for key in record.config if key in _DATA_KEYS or key.endswith("_feature_file")]
    given = {key: record.config[key] for key in keys if record.config[key] is not None}
    for path in (record.config.get("data_path"), SRC.parent / "data"):
        try:
            dataset = RecDataset(Config(record.model, record.dataset, {**given, "data_path": f"{path}"}))
            if dataset.fingerprint == record.environment.get("data"):
                return dataset
        except UserError:
            continue
    return None


def _environments(runs: Sequence[Run]) -> list[tuple[str, list[tuple[str, int]]]]:
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
    return sorted({path.with_suffix("") for path in folder.glob("*") if path.suffix in (".svg", ".png")})


def _picture(stem: Path) -> Embedded:
    """Of SVG and PNG the one that is smaller within the page, with the caption and the numbers beside it."""

    def read(suffix: str) -> bytes:
        path = stem.with_name(f"{stem.name}.{suffix}")
        return path.read_bytes() if path.exists() else b""

    try:
        svg, caption, numbers = (read(suffix).decode("utf-8").strip() for suffix in ("svg", "txt", "csv"))
        png = read("png")
        forms = []
        if svg:
            forms.append(("data:image/svg+xml," + quote(svg.replace("\n", " "), safe=_URI_SAFE), _svg_size(svg)))
        if png:
            forms.append(("data:image/png;base64," + base64.b64encode(png).decode(), _png_size(png)))
    except (OSError, ValueError) as error:
        raise RunError(f"{stem}: this figure cannot be read ({error}); draw it again, or remove it") from None
    source, size = min(forms, key=lambda form: len(form[0]))
    is_short = numbers.count("\n") < NUMBER_LINES
    return Embedded(stem.name, source, size, caption or stem.name, numbers if is_short else "")


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


def _is_numeric(table: Table, column: int) -> bool:
    """Whether a column holds numbers, or dashes for want of one, so that it is set to the right and sorted by value."""
    return all(re.match(r"(< )?[-+]?\d|–$", row[column].text) for row in table.rows)


def _script_json(content: Any) -> Markup:
    """JSON in which no text can end the script element around it."""
    return Markup(json.dumps(content, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c"))


def _hash(text: str) -> str:
    """The name by which a Content-Security-Policy allows an inline script or style sheet."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
