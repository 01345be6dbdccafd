"""Make data sets: `python prepare.py table --interactions ratings.csv …`. docs/guides/ shows what else it can do."""

import argparse
import importlib
from collections.abc import Mapping, Sequence

from mambarec.base.console import Parser
from mambarec.base.errors import exit_status
from mambarec.base.words import command

# Each command with the module that defines it, imported only where it is needed: some are slow to import.
COMMANDS = {
    "amazon": "mambarec.preparation.amazon",
    "table": "mambarec.preparation.tabular",
    "mmssl": "mambarec.preparation.mmssl",
    "text": "mambarec.preparation.features.text",
    "images": "mambarec.preparation.features.images",
    "features": "mambarec.preparation.features.precomputed",
    "items": "mambarec.preparation.new_items",
    "resplit": "mambarec.preparation.resplit",
    "check": "mambarec.preparation.validation",
}


def parse(arguments: list[str]) -> argparse.Namespace:
    parser, _ = parsers([name for name in COMMANDS if name in arguments[:1]] or list(COMMANDS))
    return parser.parse_args(arguments)


def parsers(names: Sequence[str]) -> tuple[Parser, Mapping[str, Parser]]:
    """The parser of all words, and by name those of the commands that are asked for."""
    parser = Parser(
        description="From raw data to a data set, its features, and what is wrong with it.",
        epilog=f"`{command('prepare', 'COMMAND', '-h')}` shows the options of a command.",
    )
    parser.add_version()
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for name in names:
        importlib.import_module(COMMANDS[name]).add_parser(commands)
    return parser, commands.choices


def main(arguments: list[str]) -> int:
    """Exit status 0, 1 where `check` found something wrong, 2 for a mistake that the message explains, 130 when interrupted."""

    def work() -> int | None:
        options = parse(arguments)
        return options.does(options)

    return exit_status(work, "stopped; nothing half-made is left")
