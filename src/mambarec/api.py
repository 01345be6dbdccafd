"""The Python interface, in the words of the command line: `import mambarec as mr; run = mr.train("MambaRec", "demo")`.

Every function raises a UserError (mambarec.base.errors). Its message says what to do. The command line's `--mmd_weight 0.1` is
`mmd_weight=0.1` here. Several values are a list, and make a grid.
"""

import io
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from mambarec.analysis.comparison import Comparison
from mambarec.analysis.tables import all_tables, rendered
from mambarec.base.errors import ConfigError, RunError
from mambarec.base.extras import optional
from mambarec.base.files import real
from mambarec.base.places import RESULTS
from mambarec.cli import prepare as preparing
from mambarec.cli import train as training
from mambarec.config.configurator import Axis
from mambarec.data.dataset import RecDataset
from mambarec.experiments.engines import LocalProcesses, threads_each
from mambarec.experiments.grid import plan
from mambarec.experiments.summary import failures
from mambarec.experiments.trials import prepare, run_trials
from mambarec.running.directory import RunDirectory
from mambarec.running.lookup import Described, choose_run, find_runs
from mambarec.running.trained import Trained, load_trained
from mambarec.serving import lists, vectors
from mambarec.serving.identifiers import user_identifiers
from mambarec.serving.titles import item_titles, with_titles


class Run(Described):
    """A finished run: its figures, and what its model recommends. `directory` holds its files."""

    def __init__(self, directory: str | Path):
        """directory: results/<data set>/<model>/seed…; RunError when it is not one of a finished run, or is damaged."""
        self.directory = real(Path(directory))
        self._files = RunDirectory(self.directory)
        result = self._files.result()
        if result is None:
            raise RunError(f"{self.directory} holds no finished run. mr.runs() lists those that there are")
        self.result: dict[str, Any] = result
        self.config: dict[str, Any] = self._files.read_json("config.json")

    @property
    def metrics(self) -> pd.DataFrame:
        """The figures of the best epoch: a row for each metric, such as recall@20; the columns are validation and test."""
        return pd.DataFrame({"validation": self.result["valid"], "test": self.result["test"]}).rename_axis("metric")

    @property
    def curves(self) -> pd.DataFrame:
        """A row for each epoch, counted from 1: loss, validation metrics and seconds. What was not computed is missing."""
        rows = self._files.metrics()
        frame = pd.DataFrame([row.get("valid") or {} for row in rows], index=pd.RangeIndex(1, len(rows) + 1, name="epoch"))
        frame.insert(0, "loss", [row.get("loss", np.nan) for row in rows])
        return frame.assign(**{key: [row.get(key) for row in rows] for key in ("seconds_train", "seconds_eval")})

    @cached_property
    def trained(self) -> Trained:
        """The model at its best epoch, with its data. It is opened when it is first needed, and checked against the run."""
        return load_trained(self.directory)

    @cached_property
    def _titles(self) -> pd.Series | None:
        return item_titles(self.trained.dataset)

    def recommend(
        self, users: Iterable[Any] | str | int | None = None, k: int = 10, include_seen: bool = False, reasons: int = 0
    ) -> pd.DataFrame:
        """Recommend the k best items to each user.

        The columns are user, item, rank (from 1) and score. The column title is there if the texts of the items are known.

        - `users`: original ids, one or several, or None for the users of the test split.
        - `include_seen`: whether the items that the user already had can be recommended.
        - `reasons`: the number of these items that are named as reasons, for each modality: the nearest ones.

        It raises DataError for a user who is not in the data.
        """
        _check_positive(k)
        dataset = self.trained.dataset
        if users is None:
            numbers = lists.evaluated_users(dataset)
        else:
            names = [str(user) for user in ([users] if isinstance(users, str | int) else users)]
            if not names:
                raise ConfigError("users is empty: name a user, or leave it out for the users of the test split")
            numbers = user_identifiers(dataset).numbers(names)
        frames = list(lists.recommend(self.trained, numbers, k, include_seen, reasons))
        return with_titles(pd.concat(frames, ignore_index=True), self._titles)

    def similar(self, item: Any, k: int = 10) -> pd.DataFrame:
        """Find the k items that are nearest to one by cosine.

        The columns are by (representation or a modality), item, rank and cosine, and title if the texts are known.
        """
        _check_positive(k)
        return with_titles(vectors.similar_items(self.trained, str(item), k), self._titles)

    def plot(self):
        """Draw the loss and the validation metric by epoch, as a matplotlib figure. ConfigError without matplotlib."""
        drawing = optional("matplotlib.figure", "matplotlib", "report", "Run.plot() needs")

        class Figure(drawing.Figure):
            """A figure that a notebook shows as a picture, also where pyplot was not imported."""

            def _repr_png_(self) -> bytes:
                file = io.BytesIO()
                self.savefig(file, format="png", dpi=100)
                return file.getvalue()

        figure = Figure(figsize=(7, 2.6), layout="constrained")
        curves = self.curves[["loss", self.valid_metric]].dropna(axis="columns", how="all")  # Pop and ItemKNN have no loss
        for axis, name in zip(figure.subplots(1, curves.shape[1], squeeze=False)[0], curves, strict=True):
            curve = curves[name].dropna()
            axis.plot(curve.index, curve)
            axis.set(xlabel="epoch", ylabel=name if name == "loss" else f"validation {name}")
            axis.axvline(self.result["best_epoch"] + 1, color="0.7", linestyle=":")
        return figure

    def __repr__(self) -> str:
        metric = self.valid_metric
        return (
            f"<Run {self.model} on {self.dataset}, seed {self.seed}: {self.result['epochs']} epochs, "
            f"best {self.result['best_epoch'] + 1}, {metric} validation "
            f"{self.result['valid'][metric]:.4f}, test {self.result['test'][metric]:.4f}>"
        )


