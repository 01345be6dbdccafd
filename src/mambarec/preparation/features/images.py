"""Image features: `python prepare.py images -d NAME --images FOLDER` packs pictures and runs an image model over them.

The pictures go into images.lmdb once (packing.py), and the model reads them from there. feature_table.py says which files
result.
"""

import argparse
import io
import os
import warnings
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import numpy as np
from torch import Tensor

from mambarec.base.errors import ConfigError
from mambarec.base.words import positive
from mambarec.preparation.features.backbones import MODEL, Backbone, load_backbone
from mambarec.preparation.features.feature_table import Block, FeatureFiles, weights_digest
from mambarec.preparation.features.items import read_items
from mambarec.preparation.features.packing import STORE, pack_images
from mambarec.preparation.features.pictures import upright_rgb
from mambarec.preparation.features.store import ImageStore
from mambarec.preparation.folder import describe
from mambarec.preparation.options import IMAGE_MODELS, add_dataset, existing_folder

COLUMN = "image"  # of items.csv: the path of the item's picture
_LONGEST = 100  # times the shorter side; resized, such a picture would need too much memory
_MOST_PIXELS = 89_478_485  # from which on Pillow warns of a bomb


def extract_features(
    folder: Path,
    model: str = MODEL,
    weights: Path | None = None,
    batch_size: int = 64,
    download: bool = False,
    images: Path | None = None,
    column: str | None = None,
    allow_unmatched: bool = False,
    backbone: Backbone | None = None,
) -> None:
    """Write the image features of the data set in `folder`, from its store; what a stopped call has computed is kept.

    model, weights, download: as in backbones.load_backbone. images, column: where the pictures are that go into
    the store first, and allow_unmatched: as in packing.pack_images; neither: the store is there. backbone: the
    model, where it is loaded already. Raises what these two raise, and DataError without items.csv, a store, or a picture
    that can be read.
    """
    from PIL.Image import DecompressionBombWarning

    items = read_items(folder, column)
    backbone = backbone or load_backbone(model, weights, download)
    if images is not None or column:
        pack_images(folder, items, images, column, allow_unmatched)
    with ImageStore(folder / STORE, read_only=True) as store:
        width = backbone.width()

        def blocks(start: int) -> Iterator[Block]:
            for pictures in _prepared(store, range(start, len(items)), backbone, batch_size):
                real = np.array([isinstance(picture, Tensor) for picture in pictures])
                readable = [picture for picture in pictures if isinstance(picture, Tensor)]
                yield Block(backbone.features(readable).numpy() if readable else np.empty((0, width), np.float32), real)

        def reason(item: int) -> str:
            return str(_prepare(next(store.read([item])), backbone))

        made_by = {"model": backbone.name, "weights": weights_digest(backbone.model), "pictures": store.version}
        files = FeatureFiles(folder, "image", "missing_images.csv")
        with warnings.catch_warnings(action="ignore", category=DecompressionBombWarning):  # no thread has its own
            files.write(items["original_id"].tolist(), width, made_by, blocks, reason)


def _prepared(store: ImageStore, items: range, backbone: Backbone, batch_size: int) -> Iterator[list[Tensor | str]]:
    """The prepared pictures of some items, in batches; while the model works on one, threads prepare the next."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        waiting: list[Future] = []
        for first in range(items.start, items.stop, batch_size):
            batch = range(first, min(first + batch_size, items.stop))
            coming = [pool.submit(_prepare, content, backbone) for content in store.read(batch)]
            if waiting:
                yield [future.result() for future in waiting]
            waiting = coming
        yield [future.result() for future in waiting]


def _prepare(content: bytes | None, backbone: Backbone) -> Tensor | str:
    """A picture as the model wants it (3, H, W), or why there is none."""
    from PIL import Image, UnidentifiedImageError

    if content is None:
        return "no image"
    try:
        with Image.open(io.BytesIO(content)) as picture:
            too_long = max(picture.size) > _LONGEST * min(picture.size)
            if too_long or picture.width * picture.height > _MOST_PIXELS:
                return f"unreadable: {picture.width} x {picture.height} pixels"
            return backbone.prepare(upright_rgb(picture))
    except UnidentifiedImageError:
        return "unreadable: of no format that Pillow knows"
    except Exception as error:  # a broken file makes the decoders raise almost anything
        return f"unreadable: {error}"


def add_parser(commands) -> None:
    """The command `images` of prepare.py."""
    text = "pack pictures into images.lmdb, and write their features to image_feat.npy"
    parser = commands.add_parser("images", help=text, description=text.capitalize(), allow_abbrev=False)
    add_dataset(parser)
    images = "the folder of the pictures; a picture is named by the original id of its item (the pictures packed before)"
    parser.add_argument("--images", type=Path, metavar="FOLDER", help=images)
    column = (
        f"the column of items.csv with the path of each picture, below --images or the data set's folder ({COLUMN}, if there)"
    )
    parser.add_argument("--image-column", metavar="COLUMN", help=column)
    unmatched = "go on if fewer than half of the items have a picture"
    parser.add_argument("--allow-unmatched", action="store_true", help=unmatched)
    parser.add_argument("--model", "--image-model", default=MODEL, help=f"{IMAGE_MODELS} ({MODEL})")
    parser.add_argument("--weights", type=Path, metavar="FILE", help="a file with the weights of vgg16 or of a timm model")
    batch = "pictures that the model gets at a time (64)"
    parser.add_argument("--batch-size", type=positive, default=64, metavar="N", help=batch)
    parser.add_argument("--download", action="store_true", help="download weights that are not on this machine")
    parser.set_defaults(does=_run)


def _run(options: argparse.Namespace) -> None:
    folder = existing_folder(options)
    column = options.image_column
    if column is None and options.images is None:
        column = COLUMN if COLUMN in read_items(folder) else None
        if column is None and not (folder / STORE).exists():
            raise ConfigError(
                f"where are the pictures? {folder / 'items.csv'} has no column '{COLUMN}'. Name the folder of the pictures "
                "with --images, or the column of their paths with --image-column"
            )
    extract_features(
        folder,
        options.model,
        options.weights,
        options.batch_size,
        options.download,
        options.images,
        column,
        options.allow_unmatched,
    )
    describe(options.dataset, "image")
