"""Train, search and compare: `python main.py -m MambaRec -d demo`. docs/guides/ shows what else it can do."""

import argparse
import shlex
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from mambarec.analysis.comparison import METRICS, Comparison, compare
from mambarec.analysis.selection import of_experiment
from mambarec.analysis.tables import chosen_lines, rendered
from mambarec.base.console import Parser, show
from mambarec.base.errors import ConfigError, RunError, exit_status
from mambarec.base.logger import get_logger
from mambarec.base.places import RESULTS
from mambarec.base.processes import local_gpu, started_by_torchrun
from mambarec.base.words import command, is_python, option, part_of_one, positive
from mambarec.cli import COMMANDS
from mambarec.config.catalogue import available_datasets, available_models, model_folder
from mambarec.config.configurator import Config, override_pairs
from mambarec.config.description import described
from mambarec.data.dataset import RecDataset
from mambarec.experiments.engines import threads_each
from mambarec.experiments.experiment import Experiment
from mambarec.experiments.grid import by_model, by_point, is_every, plan
from mambarec.experiments.summary import failed_alike, failures, run_table, trials_table
from mambarec.experiments.sweep import Sweep
from mambarec.experiments.trials import Outcome, unmet_needs
from mambarec.running.pruning import PRUNERS
from mambarec.running.run import run
from mambarec.running.watching import watching


def parse(arguments: list[str]) -> tuple[argparse.Namespace, list[str]]:
    """The program's own options, and the words that are configuration keys."""
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
    parser.add_argument("-m", "--model", nargs="+", default=["MambaRec"], metavar="NAME", help=models)
    parser.add_argument("-d", "--dataset", nargs="+", default=["demo"], metavar="NAME", help="the data sets to train on (demo)")
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
        show(f"\n{keys_help(options.model, options.model_path)}", end="")
        raise SystemExit(0)
    if mistake := _contradiction(options):
        parser.error(mistake)
    if options.pruner is None:
        options.pruner = "median" if options.sampler == "tpe" and options.workers_per_trial == 1 else "none"
    return options, words


def _add_search(parser: argparse.ArgumentParser) -> None:
    search = (
        "try the settings under search_space in the model's YAML; with the word wide, those under wide_search_space, "
        "a larger grid, which MambaRec and MGCN have"
    )
    parser.add_argument("--search", nargs="?", choices=["wide"], const=True, default=False, metavar="wide", help=search)
    parser.add_argument("--search-budget", type=positive, metavar="N", help="try only N points of each model's grid")
    sampler = "how the N points are chosen: at random, or by Optuna, which learns from earlier points (random)"
    parser.add_argument("--sampler", choices=["random", "tpe"], default="random", help=sampler)
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
    parser.add_argument("--engine", choices=["local", "ray"], default="local", help=engine)
    workers = "with --engine ray: let N processes train a trial together, by Ray Train (1)"
    parser.add_argument("--workers-per-trial", type=positive, default=1, metavar="N", help=workers)
    gpus = "with --engine ray: the GPUs that a process of a trial asks for; 0.5 lets two of them share one (1)"
    parser.add_argument("--gpus-per-trial", type=part_of_one, metavar="X", help=gpus)


def _contradiction(options: argparse.Namespace) -> str | None:
    """What is wrong with options that do not go together."""
    if options.resume and options.restart:
        return "--resume goes on with what is there, and --restart deletes it; leave one of the two out"
    if options.sampler == "tpe" and not options.search_budget:
        return f"{option('sampler', 'tpe')} needs {option('search-budget')}, the number of points to try"
    if options.pruner and options.sampler != "tpe":
        return f"--pruner {options.pruner} needs --sampler tpe"
    if options.engine != "ray" and (options.workers_per_trial > 1 or options.gpus_per_trial is not None):
        return "--workers-per-trial and --gpus-per-trial are for --engine ray"
    if options.pruner in ("median", "hyperband") and options.workers_per_trial > 1:
        return f"--pruner {options.pruner} does not end trials of several workers; leave one of the two out"
    if options.save_best and options.search_budget == 1:
        return "--save-best needs a --search-budget above 1, for the YAML's own values are one of its points"
    if options.save_best and options.legacy_test_selection:
        return "--save-best goes by validation; leave --legacy-test-selection out"
    return None


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