def _check_positive(k: int) -> None:
    """ConfigError for a number of items that is none."""
    if not isinstance(k, int | np.integer) or k < 1:
        raise ConfigError(f"k={k}; expected a whole number above 0")


class Table:
    """Models side by side, on the same seeds, with tests of the reference against the others."""

    def __init__(self, comparison: Comparison, runs: Sequence[Run]):
        self.comparison, self.runs = comparison, list(runs)

    def to_frame(self) -> pd.DataFrame:
        """A row for each model and data set: seeds, points of the search, mean and standard deviation of each test metric."""
        rows = []
        for entry in self.comparison.entries.values():
            row: dict[str, Any] = {"model": entry.label, "dataset": entry.dataset, "seeds": len(entry.seeds)}
            row["points"] = entry.n_points
            for metric in entry.records[0].result["test"]:
                row[metric], row[f"{metric} std"] = entry.mean(metric), entry.deviation(metric)
            rows.append(row)
        return pd.DataFrame(rows)

    def to_markdown(self) -> str:
        """The tables with their captions in Markdown."""
        return rendered(self.comparison, "markdown")

    def to_latex(self) -> str:
        """The tables in LaTeX, for the package booktabs."""
        return rendered(self.comparison, "latex")

    def to_csv(self) -> str:
        """The tables as CSV."""
        return rendered(self.comparison, "csv")

    def __repr__(self) -> str:
        return rendered(self.comparison)

    def _repr_html_(self) -> str:
        parts = []
        for table in all_tables(self.comparison):
            frame = pd.DataFrame([[cell.text + "*" * cell.star + cell.mark for cell in row] for row in table.rows])
            frame.columns = pd.Index(table.columns)
            parts.append(f"<h4>{escape(table.title)}</h4>{frame.to_html(index=False)}<p>{escape(table.caption)}</p>")
        return "".join(parts)


