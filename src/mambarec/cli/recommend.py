"""Use a finished run: `python recommend.py --run ../results/…/ --user 7 12 -k 20`. More: docs/guides/."""

import argparse
import sys
from contextlib import redirect_stdout
from pathlib import Path

import numpy as np
import pandas as pd

from mambarec.base.console import show
from mambarec.base.errors import ConfigError, DataError, exit_status
from mambarec.base.files import write_text
from mambarec.base.words import amount, command
from mambarec.cli.recommend_options import parse
from mambarec.data.dataset import RecDataset
from mambarec.running.lookup import choose_run
from mambarec.running.trained import Trained, load_trained
from mambarec.serving.lists import (
    about_strangers,
    evaluated_users,
    known_users,
    listed_users,
    recommend,
    recommend_to_basket,
    trained_users,
)
from mambarec.serving.new_items import Arrivals, best_users, recommend_with_new
from mambarec.serving.page import N_USERS, Gallery, lists_page
from mambarec.serving.titles import item_titles, with_titles
from mambarec.serving.vectors import export_vectors, similar_items
from mambarec.serving.writers import write_tables

_LISTED = 20  # unknown ids that are named


def directory(options: argparse.Namespace) -> Path:
    """The run that is named by its directory, or else by what it is."""
    described = [options.model, options.dataset, options.seed, *options.where]
    if options.run:
        if any(one is not None for one in described):
            raise ConfigError("--run names the run already: leave out -m, -d, --seed and --where")
        return options.run
    if all(one is None for one in described):
        raise ConfigError(f"name a finished run: --run DIRECTORY, or -m NAME -d NAME --seed N. `{command('runs')}` lists them")
    models, datasets = ([name] if name else [] for name in (options.model, options.dataset))
    seeds = [] if options.seed is None else [options.seed]
    return choose_run([options.results], models, datasets, seeds, options.where)


def run(options: argparse.Namespace, trained: Trained) -> None:
    """Do what the command says; what there is to say beside the table goes to standard error."""
    if options.command == "export":
        for path in export_vectors(trained, options.format, options.output):
            show(path)
        return
    titles = None
    if options.titles or getattr(options, "html", None):
        titles = item_titles(trained.dataset, getattr(options, "new_items", None))
    if options.titles and titles is None:
        raise DataError(
            f"--titles: {trained.dataset.folder / 'items.csv'} gives no titles; it needs the columns original_id and text"
        )
    shown = titles if options.titles else None
    if options.command == "similar":
        frame = similar_items(trained, options.item, options.k)
        write_tables([with_titles(frame, shown)], options.format, options.output)
        return
    if options.command == "audience":
        with Arrivals(trained, options.new_items) as arrivals:
            frame = best_users(trained, trained_users(trained.dataset), arrivals, options.item, options.k)
            write_tables([with_titles(frame, shown)], options.format, options.output)
        return
    if options.basket is not None:
        _write_basket(options, trained, shown)
        return
    users = _users(options, trained.dataset)
    if options.html:
        _write_page(options, trained, users, titles)
    if options.output or not options.html:
        n_rows = _write_lists(options, trained, users, shown)
        show(f"{amount(n_rows, 'recommendation')} for {amount(len(users), 'user')}", file=sys.stderr)
    known = trained_users(trained.dataset)
    if options.all and (left_out := len(np.setdiff1d(trained.dataset.present_users, known))):
        show(f"{amount(left_out, 'user')} without training pairs left out", file=sys.stderr)
    if strangers := about_strangers(trained.dataset, users):
        show(strangers, file=sys.stderr)


def _users(options: argparse.Namespace, dataset: RecDataset) -> np.ndarray:
    """The users (N,) that the command names. Ids that the data do not have are listed and passed over."""
    if not (options.user or options.users):
        return (trained_users if options.all else evaluated_users)(dataset)
    users, unknown = known_users(dataset, options.user or listed_users(options.users))
    if unknown:
        named = ", ".join(unknown[:_LISTED]) + (f" and {len(unknown) - _LISTED:,} more" if len(unknown) > _LISTED else "")
        show(f"passed over, since the data set {dataset.name} has no such users: {named}", file=sys.stderr)
    return users


def _write_page(options: argparse.Namespace, trained: Trained, users: np.ndarray, titles: pd.Series | None) -> None:
    gallery = Gallery(titles, options.images)
    some = users[:N_USERS]
    n_reasons = options.explain or int(bool(trained.dataset.modalities))
    frame = pd.concat(recommend(trained, some, options.k, options.include_seen, n_reasons), ignore_index=True)
    write_text(options.html, lists_page(trained, some, frame, gallery, len(users)))
    show(options.html)
    if options.images:
        shown = f"{len(gallery.pictures):,} of the {len(gallery.items):,} items on the page have a picture in {options.images}"
        named = "" if gallery.pictures else "; a picture is named by the original id of its item, such as B00005.jpg"
        show(f"{shown}{named}", file=sys.stderr)
    if len(some) < len(users):
        show(f"the page shows the first {len(some):,} of {len(users):,} users; name others with --user", file=sys.stderr)


def _write_basket(options: argparse.Namespace, trained: Trained, titles: pd.Series | None) -> None:
    """Write what is recommended to a new user who has the items of --basket."""
    table = recommend_to_basket(trained, options.basket, options.k, options.include_seen)
    n_rows = write_tables([with_titles(table, titles)], options.format, options.output)
    show(f"{amount(n_rows, 'recommendation')} for a basket of {len(set(options.basket))}", file=sys.stderr)


def _write_lists(options: argparse.Namespace, trained: Trained, users: np.ndarray, titles: pd.Series | None) -> int:
    """Write the recommendations for these users (N,), of new items too where a folder is named; returns their number."""
    if not options.new_items:
        frames = recommend(trained, users, options.k, options.include_seen, options.explain)
        return write_tables((with_titles(frame, titles) for frame in frames), options.format, options.output)
    with Arrivals(trained, options.new_items, options.boost or 1.0) as arrivals:
        frames = recommend_with_new(trained, users, options.k, arrivals, options.include_seen)
        return write_tables((with_titles(frame, titles) for frame in frames), options.format, options.output)


def main(arguments: list[str]) -> int:
    """Exit status 0, 2 for a mistake that the message explains, 130 when interrupted."""

    def work() -> None:
        options = parse(arguments)
        with redirect_stdout(sys.stderr):  # what a model prints is no part of the lists
            trained = load_trained(directory(options), options.data_path)
        run(options, trained)

    return exit_status(work, "stopped")