def work(options: argparse.Namespace, words: list[str]) -> int:
    """Train what the command names and print its table; 1 when a trial failed."""
    _check_no_command(words)
    overrides = override_pairs(words) | ({"mg": True} if options.mg else {})
    if options.model_path:
        overrides["model_path"] = options.model_path
    if options.jobs > 1 or options.engine == "ray":
        overrides.setdefault("threads", threads_each(options.jobs))
    if options.save_best and overrides.get("tuned"):
        raise ConfigError("--save-best finds the tuned values; leave --tuned out")
    if started_by_torchrun():
        overrides |= local_gpu()
    configs = plan(options.model, options.dataset, overrides, options.search)
    if started_by_torchrun() and (len(configs) > 1 or options.engine == "ray"):
        raise ConfigError("torchrun trains one run with several processes; run several trials without it, with --jobs N")
    datasets: dict[str, RecDataset] = {}
    configs = trainable(configs, options.model, datasets)
    check_options(options, configs)
    if len(configs) == 1 and options.engine == "local":
        with watching(lines=False) as display:
            watch = partial(display.show, f"{configs[0]['model']} on {configs[0]['dataset']}")
            result = run(configs[0], resume=options.resume, restart=options.restart, watch=watch)
        if result:  # of several processes one has it
            show(run_table(result))
        return 0
    sweep = Sweep(configs, options, overrides, datasets)
    outcomes = sweep.run()
    text = failures(outcomes)
    for path in sweep.tuned_files:
        show(f"tuned values: {path}")
    if sweep.experiment:
        show(summary(outcomes, sweep.experiment, options))
    elif not text:
        show(run_table(outcomes[0].result or {}))
    if text:
        show(text, file=sys.stderr)
        return 1
    return int(options.save_best and len(sweep.tuned_files) < len(by_model(configs)))


def _check_no_command(words: Sequence[str]) -> None:
    """ConfigError where the first word that is no option is the name of a command."""
    if not words or words[0] not in COMMANDS:
        return
    if words[0] not in ("train", "compare", "search"):
        raise ConfigError(f"'{words[0]}' is another command: `{command(words[0])}`")
    models = ["-m", "BPR"] if words[0] == "train" else ["-m", "BPR", "MGCN"]
    finished = f". `{command('report', 'table')}` compares finished runs" * (words[0] == "compare")
    raise ConfigError(f"'{words[0]}' is no option. Write `{command(words[0], *models)}`{finished}")


def trainable(configs: Sequence[Config], models: Sequence[str], datasets: dict[str, RecDataset]) -> list[Config]:
    """The configurations that can be trained; ConfigError before anything is trained where some cannot.

    models: as the command names them; with `usable`, what cannot be trained is left out and said. A single run is left to say
    itself what it needs. datasets: as in `prepare`, which gets those that are read here.
    """
    if len(configs) == 1 and list(models) != ["usable"]:
        return list(configs)
    unmet = unmet_needs(configs, datasets)
    if not unmet:
        return list(configs)
    lines = "\n".join(failed_alike(((f"{model} on {name}", why) for (model, name), why in unmet.items()), "model"))
    kept = [config for config in configs if (config["model"], config["dataset"]) not in unmet]
    if list(models) == ["usable"] and kept:
        get_logger().info("left out, since something is missing:\n%s", lines)
        return kept
    missing_somewhere = {model for model, _ in unmet}
    others = list(dict.fromkeys(config["model"] for config in configs if config["model"] not in missing_somewhere))
    by_name = f", or name the others: {option('-m', *others)}" if others else ""
    hint = f" Leave them out: give {option('-m', 'usable')}{by_name}." if kept else ""
    raise ConfigError(f"nothing is trained, since something is missing.{hint}\n{lines}")


