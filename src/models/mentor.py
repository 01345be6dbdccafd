"""MENTOR: DRAGON's graph nets without a user-user graph, with views that are aligned, and noisy views that are contrasted.

Xu et al., *MENTOR: Multi-level Self-supervised Learning for Multimodal Recommendation*, AAAI 2025, arXiv 2402.19407. Departs
from the paper, as the authors' code does: BPR has the logarithm to base 2, the noisy views have nets of their own, and the
contrast is over all users and items. Departs from that code: evaluation uses the parameters, where the code uses the vectors of
the last training step (`evaluate_on: last_forward`). `feature_mask` says whether the masked features are learned from, as in
the paper (`trained`), or only enter the loss that is logged, as in the authors' code (`constant`).
U users, I items, B batch, D embedding_size, M modalities.
"""

import math
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mambarec.base.settings import key
from mambarec.nn.alignment import info_nce
from mambarec.nn.loss import bpr_logistic
from mambarec.nn.perturbation import perturb
from mambarec.nn.preference import PreferenceNet, PreferenceRecommender, PreferenceSettings

N_LAYERS = 2  # over the user-item graph; fixed in the authors' code


class MENTORSettings(PreferenceSettings):
    """The keys of MENTOR."""

    align_weight: float = key("Weight of the distance between the views' variances and means.", ge=0)
    feature_mask: Literal["constant", "trained"] = key("Whether the masked features are trained.")
    mask_weight_f: float = key("Weight of the masked features.", ge=0)
    dropout: float = key("Share of the features that are masked.", ge=0, lt=1)
    mask_weight_g: float = key("Weight of the contrast between the noisy views.", ge=0)
    temp: float = key("Temperature of the contrast between the noisy views.", gt=0)
    noise: float = key("Length of the noise on a vector.", ge=0)


class MENTOR(PreferenceRecommender):
    """Scores are inner products of the modalities' vectors side by side, M D wide. The features stay fixed."""

    def __init__(self, config, dataloader):
        super().__init__(config, dataloader)
        self.align_weight, self.mask_weight = config["align_weight"], config["mask_weight_f"]
        self.contrast_weight, self.temperature = config["mask_weight_g"], config["temp"]
        self.noise = config["noise"]
        self.mask = config["feature_mask"]
        self.noisy_nets = nn.ModuleList((self.new_nets(), self.new_nets()))
        self.id_net = PreferenceNet(self.n_users, self.dim, self.dim)
        self.item_ids = nn.Parameter(nn.init.xavier_normal_(torch.empty(self.n_items, self.dim)))
        width = len(self.features) * self.dim
        self.dropout, self.predict = nn.Dropout(config["dropout"]), nn.Linear(width, width)
        self.predict.requires_grad_(self.mask == "trained")

    def vectors(self) -> tuple[Tensor, Tensor]:
        """User (U, M D) and item (I, M D) vectors."""
        users, items = self.split(self.propagate(self.starts(self.nets)))
        return self.weighed(users), items

    def propagate(self, starts: list[Tensor], noise: float = 0.0) -> Tensor:
        """The sum of the layers of N nets, (U+I, N D), from what they start from, (U+I, D) each.

        Noise is added to each layer before the next is made of it.
        """
        layer = total = torch.cat(starts, 1)  # (U+I, N D)
        for number in range(N_LAYERS):
            layer = self.adjacency(layer)
            if noise:
                blocks = layer.unflatten(1, (-1, self.dim))  # (U+I, N, D)
                layer = perturb(blocks, self.draw(blocks, number), noise).flatten(1)
            total = total + layer
        return total

    def draw(self, blocks: Tensor, layer: int) -> Tensor:
        """Uniform numbers for a layer of the noisy nets, (U+I, 2M, D): the modalities of one view, then those of the other."""
        return torch.rand_like(blocks)

    def calculate_loss(self, interaction: Tensor) -> Tensor:
        """BPR, the penalty, alignment, masked features and the contrast, on a batch (3, B); a scalar."""
        plain_users, plain_items = self.split(self.propagate([self.id_net(self.item_ids), *self.starts(self.nets)]))
        users, items = self.weighed(plain_users[:, self.dim :]), plain_items[:, self.dim :]  # (U, M D), (I, M D)
        self.keep(users, items)

        user, pairs = F.embedding(interaction[0], users), interaction[1:].flatten()  # (B, M D), (2B,)
        loss = bpr_logistic(user, *F.embedding(pairs, items).chunk(2)) / math.log(2)
        loss = loss + self.reg_weight * self.penalty(interaction[0])
        loss = loss + self.align_weight * self.alignment(torch.cat((plain_users, plain_items)), torch.cat((users, items)))
        loss = loss + self.mask_weight * (self.masked(users) + self.masked(items))

        return loss + self.contrast_weight * self.contrast() if self.contrast_weight else loss

    def contrast(self) -> Tensor:
        """InfoNCE of the two noisy views, over all users and over all items; a scalar."""
        starts = [start for nets in self.noisy_nets for start in self.starts(nets)]
        users, items = (part.chunk(2, 1) for part in self.split(self.propagate(starts, self.noise)))
        return info_nce(*map(self.weighed, users), self.temperature) + info_nce(*items, self.temperature)

    def alignment(self, plain: Tensor, fused: Tensor) -> Tensor:
        """Distances of variance and mean between every two views: ids, each modality, and what is scored; a scalar.

        plain (U+I, (1 + M) D): a block for the ids and for each modality. A view has its block M times, and so is as wide as
        fused (U+I, M D), what is scored. With one modality that is the modality's own.
        """
        blocks = plain.unflatten(1, (-1, self.dim))  # (U+I, 1 + M, D)
        copies = len(self.features)  # of c times n numbers the variance with divisor c n - 1 is that of n with n - 1 / c
        variances, means = torch.var_mean(blocks, dim=(0, 2), correction=1 / copies)
        if copies > 1:
            variance, mean = torch.var_mean(fused)
            variances, means = torch.cat((variances, variance[None])), torch.cat((means, mean[None]))
        gaps = torch.stack([values[:, None] - values for values in (variances, means)])  # (2, V, V), each pair twice
        return gaps.abs().sum() / 2

    def masked(self, vectors: Tensor) -> Tensor:
        """1 - mean cosine of masked vectors (N, M D), as targets, with what is predicted from the whole ones; a scalar."""
        vectors = vectors if self.mask == "trained" else vectors.detach()
        return 1 - F.cosine_similarity(self.dropout(vectors.detach()), self.predict(vectors)).mean()
