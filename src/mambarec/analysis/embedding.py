"""How item vectors lie: a t-SNE map, the density of its angles, and uniformity on the unit sphere.

The vectors are those that items are scored by; of MambaRec the sum of content and side, into which the modalities are fused.
scikit-learn is part of the optional extra [report].
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from mambarec.base.errors import RunError
from mambarec.base.extras import optional
from mambarec.running.trained import load_trained
from mambarec.serving.vectors import vectors

N_SHOWN = 2000  # items that are drawn, at most
PERPLEXITY = 30
BANDWIDTH = np.deg2rad(8)  # of the angles' density


def check_sklearn() -> None:
    """ConfigError that says how to get scikit-learn where it is absent."""
    optional("sklearn", "scikit-learn", "report", "t-SNE needs")


def item_directions(runs: Sequence[Path], seed: int = 0) -> tuple[np.ndarray, list[np.ndarray]]:
    """Unit vectors (N, D) of the same N items from each run, and the numbers (N,) of these items: all, or N_SHOWN at random.

    Numbers that no interaction has are no items. RunError for what is no run's directory: a compact record holds no vectors.
    """
    tables, present = [], np.empty(0, dtype=np.int64)
    for run in runs:
        if not Path(run).is_dir():
            raise RunError(f"{run} holds no model: vectors come from the run's directory, results/<dataset>/<model>/<run>")
        trained = load_trained(run)
        tables.append(vectors(trained)[1].numpy().astype(np.float64))
        present = trained.dataset.present_items
    items = np.sort(np.random.default_rng(seed).permutation(present)[:N_SHOWN])
    rows = [table[items] for table in tables]
    return items, [row / np.maximum(np.linalg.norm(row, axis=1, keepdims=True), 1e-12) for row in rows]


def uniformity(directions: np.ndarray) -> float:
    """log of the mean of exp(-2 |x - y|^2) over pairs of unit vectors (N, D); lower is more uniform.

    Wang and Isola, ICML 2020, arXiv 2005.10242, with t = 2. 0 when all are one; on unit vectors |x - y|^2 = 2 - 2<x, y>.
    """
    first, second = np.triu_indices(len(directions), 1)
    cosines = (directions @ directions.T)[first, second]
    return float(np.log(np.exp(4 * cosines - 4).mean()))


def tsne(directions: np.ndarray, seed: int = 0) -> np.ndarray:
    """Map unit vectors (N, D) to the plane: (N, 2), centred. van der Maaten and Hinton, JMLR 2008."""
    check_sklearn()
    from sklearn.manifold import TSNE

    perplexity = min(PERPLEXITY, (len(directions) - 1) / 3)
    points = TSNE(perplexity=perplexity, init="pca", random_state=seed).fit_transform(directions).astype(np.float64)
    return points - points.mean(0)


def angle_density(points: np.ndarray, n_angles: int = 361) -> pd.DataFrame:
    """Density of the directions of points (N, 2) from the origin: columns angle (degrees, -180 to 180), density (per radian).

    A von Mises kernel, which closes the circle, as narrow as a Gaussian of BANDWIDTH.
    """
    angles = np.arctan2(points[:, 1], points[:, 0])
    grid = np.linspace(-np.pi, np.pi, n_angles)
    concentration = 1 / BANDWIDTH**2
    kernel = np.exp(concentration * np.cos(grid[:, None] - angles)) / (2 * np.pi * np.i0(concentration))  # (n_angles, N)
    return pd.DataFrame({"angle": np.rad2deg(grid), "density": kernel.mean(1)})