def check_options(options: argparse.Namespace, configs: Sequence[Config]) -> None:
    """ConfigError before anything is trained where an option cannot have an effect on these configurations."""
    budget = option("search-budget", options.search_budget) if options.search_budget else ""
    asked = "--save-best" if options.save_best else budget
    if asked and all(len(by_point(group)) == 1 for group in by_model(configs).values()):
        search = "" if is_python() else "--search, or "
        raise ConfigError(f"{asked} needs several settings to choose from: give {search}several values of a key")
    if options.name is not None and len(configs) == 1:
        raise ConfigError(f"{option('name', options.name)}: an experiment has several trials, and this is one run")
    if options.jobs > 1 and len(configs) == 1:
        raise ConfigError(f"{option('jobs', options.jobs)} runs several trials side by side, and this is one run; leave it out")
    for name, given in (("legacy-test-selection", options.legacy_test_selection), ("show-test", options.show_test)):
        if given and len(configs) == 1:
            raise ConfigError(f"{option(name, True)} is for several settings, and this is one run; leave it out")
    if options.reference is not None:
        _check_reference(options.reference, configs)


def _check_reference(name: str, configs: Sequence[Config]) -> None:
    """ConfigError before anything is trained where no row can have this name; a row's name begins with that of its model."""
    models = list(dict.fromkeys(config["model"] for config in configs))
    if len(configs) == 1:
        raise ConfigError(f"{option('reference', name)}: a reference is tested against other rows, and this is one run")
    if name.partition(" ")[0].lower() not in {model.lower() for model in models}:
        raise ConfigError(f"{option('reference', name)}: no such model is trained here. There are: {', '.join(models)}")


def summary(outcomes: Sequence[Outcome], experiment: Experiment, options: argparse.Namespace) -> str:
    """The grid on validation, what was chosen of it, and the tables of a comparison of several rows."""
    by_test = options.legacy_test_selection
    comparison, problem = compared(outcomes, experiment, options)
    entries = comparison.entries.values() if comparison else []
    searched = any(entry.n_points > 1 for entry in entries)
    chosen = {record.source for entry in entries for record in entry.records} if searched else set()
    parts = [trials_table(outcomes, chosen, options.show_test or by_test)]
    if problem:
        parts.append(f"No comparison: {problem}")
    if comparison:
        records = [record for entry in entries for record in entry.records]
        has_table = len(entries) > 1 and any(all(metric in one.result["test"] for one in records) for metric in METRICS)
        parts.append(rendered(comparison) if has_table else chosen_lines(comparison))
        parts.append(
            f"The table again at any time: {_again(experiment, options, Path(outcomes[0].trial.config['results_dir']))}"
        )
    return "\n\n".join(parts)


def _again(experiment: Experiment, options: argparse.Namespace, place: Path) -> str:
    """The command that prints the table of an experiment as this one did."""
    words = ["table", "--experiment", experiment.name]
    words += ["--reference", options.reference] if options.reference else []
    words += ["--legacy-test-selection"] if options.legacy_test_selection else []
    words += ["--results", str(place)] if place != RESULTS else []
    return command("report", *map(shlex.quote, words))


def compared(outcomes: Sequence[Outcome], experiment: Experiment, options: argparse.Namespace) -> tuple[Comparison | None, str]:
    """The comparison of an experiment's finished runs; None where they cannot be compared, and why."""
    if not any(outcome.result for outcome in outcomes):
        return None, ""
    try:
        found = of_experiment(Path(outcomes[0].trial.config["results_dir"]), experiment)
        return compare(found.records, options.reference, options.legacy_test_selection, notes=found.notes), ""
    except RunError as error:
        return None, str(error)