def train(model: str = "MambaRec", dataset: str = "demo", *, restart: bool = False, **settings: Any) -> Run:
    """Train a model, or open its run if it is finished. A run that was stopped goes on.

    - `settings`: keys and values, such as `epochs=5`, `seed=1`, `data_path="…"`.
    - `restart`: delete what there is of this run, and start from the beginning.

    The training has a process of its own. Ctrl-C, or the stop button of a notebook, saves it. The same call goes on with it.

    It raises ConfigError for a key or a value that cannot be used, DataError for the data, and RunError if the training failed.
    """
    options, overrides = _asked([model], [dataset], settings, restart=restart)
    several = [key for key, value in overrides.items() if isinstance(value, Axis)]
    if several:
        raise ConfigError(f"{several[0]} has several values: mr.compare() or mr.search() trains a grid, mr.train() one run")
    trial = prepare(plan(options.model, options.dataset, overrides), anew=restart)[0]
    if restart:
        RunDirectory(trial.path).discard()
    [outcome] = run_trials([trial], LocalProcesses(1))
    if outcome.error:
        raise RunError(outcome.error)
    return Run(trial.path)


def compare(
    models: str | Sequence[str],
    dataset: str | Sequence[str] = "demo",
    seeds: Sequence[int] = (1, 2, 3),
    *,
    reference: str | None = None,
    name: str | None = None,
    jobs: int = 1,
    restart: bool = False,
    **settings: Any,
) -> Table:
    """Train models on the same seeds, and test the differences. Finished runs are not trained again.

    - `models`: names; or "all"; or "usable", which leaves out the models whose features or packages are missing.
    - `dataset`: one or several.
    - `reference`: the model that is tested against the others; MambaRec, if it is there.
    - `name`: a name for the experiment. `mambarec report table --experiment NAME` prints the table again.
    - `jobs`: the number of trials at the same time.
    - `settings`: as in `train`. A list makes a grid, and validation chooses its point.

    It raises the errors of `train`. RunError names every trial that failed.
    """
    datasets = [dataset] if isinstance(dataset, str) else list(dataset)
    names = [models] if isinstance(models, str) else list(models)
    return _table(names, datasets, {**settings, "seed": list(seeds)}, reference, name, jobs, restart)


def search(
    model: str,
    dataset: str = "demo",
    *,
    wide: bool = False,
    budget: int | None = None,
    sampler: str = "random",
    seeds: Sequence[int] = (1,),
    name: str | None = None,
    jobs: int = 1,
    restart: bool = False,
    **settings: Any,
) -> Table:
    """Try the points of the grid under `search_space` in the model's YAML, and choose one on validation.

    - `wide`: try the grid under `wide_search_space`, which is larger.
    - `budget`: the number of points to try; without it, all.
    - `sampler`: how they are chosen. random, or tpe, which learns from earlier points.

    The others are as in `compare`.
    """
    words = [
        "--search",
        *(["wide"] if wide else []),
        *(["--search-budget", str(budget)] if budget is not None else []),
        "--sampler",
        sampler,
    ]
    return _table([model], [dataset], {**settings, "seed": list(seeds)}, None, name, jobs, restart, words)


def _asked(
    models: Sequence[str],
    datasets: Sequence[str],
    settings: Mapping[str, Any],
    words: Sequence[str] = (),
    jobs: int = 1,
    restart: bool = False,
):
    """The command's options and the configuration keys that they and `settings` set."""
    flags = ["--jobs", str(jobs), *(["--restart"] if restart else []), *words]
    options, _ = _parsed(training.parse, ["-m", *models, "-d", *datasets, *flags])
    overrides = {key: _one_or_several(value) for key, value in settings.items()}
    if jobs > 1:
        overrides.setdefault("threads", threads_each(jobs))
    return options, overrides


def _parsed(parse: Callable[[list[str]], Any], words: list[str]) -> Any:
    """The options of a command; ConfigError where it refuses them, after the message that it writes to standard error."""
    try:
        return parse(words)
    except SystemExit:
        raise ConfigError("an option of this call cannot be used; the message above names it") from None


def _one_or_several(value: Any) -> Any:
    """As the command line has it: an Axis of several values, and the value itself of one."""
    if not isinstance(value, list | tuple | range | np.ndarray):
        return value
    return value[0] if len(value) == 1 else Axis(value)


