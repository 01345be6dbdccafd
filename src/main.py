"""Train, search and compare: `python main.py -m MambaRec -d demo`. README.md shows what else it can do."""

if __name__ == "__main__":
    from utils.stopping import stop

    stop.listen()  # before what takes long to import

import argparse
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from analysis.comparison import METRICS, Comparison, compare
from analysis.selection import of_experiment
from analysis.tables import chosen_lines, rendered
from experiments.directory import RunDirectory
from experiments.engines import LocalProcesses, threads_each
from experiments.experiment import Experiment, plan_experiment
from experiments.grid import by_model, plan, sample
from experiments.ray_engine import RayCluster
from experiments.run import run
from experiments.summary import failures, run_table, trials_table
from experiments.tpe import search
from experiments.trials import Engine, Outcome, Trial, prepare, run_trials
from experiments.watching import watching
from utils.configurator import SRC, Config, available_datasets, available_models, override_pairs
from utils.console import Parser, show
from utils.errors import ConfigError, RunError, exit_status


def parse(arguments: list[str]) -> tuple[argparse.Namespace, list[str]]:
    """The program's own options, and the words that are configuration keys."""
    parser = Parser(
        description="Train and evaluate multimodal recommenders.",
        epilog="Any configuration key can be set: --learning_rate 5e-4. Several values make a grid: --mmd_weight 0.1 0.2. "
        f"Models: {', '.join(available_models())}. Data sets: {', '.join(available_datasets())}.",
        allow_abbrev=False,
    )
    parser.add_argument("-m", "--model", nargs="+", default=["MambaRec"], metavar="NAME", help="models, or all (MambaRec)")
    parser.add_argument("-d", "--dataset", nargs="+", default=["demo"], metavar="NAME", help="data sets (demo)")
    parser.add_argument("--model-path", metavar="DIR", help="models from there too, such as MMRec's src/models")
    parser.add_argument("--search", action="store_true", help="grid over the search_space of the model's YAML")
    parser.add_argument("--search-budget", type=int, metavar="N", help="try N points of each model's grid instead of all")
    parser.add_argument("--sampler", choices=["random", "tpe"], default="random", help="how these are chosen (random)")
    parser.add_argument("--legacy-test-selection", action="store_true", help="choose the grid point by test, as MMRec does")
    parser.add_argument("--show-test", action="store_true", help="the test figures of every grid point too")
    parser.add_argument("--reference", metavar="ROW", help="the model or row that is tested against the others (MambaRec)")
    parser.add_argument("--name", metavar="NAME", help="of the experiment, by which report.py finds its runs again")
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="trials side by side, threads split among them (1)")
    parser.add_argument("--engine", choices=["local", "ray"], default="local", help="where trials run (local)")
    parser.add_argument("--mg", action="store_true", help="mirror gradient (arXiv 2402.11262)")
    parser.add_argument("--resume", action="store_true", help="go on with a run that was stopped; several trials always do")
    parser.add_argument("--restart", action="store_true", help="throw away what is there of these runs and start over")
    options, words = parser.parse_known_args(arguments)
    for name, value in {"--jobs": options.jobs, "--search-budget": options.search_budget}.items():
        if value is not None and value < 1:
            parser.error(f"{name} {value}: expected a number above 0")
    if options.sampler == "tpe" and not options.search_budget:
        parser.error("--sampler tpe needs --search-budget, the number of points to try")
    return options, words


def main(arguments: list[str]) -> int:
    """Exit status 0, 1 when a trial failed, 2 for a mistake that the message explains, 130 when interrupted."""
    return exit_status(
        lambda: work(*parse(arguments)), "stopped. The same command with --resume goes on from the last checkpoint"
    )


