"""Text features: `python prepare.py text -d NAME` encodes the texts of items.csv by a sentence-transformers model.

A text is encoded as it stands. preparation/features/feature_table.py says which files result.
"""

import argparse
import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mambarec.base.errors import ConfigError
from mambarec.base.words import positive
from mambarec.preparation.features.feature_table import Block, FeatureFiles, weights_digest
from mambarec.preparation.features.items import read_items
from mambarec.preparation.features.libraries import device, first_words, hub_cache, library
from mambarec.preparation.folder import describe
from mambarec.preparation.options import add_dataset, dataset_folder
from mambarec.preparation.readers.ids import is_missing_text

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

MODEL = "all-MiniLM-L6-v2"  # 384 wide
_BLOCK = 1024  # texts given to the encoder at a time, which makes batches of texts of like length


def encode_texts(folder: Path, model: str = MODEL, batch_size: int = 64, download: bool = False) -> None:
    """Write the text features of the data set in `folder`; what a stopped call has encoded is kept.

    model: a folder, or the name of a model in the cache, or one to be fetched where `download` is true. Raises ConfigError
    without the package or the model, DataError when items.csv cannot be used or holds no text.
    """
    items = read_items(folder, "text")
    texts = items["text"].str.strip()
    texts = texts.mask(texts.map(is_missing_text), "")
    encoder = load_encoder(model, download)

    def encode(some: list[str]) -> np.ndarray:
        """(N, D)"""
        return np.asarray(encoder.encode(some, batch_size=batch_size, show_progress_bar=False), dtype=np.float32)

    def blocks(start: int) -> Iterator[Block]:
        for first in range(start, len(texts), _BLOCK):
            block = texts.iloc[first : first + _BLOCK]
            real = (block != "").to_numpy()
            yield Block(encode(block[real].tolist()) if real.any() else empty, real)

    empty = encode(["a text, for the width"])[:0]  # (0, D)
    content = hashlib.sha256("\0".join(texts).encode()).hexdigest()
    made_by = {"model": model, "weights": weights_digest(encoder), "length": encoder.max_seq_length, "texts": content}
    files = FeatureFiles(folder, "text", "missing_text.csv")
    files.write(items["original_id"].tolist(), empty.shape[1], made_by, blocks, lambda item: "no text")


def load_encoder(model: str = MODEL, download: bool = False) -> "SentenceTransformer":
    """A sentence-transformers model from a folder or the cache, on the GPU where there is one; ConfigError without it."""
    library("transformers", "text encoding")
    sentence_transformers = library("sentence_transformers", "text encoding")
    try:
        encoder = sentence_transformers.SentenceTransformer(model, device=str(device()), local_files_only=not download)
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"--model {model} cannot be loaded: it is no folder of a sentence-transformers model, and not in the cache "
            f"{hub_cache()}. Name such a folder (modules.json, config.json, model.safetensors, tokenizer.json, …), or let it "
            f"be fetched with --download. The library says: {first_words(error)}"
        ) from None
    return encoder.float()


def add_parser(commands) -> None:
    """The command `text` of prepare.py."""
    text = "encode the texts of items.csv into text_feat.npy"
    parser = commands.add_parser("text", help=text, description=text, allow_abbrev=False)
    add_dataset(parser)
    parser.add_argument("--model", default=MODEL, help=f"a sentence-transformers model, by name or as a folder ({MODEL})")
    parser.add_argument("--batch-size", type=positive, default=64, metavar="N", help="(64)")
    parser.add_argument("--download", action="store_true", help="fetch the model where the cache does not have it")
    parser.set_defaults(does=_run)


def _run(options: argparse.Namespace) -> None:
    encode_texts(dataset_folder(options), options.model, options.batch_size, options.download)
    describe(options.dataset, image=False, text=True)
