"""The data set `demo`: small, generated from a seed, and honest about when item features help.

A user's taste has a visual and a textual part; image features show the first, text features the second, each through a random
projection with noise. Popularity is long-tailed, so that many items have few interactions and content has something to say.
"""

from pathlib import Path

import numpy as np

from mambarec.base.errors import DataError
from mambarec.base.files import replacing_folder
from mambarec.base.logger import get_logger

SEED = 2025
N_USERS, N_ITEMS = 2000, 1000
N_STYLES = 12  # dimensions of each part of the taste
IMAGE_WIDTH, TEXT_WIDTH = 256, 128
TASTE, POPULARITY, NOISE = 8.0, 0.55, 0.5  # strength of taste, exponent of popularity, noise over signal in a feature


def ensure_demo(folder: Path) -> None:
    """Generate the demo data where `folder` is that of the demo and has none; OSError when it cannot be written.

    DataError where the folder holds something else: its files stay.
    """
    if folder.name != "demo" or (folder / "demo.inter").exists():
        return
    if folder.is_dir() and any(folder.iterdir()):
        raise DataError(
            f"{folder} has files and no demo.inter. Move them away, and the demo is generated there. Give your own data "
            "another name"
        )
    with replacing_folder(folder, wait=True) as temporary:
        if (folder / "demo.inter").exists():  # by another process, while this one waited
            temporary.rmdir()
            return
        write_demo(temporary)
    get_logger().info("generated the demo data: %s", folder)


def write_demo(folder: Path, seed: int = SEED) -> None:
    """Write demo.inter, image_feat.npy (I, 256) and text_feat.npy (I, 128), the same for the same seed."""
    rng = np.random.default_rng(seed)
    visual, textual = (rng.dirichlet(np.full(N_STYLES, 0.15), N_ITEMS) for _ in range(2))  # (I, styles), mostly one style
    appeal = np.log(rng.permutation(np.arange(1, N_ITEMS + 1) ** -POPULARITY))  # (I,), long-tailed
    users, items = _interactions(rng, visual, textual, appeal)
    kept, items = np.unique(items, return_inverse=True)  # items nobody chose are left out

    table = np.stack((users, items, _labels(rng, users)), axis=1)
    header = "userID\titemID\trating\ttimestamp\tx_label"
    np.savetxt(folder / "demo.inter", table, "%d\t%d\t1.0\t0\t%d", header=header, comments="")
    np.save(folder / "image_feat.npy", _feature(rng, visual[kept], IMAGE_WIDTH))
    np.save(folder / "text_feat.npy", _feature(rng, textual[kept], TEXT_WIDTH))


def _interactions(rng: np.random.Generator, visual: np.ndarray, textual: np.ndarray, appeal: np.ndarray):
    """Each user's items, drawn without replacement with probability by taste and popularity: two (E,), users ascending."""
    tastes = [rng.dirichlet(np.full(N_STYLES, 0.3), N_USERS) for _ in range(2)]  # (U, styles), a few styles each
    fit = sum(taste @ style.T for taste, style in zip(tastes, (visual, textual), strict=True))  # (U, I)
    counts = np.minimum(5 + rng.geometric(1 / 8, N_USERS), 60)
    noisy = TASTE * fit + appeal + rng.gumbel(size=fit.shape)  # the top n of these are n draws without replacement
    order = np.argsort(-noisy, axis=1)
    chosen = np.arange(N_ITEMS) < counts[:, None]
    return np.repeat(np.arange(N_USERS), counts), order[chosen]


def _labels(rng: np.random.Generator, users: np.ndarray) -> np.ndarray:
    """8:1:1 within each user, at least one pair each for validation and test."""
    order = np.lexsort((rng.random(len(users)), users))
    counts = np.bincount(users)
    rank = np.arange(len(users)) - np.repeat(counts.cumsum() - counts, counts)
    held_out = np.maximum(1, counts // 10)[users]
    labels = np.empty(len(users), dtype=np.int64)
    labels[order] = np.where(rank < held_out, 2, np.where(rank < 2 * held_out, 1, 0))
    return labels


def _feature(rng: np.random.Generator, style: np.ndarray, width: int) -> np.ndarray:
    signal = style @ rng.normal(size=(N_STYLES, width))  # (I, width)
    return (signal + NOISE * signal.std() * rng.normal(size=signal.shape)).astype(np.float32)
