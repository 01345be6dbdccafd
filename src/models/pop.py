"""Pop: every user is recommended the items with the most training pairs. Nothing is trained, and nobody is known.

What any model must be above to have learned who likes what. An item of the data set without pairs stands last.
"""

import numpy as np
import torch
from torch import Tensor

from mambarec.base.settings import Settings
from mambarec.nn.abstract_recommender import GeneralRecommender


class PopSettings(Settings):
    """Pop has no keys of its own."""


class Pop(GeneralRecommender):
    """Scores are the items' numbers of training pairs, I items, B batch."""

    counts: Tensor

    def __init__(self, config, dataloader):
        super().__init__(config, dataloader)
        counts = np.asarray(dataloader.inter_matrix("csr").sum(axis=0)).ravel()
        self.register_buffer("counts", torch.from_numpy(counts).float(), persistent=False)  # (I,)

    def full_sort_predict(self, interaction: list[Tensor]) -> Tensor:
        """Scores (B, I), the same for all users interaction[0] (B,)."""
        return self.counts.repeat(len(interaction[0]), 1)
