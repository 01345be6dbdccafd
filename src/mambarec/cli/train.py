"""Train, search and compare: `python main.py -m MambaRec -d demo`. docs/guides/ shows what else it can do."""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from mambarec.analysis.comparison import METRICS, Comparison, compare
from mambarec.analysis.selection import of_experiment
from mambarec.analysis.tables import chosen_lines, rendered
from mambarec.base.commands import COMMANDS
from mambarec.base.console import Parser, show
from mambarec.base.errors import ConfigError, RunError, exit_status
from mambarec.base.processes import local_gpu, started_by_torchrun
from mambarec.base.words import command, part_of_one, positive
from mambarec.config.catalogue import available_datasets, available_models, model_folder
from mambarec.config.configurator import override_pairs
from mambarec.config.description import described
from mambarec.data.dataset import RecDataset
from mambarec.experiments.experiment import Experiment, table_command
from mambarec.experiments.grid import by_model, is_every, plan
from mambarec.experiments.order import ENGINES, SAMPLERS, Order
from mambarec.experiments.summary import failures, run_table, trials_table
from mambarec.experiments.sweep import Sweep
from mambarec.experiments.trials import Outcome
from mambarec.running.pruning import PRUNERS
from mambarec.running.run import run
from mambarec.running.watching import watching

_KEYS = ("mg", "model_path")  # options that are configuration keys too


def parse(arguments: list[str]) -> tuple[Order, list[str]]:
    """What the program's own options ask for, and the words that are configuration keys."""
    parser = Parser(
        description="Train and evaluate multimodal recommenders.",
        epilog="Any key can be set: --learning-rate 5e-4. Several values make a grid: --mmd-weight 0.1 0.2. "
        f"Models: {', '.join(available_models())}. Data sets: {', '.join(available_datasets())}.",
        allow_abbrev=False,
        add_help=False,
    )
    parser.add_argument("-h", "--help", action="store_true", help="show this text and the keys of the models, and exit")
    parser.add_version()
    models = "the models to train; all: every model; usable: every model whose features and packages are there (MambaRec)"
    parser.add_argument("-m", "--model", dest="models", nargs="+", default=["MambaRec"], metavar="NAME", help=models)
    parser.add_argument(
        "-d", "--dataset", dest="datasets", nargs="+", default=["demo"], metavar="NAME", help="the data sets to train on (demo)"
    )
    parser.add_argument("--model-path", metavar="DIR", help="a folder with more models, such as MMRec's src/models")
    _add_search(parser)
    _add_table(parser)
    _add_engine(parser)
    parser.add_argument("--mg", action="store_true", help="train with mirror gradient (arXiv 2402.11262)")
    resume = "go on with a run that was stopped; several trials go on without this option"
    parser.add_argument("--resume", action="store_true", help=resume)
    restart = "delete what there is of these runs, and start from the beginning"
    parser.add_argument("--restart", action="store_true", help=restart)
    options, words = parser.parse_known_args(arguments)
    parser.check_no_stray_word(arguments)
    if options.help:
        parser.print_help()
        show(f"\n{keys_help(options.models, options.model_path)}", end="")
        raise SystemExit(0)
    asked = {name: value for name, value in vars(options).items() if name not in ("help", *_KEYS)}
    try:
        return Order(given={key: getattr(options, key) for key in _KEYS if getattr(options, key)}, **asked), words
    except ConfigError as error:
        parser.error(str(error))


def _add_search(parser: argparse.ArgumentParser) -> None:
    search = (
        "try the settings under search_space in the model's YAML; with the word wide, those under wide_search_space, "
        "a larger grid, which MambaRec and MGCN have"
    )
    parser.add_argument("--search", nargs="?", choices=["wide"], const=True, default=False, metavar="wide", help=search)
    parser.add_argument(
        "--search-budget", dest="budget", type=positive, metavar="N", help="try only N points of each model's grid"
    )
    sampler = "how the N points are chosen: at random, or by Optuna, which learns from earlier points (random)"
    parser.add_argument("--sampler", choices=SAMPLERS, default="random", help=sampler)
    pruner = "with --sampler tpe: the rule that ends hopeless trials early (median)"
    parser.add_argument("--pruner", choices=PRUNERS, help=pruner)
    save_best = "write the best settings on validation to configs/tuned/<data set>/<Model>.yaml"
    parser.add_argument("--save-best", action="store_true", help=save_best)


def _add_table(parser: argparse.ArgumentParser) -> None:
    by_test = "choose the grid point on the test split, as MMRec does"
    parser.add_argument("--legacy-test-selection", action="store_true", help=by_test)
    parser.add_argument("--show-test", action="store_true", help="show the test figures of every grid point")
    parser.add_argument("--reference", metavar="ROW", help="the model or row that is tested against the others (MambaRec)")
    parser.add_argument("--name", metavar="NAME", help="a name for the experiment; a report finds its runs by this name")


def _add_engine(parser: argparse.ArgumentParser) -> None:
    jobs = "run N trials at the same time; they share the threads (1)"
    parser.add_argument("--jobs", type=positive, default=1, metavar="N", help=jobs)
    engine = "where the trials run: on this machine, or on a Ray cluster (local)"
    parser.add_argument("--engine", choices=ENGINES, default="local", help=engine)
    workers = "with --engine ray: let N processes train a trial together, by Ray Train (1)"
    parser.add_argument("--workers-per-trial", dest="workers", type=positive, default=1, metavar="N", help=workers)
    gpus = "with --engine ray: the GPUs that a process of a trial asks for; 0.5 lets two of them share one (1)"
    parser.add_argument("--gpus-per-trial", dest="gpus", type=part_of_one, metavar="X", help=gpus)


