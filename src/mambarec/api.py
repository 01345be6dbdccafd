"""The Python interface, in the words of the command line: `import mambarec as mr; run = mr.train("MambaRec", "demo")`.

Every function raises a UserError, such as a ConfigError. Its message names the argument and says what to do. The command line's
`--mmd_weight 0.1` is `mmd_weight=0.1` here. Several values are a list, and make a grid. One name is as good as a list of it.
"""

import argparse
import difflib
import inspect
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property, wraps
from html import escape
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import numpy as np
import pandas as pd
import torch

from mambarec.analysis.comparison import Comparison
from mambarec.analysis.figures import new_figure
from mambarec.analysis.frames import points_frame, runs_frame
from mambarec.analysis.model_bars import model_bars
from mambarec.analysis.tables import all_tables, rendered
from mambarec.base import arguments
from mambarec.base.bounded import first_line
from mambarec.base.console import Parser
from mambarec.base.errors import ConfigError, DataError, RunError, explained, told_as
from mambarec.base.files import real
from mambarec.base.logger import get_logger
from mambarec.base.places import RESULTS, at_home
from mambarec.base.settings import checked
from mambarec.base.words import in_python, listed, option
from mambarec.cli import prepare as preparing
from mambarec.cli.train import compared
from mambarec.config.catalogue import keys_owners, model_folder
from mambarec.config.configurator import Axis
from mambarec.config.keys import RunSettings
from mambarec.data.dataset import RecDataset
from mambarec.experiments.engines import LocalProcesses
from mambarec.experiments.grid import plan
from mambarec.experiments.order import SAMPLERS, Order
from mambarec.experiments.summary import failures
from mambarec.experiments.sweep import Sweep
from mambarec.experiments.trials import Outcome, prepare, run_trials
from mambarec.running.directory import RunDirectory
from mambarec.running.lookup import Described, check_places, choose_run, find_runs, say_damaged
from mambarec.running.pruning import PRUNERS
from mambarec.running.trained import Trained, load_trained, open_run
from mambarec.serving import lists, vectors
from mambarec.serving.identifiers import user_identifiers
from mambarec.serving.titles import item_titles, with_titles

_P = ParamSpec("_P")
_T = TypeVar("_T")
Ids = Iterable[Any] | str | int


def _public(**names: str) -> Callable[[Callable[_P, _T]], Callable[_P, _T]]:
    """Let the messages of a function name its arguments, and what a disk or a path does to it be a RunError.

    torch has as many threads afterwards as before, since their number is part of a run's name. names: what the function calls
    an option of the command line that is named otherwise there.
    """

    def decorated(function: Callable[_P, _T]) -> Callable[_P, _T]:
        @wraps(function)
        def call(*given: _P.args, **named: _P.kwargs) -> _T:
            threads = torch.get_num_threads()
            with in_python({"-m": "model", "-d": "dataset", **names}):
                try:
                    return function(*given, **named)
                except OSError as error:
                    if text := explained(error):
                        raise RunError(text) from error
                    raise
                finally:
                    torch.set_num_threads(threads)

        return call

    return decorated