def work(options: argparse.Namespace, words: list[str]) -> int:
    """Train what the command names and print its table; 1 when a trial failed."""
    overrides = override_pairs(words) | ({"mg": True} if options.mg else {})
    if options.model_path:
        overrides["model_path"] = options.model_path
    if options.jobs > 1 or options.engine == "ray":
        overrides.setdefault("threads", threads_each(options.jobs))
    configs = plan(options.model, options.dataset, overrides, options.search)
    if options.name is not None and len(configs) == 1:
        raise ConfigError(f"--name {options.name}: an experiment has several trials; this command has one")
    if len(configs) == 1 and options.engine == "local":
        with watching(lines=False) as display:
            watch = partial(display.show, f"{configs[0]['model']} on {configs[0]['dataset']}")
            result = run(configs[0], resume=options.resume, restart=options.restart, watch=watch)
        show(run_table(result))
        return 0
    outcomes, experiment = run_all(configs, options, overrides)
    text = failures(outcomes)
    if experiment:
        show(summary(outcomes, experiment, options))
    elif not text:
        show(run_table(outcomes[0].result or {}))
    if text:
        show(text, file=sys.stderr)
        return 1
    return 0


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
    place = Path(outcomes[0].trial.config["results_dir"])
    elsewhere = f" --results {place}" if place != SRC.parent / "results" else ""
    parts.append(f"The table again at any time: python report.py table --experiment {experiment.name}{elsewhere}")
    return "\n\n".join(parts)


def compared(outcomes: Sequence[Outcome], experiment: Experiment, options: argparse.Namespace) -> tuple[Comparison | None, str]:
    """The comparison of an experiment's finished runs; None where they cannot be compared, and why."""
    if not any(outcome.result for outcome in outcomes):
        return None, ""
    try:
        found = of_experiment(Path(outcomes[0].trial.config["results_dir"]), experiment)
        return compare(found.records, options.reference, options.legacy_test_selection, notes=found.notes), ""
    except RunError as error:
        return None, str(error)


def run_all(
    configs: Sequence[Config], options: argparse.Namespace, overrides: dict[str, Any]
) -> tuple[list[Outcome], Experiment | None]:
    """Outcomes of the grid, or of the points of it that the budget allows, and their experiment if there are several."""
    trials = prepare(configs, anew=options.restart)
    is_tpe = options.sampler == "tpe"
    chosen = trials
    if options.search_budget and not is_tpe:
        chosen = prepare(sample(configs, options.search_budget), anew=options.restart, among=configs)
    place = Path(configs[0]["results_dir"])
    experiment = _experiment(configs, trials, chosen, options, overrides) if len(trials) > 1 else None
    if experiment:
        experiment = experiment.begun(place)
    if options.restart:
        for trial in trials:
            RunDirectory(trial.path).discard()
    engine: Engine = RayCluster() if options.engine == "ray" else LocalProcesses(options.jobs)

    def run_some(some: Sequence[Config]) -> list[Outcome]:
        nonlocal experiment
        asked = prepare(some, anew=options.restart, among=configs)
        if experiment:
            experiment = experiment.with_trials(place, [trial.path for trial in asked])
        return run_trials(asked, engine, options.jobs)

    if is_tpe:
        outcomes = search(configs, options.search_budget, options.jobs, run_some)
    else:
        outcomes = run_trials(chosen, engine, options.jobs)
    if experiment:
        complete = all(outcome.result for outcome in outcomes)
        experiment = experiment.ended(place, [outcome.trial.path for outcome in outcomes], complete)
    return outcomes, experiment


def _experiment(
    configs: Sequence[Config],
    trials: Sequence[Trial],
    chosen: Sequence[Trial],
    options: argparse.Namespace,
    overrides: dict[str, Any],
) -> Experiment:
    groups = by_model(configs)
    if options.search or options.search_budget:
        purpose = "search"
    else:
        purpose = "comparison" if len({model for model, _ in groups}) > 1 else "grid"
    given = dict(overrides)
    if options.search_budget:
        given |= {"sampler": options.sampler, "search_budget": options.search_budget}
    known = [] if options.sampler == "tpe" else [trial.path for trial in chosen]
    paths = [trial.path for trial in trials]
    return plan_experiment(options.name, purpose, configs, paths, given, options.search_budget, known)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
