"""Train, search and compare: `python main.py -m MambaRec -d demo`. README.md shows what else it can do."""

import argparse
import sys

from experiments.grid import plan, run_all
from experiments.summary import run_table, trials_table
from utils.configurator import available_datasets, available_models, override_pairs
from utils.errors import UserError


def parse(arguments: list[str]) -> tuple[argparse.Namespace, list[str]]:
    """The program's own options, and the words that are configuration keys."""
    parser = argparse.ArgumentParser(
        description="Train and evaluate multimodal recommenders.",
        epilog="Any configuration key can be set: --learning_rate 5e-4. Several values make a grid: --mmd_weight 0.1 0.2. "
        f"Models: {', '.join(available_models())}. Data sets: {', '.join(available_datasets())}.",
        allow_abbrev=False,
    )
    parser.add_argument("-m", "--model", nargs="+", default=["MambaRec"], metavar="NAME", help="models, or all (MambaRec)")
    parser.add_argument("-d", "--dataset", nargs="+", default=["demo"], metavar="NAME", help="data sets (demo)")
    parser.add_argument("--search", action="store_true", help="grid over the search_space of the model's YAML")
    parser.add_argument("--mg", action="store_true", help="mirror gradient (arXiv 2402.11262)")
    parser.add_argument("--resume", action="store_true", help="go on with runs that were stopped")
    parser.add_argument("--restart", action="store_true", help="throw away what is there of these runs and start over")
    return parser.parse_known_args(arguments)


def main(arguments: list[str]) -> int:
    """Exit status 0, 2 for a mistake that the message explains, 130 when interrupted."""
    options, words = parse(arguments)
    try:
        overrides = override_pairs(words) | ({"mg": True} if options.mg else {})
        trials = plan(options.model, options.dataset, overrides, options.search)
        results = run_all(trials, resume=options.resume, restart=options.restart)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\nstopped. The same command with --resume goes on from the last checkpoint", file=sys.stderr)
        return 130
    print(run_table(results[0]) if len(results) == 1 else trials_table(trials, results))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
