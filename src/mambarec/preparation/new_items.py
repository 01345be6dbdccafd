"""`python prepare.py items`: a folder of new items for `recommend.py --new-items`, by the encoders of a data set.

The encoders are those that the data set's report.json names; `prepare.py text` and `prepare.py images` write their names there.
"""

import argparse
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from mambarec.base.cells import guarded
from mambarec.base.errors import ConfigError, DataError
from mambarec.base.files import real
from mambarec.base.logger import get_logger
from mambarec.base.words import command, option
from mambarec.data.encoders import encoder_text, read_encoders
from mambarec.data.id_maps import read_table
from mambarec.preparation.features.backbones import load_backbone
from mambarec.preparation.features.feature_table import weights_digest
from mambarec.preparation.features.images import COLUMN, extract_features
from mambarec.preparation.features.items import FILE
from mambarec.preparation.features.packing import STORE
from mambarec.preparation.features.text import encode_texts, load_encoder
from mambarec.preparation.folder import new_folder
from mambarec.preparation.options import add_dataset, existing_folder


def add_parser(commands) -> None:
    """The command `items` of prepare.py."""
    text = f"encode new items for `{command('recommend', '--new-items', 'FOLDER')}`"
    description = f"{text.capitalize()}, with the encoders that the data set's report.json names."
    parser = commands.add_parser("items", help=text, description=description, allow_abbrev=False)
    add_dataset(parser)
    columns = (
        "a CSV with the column original_id; text for text features; image, the paths of pictures, unless --images is given"
    )
    parser.add_argument("--items", type=Path, required=True, metavar="FILE", help=columns)
    images = "the folder of the pictures, which are named by original_id; or where the paths start"
    parser.add_argument("--images", type=Path, metavar="FOLDER", help=images)
    parser.add_argument("--output", type=Path, required=True, metavar="FOLDER", help="the folder to write")
    parser.add_argument("--overwrite", action="store_true", help="replace the folder, if it is there")
    parser.add_argument("--text-model", metavar="MODEL", help="the place of the text encoder, if it has moved")
    parser.add_argument("--image-model", metavar="MODEL", help="the place of the image encoder, if it has moved")
    parser.add_argument("--weights", type=Path, metavar="FILE", help="a file with the weights of the image encoder")
    parser.add_argument("--download", action="store_true", help="download an encoder that is not on this machine")
    parser.set_defaults(does=run)


def run(options: argparse.Namespace) -> None:
    """Write the folder, or nothing where an encoder is another one."""
    data = existing_folder(options)
    known = read_encoders(data)
    if not known:
        raise ConfigError(
            f"{data / 'report.json'} names no encoder. `{command('prepare', 'text')}` and `{command('prepare', 'images')}` "
            "write it there. Features made elsewhere need their own encoder, and a folder made by hand (docs/cold-start.md)"
        )
    _check_options(options, known)
    items = _read_items(options.items)
    models = {kind: getattr(options, f"{kind}_model") or known[kind]["model"] for kind in known}
    encoder = backbone = None
    if "text" in known:
        encoder = load_encoder(models["text"], options.download)
        _check(options, "text", known["text"], models["text"], weights_digest(encoder))
    if "image" in known:
        backbone = load_backbone(models["image"], options.weights, options.download)
        _check(options, "image", known["image"], models["image"], weights_digest(backbone.model))
    with new_folder(real(options.output), options.overwrite, "output") as folder:
        if "text" in items:
            items["text"] = items["text"].map(guarded)
        items.to_csv(folder / FILE, index_label="item_id", lineterminator="\n")
        if "text" in known:
            encode_texts(folder, models["text"], encoder=encoder)
        if "image" in known:
            column = COLUMN if COLUMN in items else None
            if column is None and options.images is None:
                raise ConfigError(
                    f"where are the pictures? {options.items} has no column '{COLUMN}'; name their folder by --images"
                )
            start = options.images or real(options.items).parent
            extract_features(
                folder,
                models["image"],
                images=start,
                column=column,
                allow_unmatched=True,
                backbone=backbone,
            )
            shutil.rmtree(folder / STORE)
    get_logger().info("%s", real(options.output))


def _check_options(options: argparse.Namespace, known: Mapping[str, Any]) -> None:
    """ConfigError for an option of an encoder that the data set does not have."""
    kinds = {"text_model": "text", "image_model": "image", "weights": "image", "images": "image"}
    for name, kind in kinds.items():
        if (value := getattr(options, name)) and kind not in known:
            made = " and ".join(known)
            raise ConfigError(
                f"{option(name.replace('_', '-'), value)}: report.json of {options.dataset} names no {kind} encoder, but one "
                f"for {made}; leave the option out"
            )


def _read_items(path: Path) -> pd.DataFrame:
    if not path.is_file():
        raise DataError(f"{path} {'is a folder' if path.is_dir() else 'does not exist'}; expected a CSV of the new items")
    frame = read_table(path, ",")
    if "original_id" not in frame:
        raise DataError(f"{path} has no column original_id; it has: {', '.join(frame.columns)}")
    if frame.empty:
        raise DataError(f"{path} has a header but no rows")
    return frame.drop(columns="item_id", errors="ignore")


def _check(options: argparse.Namespace, kind: str, known: dict, model: str, weights: str) -> None:
    """ConfigError where an encoder has other weights than the one that made the data set's features."""
    if weights != known["weights"]:
        here = encoder_text({"model": model, "weights": weights})
        raise ConfigError(
            f"the {kind} features of {options.dataset} are of {encoder_text(known)}, and this is {here}: its numbers "
            f"mean something else. Name the same encoder by --{kind}-model" + " and --weights" * (kind == "image")
        )
