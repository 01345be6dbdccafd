"""From a file of interactions to a data set's folder: what the commands amazon and table have in common."""

import argparse
import math
import os
import shutil
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from mambarec.base.console import show
from mambarec.base.errors import ConfigError, DataError
from mambarec.base.logger import get_logger
from mambarec.base.words import command, decimal_hint, listed, option, positive
from mambarec.config.data_folder import feature_arrays
from mambarec.preparation.engine import Engine
from mambarec.preparation.filtering import RAW, filter_interactions
from mambarec.preparation.folder import check_outside, describe, new_folder, write_interactions, write_items, write_report
from mambarec.preparation.options import IMAGE_MODELS, add_dataset, check_case, dataset_folder
from mambarec.preparation.public import PUBLIC, check_name, check_size
from mambarec.preparation.readers.times import settle_text
from mambarec.preparation.report import Report
from mambarec.preparation.splits import NEED_TIME, SPLITS, split_interactions

Step = Callable[[Engine, Report], None]


@dataclass(frozen=True)
class Dump:
    """How one kind of raw data is read.

    interactions: fills the table `raw` (preparation/filtering.py). about: fills the table `about` (name, then `columns`) with
    what is known of the items, None where nothing is. vectors: writes ready image features into a folder.
    """

    interactions: Step
    item_column: str
    has_time: bool = True
    about: Step | None = None
    columns: tuple[str, ...] = ("text",)
    vectors: Callable[[Engine, Report, Path], None] | None = None


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of both commands: what is kept, how it is split, which features are made, and the bounds."""
    add_dataset(parser)
    parser.set_defaults(names={})  # what the reader calls a file, where it is not its path
    parser.add_argument("--overwrite", action="store_true", help="replace the data set of this name, if there is one")
    kept = parser.add_argument_group("what is kept")
    kept.add_argument("--min-rating", type=number, metavar="R", help="drop interactions with a lower rating (keep all)")
    core = "drop users and items with fewer than K interactions, and repeat this until all have K; 1 keeps all (5)"
    kept.add_argument("--k-core", type=positive, default=5, metavar="K", help=core)
    rules = "the rule that divides interactions into training, validation and test; see the guide on your own data (random)"
    kept.add_argument("--split", choices=SPLITS, default="random", help=rules)
    kept.add_argument("--seed", type=int, default=999, metavar="N", help="the seed of what the split shuffles (999)")
    unmatched = "go on if fewer than half of the items have a text, a picture or features"
    kept.add_argument("--allow-unmatched", action="store_true", help=unmatched)
    malformed = "the share of a file's lines that may be unusable; more is an error (0.01)"
    kept.add_argument("--max-malformed", type=share, default=0.01, metavar="SHARE", help=malformed)
    later = f"features; `{command('prepare', 'text')}` and `{command('prepare', 'images')}` make them later too"
    features = parser.add_argument_group(later)
    text_model = "encode the texts with this sentence-transformers model, a name or a folder"
    features.add_argument("--text-model", metavar="MODEL", help=text_model)
    images = "the folder of the pictures; a picture is named by the original id of its item"
    features.add_argument("--images", type=Path, metavar="FOLDER", help=images)
    features.add_argument("--image-model", metavar="MODEL", help=f"encode the pictures with this model: {IMAGE_MODELS}")
    features.add_argument("--weights", type=Path, metavar="FILE", help="a file with the weights of vgg16 or of a timm model")
    features.add_argument("--download", action="store_true", help="download a model that is not on this machine")
    bounds = parser.add_argument_group("bounds")
    memory = "memory for the tables; larger tables use the disk too (2.8)"
    bounds.add_argument("--memory", type=gigabytes, default=2.8, metavar="GB", help=memory)
    cores = "threads of the engine (the number of cores)"
    bounds.add_argument("--threads", type=threads, default=os.cpu_count(), metavar="N", help=cores)


def number(text: str) -> float:
    try:
        value = math.nan if "_" in text else float(text)  # Python reads 1_0 as ten
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise argparse.ArgumentTypeError(f"{text}; expected a number{decimal_hint(text)}")
    return value


def gigabytes(text: str) -> float:
    value = number(text)
    if not 0.01 <= value <= 1e6:
        raise argparse.ArgumentTypeError(f"{value}; expected a number from 0.01 to 1,000,000")
    return value


def threads(text: str) -> int:
    """The engine starts them all at once, so that too many would stop the machine."""
    most = 4 * (os.cpu_count() or 1)
    value = positive(text)
    if value > most:
        raise argparse.ArgumentTypeError(f"{value}; expected at most {most}, four for each core of this machine")
    return value


def share(text: str) -> float:
    value = number(text)
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"{text}; expected a number from 0 to 1")
    return value


def prepare(command_name: str, options: argparse.Namespace, dump: Dump) -> None:
    """Write the data set that the options of `add_options` describe. command_name: amazon or table."""
    if options.split in NEED_TIME and not dump.has_time:
        raise ConfigError(
            f"{option('split', options.split)} needs the time of interactions; name its column by {option('time-column')}"
        )
    if options.images and not (options.image_model or "image" in dump.columns):
        raise ConfigError(
            f"{option('images')} is for {option('image-model')}: name one, or run `{command('prepare', 'images')}` afterwards"
        )
    if options.image_model and not (options.images or "image" in dump.columns):
        raise ConfigError(f"{option('image-model')} needs pictures; name their folder by {option('images')}")
    if options.weights and not options.image_model:
        raise ConfigError(f"{option('weights', options.weights)} is for {option('image-model')}: name one, or leave it out")
    if options.download and not (options.image_model or options.text_model):
        raise ConfigError(f"{option('download', True)} is for {option('text-model')} or {option('image-model')}: name one")
    name, folder = options.dataset, dataset_folder(options)
    check_name(name, command_name, options.split)
    check_case(name, folder.parent)
    check_outside(folder, *(value for key, value in vars(options).items() if isinstance(value, Path) and key != "data_path"))
    if options.images and not options.images.is_dir():
        get_logger().warning("%s is not a folder, so no picture is there yet", option("images", options.images))
    report = Report(
        sys.argv,
        {key: getattr(options, key) for key in ("min_rating", "k_core", "split", "seed", "max_malformed")},
        options.names,
    )
    with new_folder(folder, options.overwrite) as temporary:
        overwrites = folder.exists()
        old = [path.name for path in feature_arrays(folder)]
        spill = temporary / "spill"
        with Engine(spill, options.memory, options.threads) as engine:
            engine.run(RAW)
            dump.interactions(engine, report)
            filter_interactions(engine, report, options.min_rating, options.k_core)
            kept = report.steps[-1][1]
            check_size(name, kept.users, kept.items, kept.interactions)
            report.splits = split_interactions(engine, options.split, options.seed, report)
            settle_text(engine, "labelled")
            write_interactions(engine, temporary, name, dump.item_column)
            engine.run("DROP TABLE labelled")
            engine.run(f"CREATE TABLE about (name VARCHAR, {', '.join(f'{column} VARCHAR' for column in dump.columns)})")
            if dump.about:
                dump.about(engine, report)
            known = write_items(engine, temporary, dump.columns)
            _check_encoders(options, known)
            has_images = bool(dump.vectors or options.images or known.get("image"))
            kinds = ["image"] * has_images + ["text"] * bool(known["text"])
            n_items = engine.value("SELECT count(*) FROM items")
            if dump.about:
                report.notes += [f"items with {column}: {count:,} of {n_items:,}" for column, count in known.items()]
            if dump.vectors:
                dump.vectors(engine, report, temporary)
        shutil.rmtree(spill, ignore_errors=True)
        for source in report.sources:
            source.account()
        write_report(temporary, report)
        with suppress(ConfigError):  # before the folder is there, so that training knows it at once; said below if it fails
            describe(name, *kinds)
    show(report.text())
    get_logger().info("%s", folder)
    # Only now, since the old folder needs its lines until the new one is in its place. A public YAML says what its source has.
    describe(name, *kinds, anew=overwrites and name not in PUBLIC)
    _features(options, folder, "image" if known.get("image") else None)
    if lost := [name for name in old if not (folder / name).exists()]:
        makes = ", ".join(f"`{command('prepare', kind)}`" for kind in ("features", "text", "images"))
        get_logger().info(
            "%s of the old folder: removed with it, since the items have new numbers. Make them again: %s", listed(lost), makes
        )


def _check_encoders(options: argparse.Namespace, known: Mapping[str, int]) -> None:
    """DataError where a model is to encode what no item has. known: how many items have a text, and how many a picture."""
    for kind, what in (("text", "text"), ("image", "picture")):
        model = getattr(options, f"{kind}_model")
        in_a_folder = kind == "image" and options.images
        if model and known.get(kind) == 0 and not in_a_folder:
            raise DataError(
                f"{option(f'{kind}-model', model)} has nothing to encode: no item that is kept has a {what}. Look at the "
                "column, or leave the option out"
            )


def _features(options: argparse.Namespace, folder: Path, image_column: str | None) -> None:
    """Text and image features, as far as the options ask for them; the data set is complete before and after."""
    if options.text_model:
        from mambarec.preparation.features.text import encode_texts

        encode_texts(folder, options.text_model, download=options.download)
    if options.image_model:
        from mambarec.preparation.features.images import extract_features

        images = None if image_column else options.images
        extract_features(
            folder,
            options.image_model,
            options.weights,
            download=options.download,
            images=images,
            column=image_column,
            allow_unmatched=options.allow_unmatched,
        )