class Run(Described):
    """A finished run: its figures, and what its model recommends. `directory` holds its files."""

    @_public()
    def __init__(self, directory: str | Path, data_path: str | Path | None = None):
        """directory: results/<data set>/<model>/seed…; RunError when it is not one of a finished run, or is damaged.

        data_path: the folder that contains the data set's folder. Give it if the data have moved since the training.
        """
        self.data_path = None if data_path is None else arguments.place("data_path", data_path)
        self.directory = real(arguments.place("directory", directory))
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

    @_public()
    def per_user(self) -> pd.DataFrame:
        """The test metrics of each user of the test split, at the best epoch: a row for each user, a column for each metric.

        The index is the original ids. The means over the users are those of `metrics`. The values are read from the run's
        files, and no model is opened.

        It raises RunError if the files are damaged, or if the data are no longer those of the training.
        """
        run = open_run(self.directory, self.data_path)
        values = run.per_user()
        users = user_identifiers(run.dataset).index(values.pop("users"))
        return pd.DataFrame(values, index=users)

    @cached_property
    @_public()
    def trained(self) -> Trained:
        """The model at its best epoch, with its data. It is opened when it is first needed, and checked against the run."""
        return load_trained(self.directory, self.data_path)

    @cached_property
    def _titles(self) -> pd.Series | None:
        try:
            return item_titles(self.trained.dataset)
        except DataError as error:
            get_logger().warning("no titles: %s", error)
            return None

    @_public(explain="reasons")
    def recommend(self, users: Ids | None = None, k: int = 10, include_seen: bool = False, reasons: int = 0) -> pd.DataFrame:
        """Recommend the k best items to each user.

        The columns are user, item, rank (from 1) and score. The column title is there if the texts of the items are known.

        - `users`: original ids, one or several, or None for the users of the test split.
        - `include_seen`: whether the items that the user already had can be recommended.
        - `reasons`: how many items to name as reasons, in each modality. They are the nearest items that the user already had.

        It raises DataError for a user who is not in the data.
        """
        k, reasons = arguments.whole("k", k, 1), arguments.whole("reasons", reasons, 0)
        include_seen = arguments.flag("include_seen", include_seen)
        numbers = self._numbers(users)
        frames = list(lists.recommend(self.trained, numbers, k, include_seen, reasons))
        return with_titles(pd.concat(frames, ignore_index=True), self._titles)

    def _numbers(self, users: Ids | None) -> np.ndarray:
        """The numbers (N,) of users, or of those of the test split. A warning names those of whom the model knows nothing."""
        names = None if users is None else arguments.identifiers("users", users)
        dataset = self.trained.dataset
        numbers = lists.evaluated_users(dataset) if names is None else user_identifiers(dataset).numbers(names)
        if strangers := lists.about_strangers(dataset, numbers):
            get_logger().warning("%s", strangers)
        return numbers

    @_public()
    def scores(self, users: Ids) -> pd.DataFrame:
        """The scores of users for all items: a row for each user, a column for each item.

        Index and columns are original ids. The higher a score, the better the item fits. The items that a user already had are
        there too. The scores of two models, or of two users, have no common scale.

        It raises DataError for a user who is not in the data. `users`: original ids, one or several.
        """
        names = arguments.identifiers("users", users)
        return lists.score_table(self.trained, self._numbers(names))

    @_public()
    def vectors(self) -> tuple[pd.DataFrame, pd.DataFrame]:
        """The vectors of users (U, D) and of items (I, D), float32. Their inner products are the scores.

        Each is a DataFrame with a row for each user or item, indexed by original id.

        It raises RunError for a model whose scores are no inner products of vectors, such as Pop and ItemKNN.
        """
        return vectors.vector_tables(self.trained)

    @_public()
    def similar(self, item: str | int, k: int = 10) -> pd.DataFrame:
        """Find the k items that are nearest to one by cosine.

        The columns are by (representation or a modality), item, rank and cosine, and title if the texts are known.
        """
        item, k = arguments.identifier("item", item), arguments.whole("k", k, 1)
        return with_titles(vectors.similar_items(self.trained, item, k), self._titles)

    @_public()
    def plot(self):
        """Draw the loss and the validation metric by epoch, as a figure of matplotlib. ConfigError without matplotlib."""
        figure = new_figure(2.6, 7, layout="constrained")
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


