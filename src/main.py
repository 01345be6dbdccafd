"""Train, search and compare: `python main.py -m MambaRec -d demo`. README.md shows what else it can do."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from analysis.comparison import METRICS, TESTED, compare
from analysis.records import load_records
from analysis.tables import rendered
from experiments.directory import RunDirectory
from experiments.engines import LocalProcesses, threads_each
from experiments.grid import by_model, plan, sample
from experiments.ray_engine import RayCluster
from experiments.run import run
from experiments.summary import failures, run_table, trials_table
from experiments.tpe import search
from experiments.trials import Engine, Outcome, one_after_the_other, prepare, run_trials
from utils.configurator import Config, available_datasets, available_models, override_pairs
from utils.console import Parser, show
from utils.errors import exit_status


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
    options, words = parse(arguments)
    return exit_status(lambda: work(options, words), "stopped. The same command with --resume goes on from the last checkpoint")


def work(options: argparse.Namespace, words: list[str]) -> int:
    """Train what the command names and print its table; 1 when a trial failed."""
    overrides = override_pairs(words) | ({"mg": True} if options.mg else {})
    if options.model_path:
        overrides["model_path"] = options.model_path
    if options.jobs > 1 or options.engine == "ray":
        overrides.setdefault("threads", threads_each(options.jobs))
    configs = plan(options.model, options.dataset, overrides, options.search)
    if len(configs) == 1 and options.engine == "local":
        show(run_table(run(configs[0], resume=options.resume, restart=options.restart)))
        return 0
    outcomes = run_all(configs, options)
    show(trials_table(outcomes, by_test=options.legacy_test_selection))
    results = [outcome.result for outcome in outcomes if outcome.result]
    metrics = [metric for metric in METRICS if results and metric in results[0]["test"]]
    if TESTED in metrics and len(by_model([outcome.trial.config for outcome in outcomes])) > 1:
        records = load_records([Path(result["directory"]) for result in results])
        show("\n" + rendered(compare(records, by_test=options.legacy_test_selection), metrics=metrics))
    if text := failures(outcomes):
        show(text, file=sys.stderr)
        return 1
    return 0


def run_all(configs: Sequence[Config], options: argparse.Namespace) -> list[Outcome]:
    """Outcomes of the grid, or of the points of it that the budget allows."""
    if options.restart:
        for trial in prepare(configs):
            RunDirectory(trial.path).discard()
    engine: Engine = one_after_the_other
    if options.engine == "ray":
        engine = RayCluster()
    elif options.jobs > 1:
        engine = LocalProcesses(options.jobs)

    def run_some(some: Sequence[Config]) -> list[Outcome]:
        return run_trials(prepare(some), engine, options.jobs)

    if options.sampler == "tpe":
        return search(configs, options.search_budget, options.jobs, run_some)
    return run_some(sample(configs, options.search_budget) if options.search_budget else configs)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