def _table(models, datasets, settings, reference, name, jobs, restart, words=()) -> Table:
    words = [*words, *(["--name", name] if name else []), *(["--reference", reference] if reference else [])]
    options, overrides = _asked(models, datasets, settings, words, jobs, restart)
    read: dict[str, RecDataset] = {}
    configs = training.trainable(plan(options.model, options.dataset, overrides, options.search), options.model, read)
    training.check_options(options, configs)
    outcomes, experiment = training.run_all(configs, options, overrides, read)
    if text := failures(outcomes):
        raise RunError(text)
    if experiment is None:
        raise ConfigError("this is one run of one model, which mr.train() makes; name several models, seeds or values")
    comparison, problem = training.compared(outcomes, experiment, options)
    if comparison is None:
        raise RunError(f"no comparison: {problem}")
    return Table(comparison, [Run(outcome.trial.path) for outcome in outcomes if outcome.result])


def load_run(
    path: str | Path | None = None,
    *,
    model: str | None = None,
    dataset: str | None = None,
    seed: int | None = None,
    results: str | Path = RESULTS,
    **settings: Any,
) -> Run:
    """Open a finished run by its directory, or by what it is. If several runs fit, RunError lists them."""
    if path is not None:
        return Run(path)
    where = _where(settings)
    models, datasets = ([one] if one else [] for one in (model, dataset))
    return Run(choose_run([Path(results)], models, datasets, [] if seed is None else [seed], where))


def runs(
    dataset: str | None = None, model: str | None = None, *, results: str | Path = RESULTS, **settings: Any
) -> pd.DataFrame:
    """List the runs that there are.

    The columns are model, dataset, seed, state, metric, validation, test and directory. metric is the run's valid_metric.
    """
    where = _where(settings)
    found = find_runs([Path(results)], [model] if model else [], [dataset] if dataset else [], [], where)
    rows = []
    for run in found:
        metric = run.valid_metric
        figures = {"metric": metric, **{part: (run.result or {}).get(key, {}).get(metric) for part, key in _PARTS.items()}}
        row = {"model": run.model, "dataset": run.dataset, "seed": run.seed, "state": run.state(), **figures}
        rows.append({**row, "directory": str(run.path)})
    columns = ["model", "dataset", "seed", "state", "metric", *_PARTS, "directory"]
    return pd.DataFrame(rows, columns=columns)


def _where(settings: Mapping[str, Any]) -> list[str]:
    """As `mambarec runs --where` has them: null is None."""
    return [f"{key}={'null' if value is None else value}" for key, value in settings.items()]


_PARTS = {"validation": "valid", "test": "test"}


def prepare_table(
    name: str,
    interactions: pd.DataFrame | str | Path,
    items: pd.DataFrame | str | Path | None = None,
    *,
    user_column: str = "user",
    item_column: str = "item",
    text_columns: Sequence[str] = (),
    **options: Any,
) -> Path:
    """Make a data set from a table of interactions and a table of items, and return its folder.

    - `interactions`, `items`: DataFrames, or paths of CSV or Parquet files. Both tables have `item_column`.
    - `text_columns`: the columns of `items` that together are an item's text.
    - `options`: those of `mambarec prepare table`, such as `time_column="time"`, `k_core=5`, `split="random"`,
      `overwrite=True`, `text_model="…"`.

    It raises DataError and ConfigError as this command does.
    """
    with tempfile.TemporaryDirectory(prefix="mambarec-") as folder:
        words = ["table", "-d", name, "--interactions", _file(interactions, Path(folder), "interactions")]
        if items is not None:
            words += ["--items", _file(items, Path(folder), "items")]
        if text_columns:
            words += ["--text-columns", ",".join(text_columns)]
        given = {"user_column": user_column, "item_column": item_column, **options}
        for key, value in given.items():
            flag = "--data_path" if key == "data_path" else f"--{key.replace('_', '-')}"
            words += [] if value is False or value is None else [flag] if value is True else [flag, str(value)]
        asked = _parsed(preparing.parse, words)
        asked.does(asked)
        return Path(asked.data_path) / name


def _file(table: pd.DataFrame | str | Path, folder: Path, name: str) -> str:
    if not isinstance(table, pd.DataFrame):
        return str(table)
    path = folder / f"{name}.parquet"
    try:
        table.to_parquet(path, index=False)
    except ImportError:  # pandas writes Parquet by pyarrow only
        path = path.with_suffix(".csv")
        table.to_csv(path, index=False)
    return str(path)