class Table:
    """Models side by side, on the same seeds, with tests of the reference against the others.

    `runs` are its finished runs. `tuned_files` are the files that a search with `save_best` wrote.
    """

    def __init__(self, comparison: Comparison, outcomes: Sequence[Outcome], tuned_files: Sequence[Path] = ()):
        """outcomes: those of all trials, of which the comparison shows some."""
        self.comparison, self.tuned_files, self._outcomes = comparison, list(tuned_files), outcomes
        self.runs = [Run(outcome.trial.path) for outcome in outcomes if outcome.result]

    @_public()
    def points(self) -> pd.DataFrame:
        """All settings that were tried: a row for each, with what validation says of it.

        The columns are model, dataset, the settings in which the rows of a model differ, and:

        - seeds: the number of finished runs; validation and validation std: mean and standard deviation of metric over them
        - pruned: after how many epochs a search gave up the setting; else missing
        - chosen: whether `to_frame` shows it

        There are no test figures, since test chooses nothing. `to_frame` has those of the chosen settings.
        """
        shown = {record.source for entry in self.comparison.entries.values() for record in entry.records}
        return points_frame(self._outcomes, shown)

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

    @_public()
    def plot(self, metric: str = "recall@20", dataset: str | None = None):
        """Draw a test metric as a figure of matplotlib: a bar for each model, the mean over the seeds, with its deviation.

        `dataset`: which one, if the table has several. ConfigError for another metric or data set, and without matplotlib.
        """
        metric, datasets = arguments.word("metric", metric).lower(), self.comparison.datasets
        if dataset is None and len(datasets) > 1:
            names = ", ".join(datasets)
            raise ConfigError(f"the table has several data sets: give {option('dataset', 'NAME')}, one of {names}")
        name = datasets[0] if dataset is None else arguments.one_of("dataset", dataset, datasets)
        rows = self.comparison.column(name)
        computed = [record.result["test"] for row in rows for record in row.records]
        arguments.one_of("metric", metric, [one for one in computed[0] if all(one in others for others in computed)])
        return model_bars(rows, metric, self.comparison.seeds[name]).figure

    @_public()
    def to_markdown(self) -> str:
        """The tables with their captions in Markdown."""
        return rendered(self.comparison, "markdown")

    @_public()
    def to_latex(self) -> str:
        """The tables in LaTeX, for the package booktabs."""
        return rendered(self.comparison, "latex")

    @_public()
    def to_csv(self) -> str:
        """The tables as CSV."""
        return rendered(self.comparison, "csv")

    @_public()
    def __repr__(self) -> str:
        return rendered(self.comparison)

    @_public()
    def _repr_html_(self) -> str:
        parts = []
        for table in all_tables(self.comparison):
            frame = pd.DataFrame([[cell.text + "*" * cell.star + cell.mark for cell in row] for row in table.rows])
            frame.columns = pd.Index(table.columns)
            notes = "".join(f"<li>{escape(note)}</li>" for note in table.notes)
            parts.append(f"<h4>{escape(table.title)}</h4>{frame.to_html(index=False)}<ul>{notes}</ul>")
        return "".join(parts)


@_public()
def train(model: str = "MambaRec", dataset: str = "demo", *, restart: bool = False, **settings: Any) -> Run:
    """Train a model, or open its run if it is finished. A run that was stopped goes on.

    - `settings`: keys and values, such as `epochs=5`, `seed=1`, `data_path="…"`.
    - `restart`: delete what there is of this run, and start from the beginning.

    The training has a process of its own. Ctrl-C, or the stop button of a notebook, saves it. The same call goes on with it.

    It raises ConfigError for a key or a value that cannot be used, DataError for the data, and RunError if the training failed.
    """
    models, datasets = [arguments.word("model", _by_name("model", model))], [arguments.word("dataset", dataset)]
    restart, given = arguments.flag("restart", restart), _keys(settings)
    _check_no_argument("train", given)
    configs = plan(models, datasets, given)
    values = [config.plain() for config in configs]
    if several := [key for key in values[0] if any(one[key] != values[0][key] for one in values)]:
        raise ConfigError(f"{several[0]} has several values: mr.compare() or mr.search() trains a grid, mr.train() one run")
    trial = prepare(configs, anew=restart)[0]
    if restart:
        RunDirectory(trial.path).mark_for_restart()
    [outcome] = run_trials([trial], LocalProcesses(1))
    if outcome.error:
        raise RunError(outcome.error)
    return Run(trial.path)