def keys_help(models: Sequence[str], model_path: str | None) -> str:
    """The keys of the models and of every run, as --help shows options."""
    folder = model_folder({"model_path": model_path} if model_path else {})
    names = available_models(folder) if is_every(models) else models
    texts = []
    for title, keys in described(names, folder):
        parser = argparse.ArgumentParser(usage=argparse.SUPPRESS, add_help=False)
        group = parser.add_argument_group(title)
        for one in keys:
            group.add_argument(f"--{one.name.replace('_', '-')}", metavar="VALUE", help=one.text().replace("%", "%%"))
        texts.append(parser.format_help())
    return "\n".join(texts)


def main(arguments: list[str]) -> int:
    """Exit status 0, 1 when a trial failed, 2 for a mistake that the message explains, 130 when interrupted."""
    return exit_status(
        lambda: work(*parse(arguments)), "stopped. The same command with --resume goes on from the last checkpoint"
    )


def work(order: Order, words: list[str]) -> int:
    """Train what the command names and print its table; 1 when a trial failed. words: configuration keys and values."""
    _check_no_command(words)
    place = local_gpu() if started_by_torchrun() else {}
    order = replace(order, given={**override_pairs(words), **order.given, **place})
    configs = plan(order.models, order.datasets, order.overrides, order.search)
    if started_by_torchrun() and (len(configs) > 1 or order.engine == "ray"):
        raise ConfigError("torchrun trains one run with several processes; run several trials without it, with --jobs N")
    datasets: dict[str, RecDataset] = {}
    configs = order.trainable(configs, datasets)
    order.check(configs)
    if len(configs) == 1 and order.engine == "local":
        with watching(lines=False) as display:
            watch = partial(display.show, f"{configs[0]['model']} on {configs[0]['dataset']}")
            result = run(configs[0], resume=order.resume, restart=order.restart, watch=watch)
        if result:  # of several processes one has it
            show(run_table(result))
        return 0
    sweep = Sweep(order, configs, datasets)
    outcomes = sweep.run()
    text = failures(outcomes)
    for path in sweep.tuned_files:
        show(f"tuned values: {path}")
    if sweep.experiment:
        show(summary(outcomes, sweep.experiment, order))
    elif not text:
        show(run_table(outcomes[0].result or {}))
    if text:
        show(text, file=sys.stderr)
        return 1
    return int(order.save_best and len(sweep.tuned_files) < len(by_model(configs)))


def _check_no_command(words: Sequence[str]) -> None:
    """ConfigError where the first word that is no option is the name of a command."""
    if not words or words[0] not in COMMANDS:
        return
    if COMMANDS[words[0]].trains != "models":
        raise ConfigError(f"'{words[0]}' is another command: `{command(words[0])}`")
    models = ["-m", "BPR"] if words[0] == "train" else ["-m", "BPR", "MGCN"]
    finished = f". `{command('report', 'table')}` compares finished runs" * (words[0] == "compare")
    raise ConfigError(f"'{words[0]}' is no option. Write `{command(words[0], *models)}`{finished}")


def summary(outcomes: Sequence[Outcome], experiment: Experiment, order: Order) -> str:
    """The grid on validation, what was chosen of it, and the tables of a comparison of several rows."""
    by_test = order.legacy_test_selection
    comparison, problem = compared(outcomes, experiment, order)
    entries = comparison.entries.values() if comparison else []
    searched = any(entry.n_points > 1 for entry in entries)
    chosen = {record.source for entry in entries for record in entry.records} if searched else set()
    parts = [trials_table(outcomes, experiment.axes, chosen, order.show_test or by_test)]
    if problem:
        parts.append(f"No comparison: {problem}")
    if comparison:
        records = [record for entry in entries for record in entry.records]
        has_table = len(entries) > 1 and any(all(metric in one.result["test"] for one in records) for metric in METRICS)
        parts.append(rendered(comparison) if has_table else chosen_lines(comparison))
        parts.append(f"The table again at any time: {_again(experiment, order, Path(outcomes[0].trial.config['results_dir']))}")
    return "\n\n".join(parts)


def _again(experiment: Experiment, order: Order, place: Path) -> str:
    """The command that prints the table of an experiment as this one did."""
    words = ["--experiment", experiment.name]
    words += ["--reference", order.reference] if order.reference else []
    words += ["--legacy-test-selection"] if order.legacy_test_selection else []
    return table_command(place, *words)


def compared(outcomes: Sequence[Outcome], experiment: Experiment, order: Order) -> tuple[Comparison | None, str]:
    """The comparison of an experiment's finished runs; None where they cannot be compared, and why."""
    if not any(outcome.result for outcome in outcomes):
        return None, ""
    try:
        found = of_experiment(Path(outcomes[0].trial.config["results_dir"]), experiment)
        return compare(found.records, order.reference, order.legacy_test_selection, notes=found.notes), ""
    except RunError as error:
        return None, str(error)