@_public(**{"-m": "models"})
def compare(
    models: str | Iterable[str],
    dataset: str | Iterable[str] = "demo",
    seeds: int | Iterable[int] = (1, 2, 3),
    *,
    reference: str | None = None,
    name: str | None = None,
    jobs: int = 1,
    restart: bool = False,
    **settings: Any,
) -> Table:
    """Train models on the same seeds, and test the differences. Finished runs are not trained again.

    - `models`: one name or several; or "all"; or "usable", which leaves out the models whose features or packages are missing.
    - `dataset`, `seeds`: one or several.
    - `reference`: the model that is tested against the others; MambaRec, if it is there.
    - `name`: a name for the experiment. `mambarec report table --experiment NAME` prints the table again.
    - `jobs`: the number of trials at the same time.
    - `settings`: as in `train`. A list makes a grid, and validation chooses its point.

    It raises the errors of `train`. RunError names every trial that failed.
    """
    names = arguments.each_once("models", arguments.words("models", _by_name("models", models)))
    datasets = arguments.each_once("dataset", arguments.words("dataset", dataset))
    row = None if reference is None else arguments.word("reference", reference)
    return _table("compare", names, datasets, seeds, settings, name, jobs, restart, reference=row)


@_public(**{"search-budget": "budget"})
def search(
    model: str,
    dataset: str = "demo",
    *,
    wide: bool = False,
    budget: int | None = None,
    sampler: str = "random",
    pruner: str | None = None,
    save_best: bool = False,
    seeds: int | Iterable[int] = 1,
    name: str | None = None,
    jobs: int = 1,
    restart: bool = False,
    **settings: Any,
) -> Table:
    """Try the points of the grid under `search_space` in the model's YAML, and choose one on validation.

    - `wide`: try the grid under `wide_search_space`, which is larger.
    - `budget`: the number of points to try; without it, all.
    - `sampler`: how they are chosen. random, or tpe, which learns from earlier points.
    - `pruner`: with tpe, the rule that ends hopeless trials early: median, hyperband or none. It is median if it is left out.
    - `save_best`: whether to keep the best settings on validation, in a YAML that `tuned=True` reads. The table's `tuned_files`
      name it.

    The other arguments are as in `compare`, but `seeds` is 1.
    """
    names = [arguments.word("model", _by_name("model", model))], [arguments.word("dataset", dataset)]
    asked: dict[str, Any] = {"search": "wide" if arguments.flag("wide", wide) else True}
    asked["sampler"] = arguments.one_of("sampler", sampler, SAMPLERS)
    asked["budget"] = None if budget is None else arguments.whole("budget", budget, 1)
    asked["pruner"] = None if pruner is None else arguments.one_of("pruner", pruner, PRUNERS)
    asked["save_best"] = arguments.flag("save_best", save_best)
    return _table("search", *names, seeds, settings, name, jobs, restart, **asked)


def _by_name(argument: str, value: Any) -> Any:
    """The value, unless it is a class or an object of one where the name of a model belongs."""
    for one in value if isinstance(value, list | tuple) else [value]:
        if isinstance(one, type | torch.nn.Module):
            name = (one if isinstance(one, type) else type(one)).__name__  # of an object's class
            raise ConfigError(
                f"{argument}={name} is a class; expected the name of a model. Save the class as {name.lower()}.py in a folder, "
                f"and give the name {name!r} and {option('model_path', 'FOLDER')} (docs/plugin.md)"
            )
    return value


def _check_no_argument(function: str, settings: Mapping[str, Any]) -> None:
    """ConfigError for a setting that is an argument of another function, or nearly one of this, and no model's key."""
    takes = {one.__name__: [*inspect.signature(one).parameters][:-1] for one in (train, compare, search)}
    for key, value in settings.items():
        others = [f"mr.{name}()" for name, names in takes.items() if key in names]
        near = difflib.get_close_matches(key, takes[function], n=1, cutoff=0.8)
        if key in RunSettings.model_fields or not (others or near) or keys_owners(key, model_folder(settings)):
            continue
        if others:
            raise ConfigError(f"{option(key, value)} is an argument of {listed(others)}, and not of mr.{function}()")
        raise ConfigError(f"there is no argument or key '{key}'; did you mean '{near[0]}'?")


def _keys(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Configuration keys as the command line has them: an Axis of several values, and the value itself of one."""
    keys = {key: arguments.plain(key, value) for key, value in settings.items()}
    several = {key: value for key, value in keys.items() if isinstance(value, list)}
    return keys | {key: value[0] if len(value) == 1 else Axis(value) for key, value in several.items()}


def _table(function, models, datasets, seeds, settings, name, jobs, restart, **asked) -> Table:
    """The table of a comparison or a search, the function of this name. asked: the other fields of its Order, checked."""
    for key, argument in (("model", "models"), ("seed", "seeds")):
        if key in settings:
            raise ConfigError(f"{option(key, settings[key])}: give {argument}= in its place")
    asked["given"] = _keys({**settings, "seed": arguments.each_once("seeds", arguments.wholes("seeds", seeds, 0))})
    _check_no_argument(function, asked["given"])
    asked["jobs"], asked["restart"] = arguments.whole("jobs", jobs, 1), arguments.flag("restart", restart)
    order = Order(models, datasets, name=None if name is None else arguments.word("name", name), **asked)
    read: dict[str, RecDataset] = {}
    configs = order.trainable(plan(models, datasets, order.overrides, order.search), read)
    order.check(configs)
    sweep = Sweep(order, configs, read)
    if sweep.experiment is None:
        raise ConfigError("this is one run of one model, which mr.train() makes; name several models, seeds or values")
    outcomes = sweep.run()
    if text := failures(outcomes):
        raise RunError(text)
    comparison, problem = compared(outcomes, sweep.experiment, order)
    if comparison is None:
        raise RunError(f"no comparison: {problem}")
    return Table(comparison, outcomes, sweep.tuned_files)


@_public(run="path")
def load_run(
    path: str | Path | None = None,
    *,
    model: str | None = None,
    dataset: str | None = None,
    seed: int | None = None,
    results: str | Path = RESULTS,
    data_path: str | Path | None = None,
    **settings: Any,
) -> Run:
    """Open a finished run by its directory, or by its model, data set, seed and settings. RunError lists them if several fit.

    - `data_path`: the folder that contains the data set's folder. Give it if the data have moved since the training.
    """
    if path is not None:
        path = arguments.place("path", path)
    asked = _names("model", model), _names("dataset", dataset), [] if seed is None else [arguments.whole("seed", seed, 0)]
    where, folder = _where(settings), arguments.place("results", results)
    if path is None:
        return Run(choose_run([folder], *asked, where), data_path)
    if any(asked) or where:
        raise ConfigError(f"{option('path', path)} names the run already: leave model=, dataset=, seed= and settings out")
    return Run(path, data_path)


@_public()
def runs(
    dataset: str | None = None,
    model: str | None = None,
    *,
    results: str | Path = RESULTS,
    show_test: bool = False,
    **settings: Any,
) -> pd.DataFrame:
    """List the runs that there are, or those with these settings: a row for each run.

    The columns are model, dataset, seed, state, metric, validation, then the settings in which runs of one model and data set
    differ, and directory. metric is the run's valid_metric. A list is written with commas, as in `visual,text`.

    - `show_test`: whether there is a column test. It is left out otherwise, since test figures choose nothing. `run.metrics`
      has them.
    """
    show_test = arguments.flag("show_test", show_test)
    asked, place = (_names("model", model), _names("dataset", dataset)), arguments.place("results", results)
    check_places([place])
    return runs_frame(find_runs([place], *asked, where=_where(settings), damaged=say_damaged), show_test)


def _names(argument: str, name: str | None) -> list[str]:
    """The name in a list, or none."""
    return [] if name is None else [arguments.word(argument, name)]


def _where(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that a run must have; ConfigError for a value that no run can have."""
    if "results_dir" in settings:
        raise ConfigError(f"{option('results_dir', settings['results_dir'])}: give results= in its place")
    where = {key: arguments.plain(key, value) for key, value in settings.items()}
    for key, value in where.items():
        if key in RunSettings.model_fields:
            try:
                checked(RunSettings, key, value)
            except ValueError as error:
                raise ConfigError(f"{option(key, value)}; {error}") from None
    return where


@_public(**{"-d": "name"})
def prepare_table(
    name: str,
    interactions: pd.DataFrame | str | Path,
    items: pd.DataFrame | str | Path | None = None,
    *,
    user_column: str = "user",
    item_column: str = "item",
    text_columns: str | Iterable[str] = (),
    columns: str | Iterable[str] = (),
    **options: Any,
) -> Path:
    """Make a data set from a table of interactions and a table of items, and return its folder.

    - `interactions`, `items`: DataFrames, or paths of CSV or Parquet files. Both tables have `item_column`.
    - `text_columns`: the columns of `items` that together are an item's text, one or several.
    - `columns`: the names of all columns of `interactions`, in their order, if it is a text file without a header.
    - `options`: those of `mambarec prepare table`, such as `time_column="time"`, `k_core=5`, `split="random"`,
      `overwrite=True`, `text_model="…"`.

    It raises DataError and ConfigError as this command does.
    """
    tables = {"interactions": interactions, **({} if items is None else {"items": items})}
    given = {"dataset": name, "user_column": user_column, "item_column": item_column}
    words = [f"--{key}={arguments.word(key if key != 'dataset' else 'name', value)}" for key, value in given.items()]
    parser = preparing.parsers(["table"])[1]["table"]
    with tempfile.TemporaryDirectory(prefix="mambarec-") as folder:
        files = {key: _file(table, Path(folder), key) for key, table in tables.items()}
        asked = parser.parse_args([*words, *(f"--{key}={path}" for key, path in files.items())])
        for key, value in options.items():
            _set(asked, parser, key, arguments.plain(key, value))
        asked.text_columns = arguments.words("text_columns", text_columns, least=0)
        asked.columns = arguments.words("columns", columns, least=0) or None
        asked.names = {path: key for key, path in files.items() if isinstance(tables[key], pd.DataFrame)}
        with told_as(asked.names):
            asked.does(asked)
    return Path(asked.data_path) / name


def _set(asked: argparse.Namespace, parser: Parser, key: str, value: Any) -> None:
    """Give an option of a command its value; ConfigError where there is no such option, or it takes no such value."""
    action = parser.option(key)
    if action is None or key in ("dataset", "help"):
        raise ConfigError(f"there is no argument {key}")
    if value is None or value is False:  # as if it were left out
        return
    if action.nargs == 0:
        value = arguments.flag(key, value)
    elif isinstance(value, list | dict | bool):
        raise arguments.refused(key, value, "one value")
    elif action.choices:
        value = arguments.one_of(key, value, action.choices)
    else:
        kind: Any = at_home if action.type is Path else action.type or str
        try:
            value = kind(str(value))
        except argparse.ArgumentTypeError as error:
            raise ConfigError(f"{option(key)}{error}") from None
        except ValueError:
            raise arguments.refused(key, value, "a whole number") from None
    setattr(asked, action.dest, value)


def _file(table: pd.DataFrame | str | Path, folder: Path, name: str) -> Path:
    """The file of a table, which is written into a folder if it is a DataFrame."""
    if not isinstance(table, pd.DataFrame):
        return arguments.place(name, table)
    if twice := list(table.columns[table.columns.duplicated()]):
        raise DataError(f"{name}: the table has the column '{twice[0]}' twice; rename one of them")
    path = folder / f"{name}.parquet"
    try:
        table.to_parquet(path, index=False)
    except ImportError:  # pandas writes Parquet by pyarrow only
        path = path.with_suffix(".csv")
        table.to_csv(path, index=False)
    except (ValueError, TypeError, NotImplementedError) as error:  # pyarrow's errors are of these kinds
        mixed = [column for column, values in table.items() if len({type(one) for one in values.dropna()}) > 1]
        why = (
            f"column '{mixed[0]}' mixes values of several types: make them one, as by .astype(str)"
            if mixed
            else first_line(error)
        )
        raise DataError(f"{name}: this table cannot be written as Parquet ({why})") from None
    return path
