"""MambaRec: modality alignment, local by DREAM and global by MMD, around a multi-view graph encoder.

Ren, Ju, Lee, *Modality Alignment with Multi-scale Bilateral Attention for Multimodal Recommendation*, CIKM 2025, arXiv
2509.09114. U users, I items, B batch, N distinct ids of it, D embedding_size, d reduced width, D_m width of a raw feature.

`variant: paper` computes the paper's equations. Departs from (9): MMD is of L2-normalised rows, as in the released code
(`mmd_normalize: false` takes the rows as they are). Added where the paper is silent: BatchNorm and ReLU after each DREAM
branch; the output projection; LayerNorm and dropout before the gates; the encoder's own contrast beside (10); (15) as a mean
and (16)'s L2 over the batch's final embeddings, as the released code has them; n_ui_layers, n_layers and knn_k of the released
configuration. Only embeddings are Xavier-initialised; other layers keep torch's defaults.

`variant: released` computes what the authors' published code does: a two-layer reduction of the visual features only, DREAM
of width D with scalar attentions, MMD and the encoder's contrast but not (10), raw features trained.
"""

from functools import partial
from itertools import combinations
from typing import Annotated, Any, Literal, NamedTuple, get_args

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from mambarec.base.settings import key
from mambarec.nn.abstract_recommender import GeneralRecommender
from mambarec.nn.alignment import distinct, info_nce, mmd
from mambarec.nn.dream import DREAM, ReleasedDREAM
from mambarec.nn.multiview import MultiViewEncoder, SampledViews, Views
from mambarec.nn.new_items import NewItems, NewItemSettings, at_length, moved
from mambarec.nn.sampled import Batch, SampledSettings, modal_in_blocks, project_rows, sampling_of

Variant = Literal["paper", "released"]
Contrast = Literal["modality", "behaviour", "both"]
Aligned = Literal["dream", "views"]
FIXED_WHEN_RELEASED = ("contrast", "align_on", "feature_map", "attention_reduction", "train_features", "mmd_normalize")


class MambaRecSettings(NewItemSettings, SampledSettings):
    """The keys of MambaRec."""

    variant: Variant = key("paper: its equations. released: what the authors' code computes.")
    n_ui_layers: int = key("Layers of the user-item graph.", ge=0, le=1000)
    n_layers: int = key("Layers of the item-item graphs.", ge=0, le=1000)
    knn_k: int = key("Neighbours of an item in the item-item graph.", gt=0, le=10**6)
    reduction_factor: int = key("Features are reduced to the smallest of their widths // reduction_factor.", gt=0)
    use_local_alignment: bool = key("Local alignment by DREAM. false: a linear map in its place (w/o LA).")
    use_global_alignment: bool = key("Global alignment. false: no MMD and no contrast between modalities (w/o GA).")
    mmd_weight: float = key("Weight of the MMD between modalities.", ge=0)
    mmd_kernel_bandwidth: float = key("Bandwidth of the MMD's Gaussian kernel.", gt=0)
    cl_loss: float = key("Weight of the contrastive loss.", ge=0)
    cl_temperature: float = key("Temperature of the contrastive loss.", gt=0)
    reg_weight: float = key("Weight of the penalty on large parameters (L2).", ge=0)
    dropout: float = key("Share of the modal vectors that is dropped before the gates in training.", ge=0, le=1)
    contrast: Contrast | None = key(
        "behaviour: side against content. modality: equation (10). both: their sum. null: both; with variant "
        "released, behaviour.",
    )
    align_on: Aligned | None = key("dream: the outputs of DREAM are aligned. views: the item-item views. null: dream.")
    feature_map: list[Annotated[int, Field(gt=0)]] | None = key(
        "[C, H, W], whose product is the reduced width d: the map that DREAM reads. null: [d, 1, 1].", min_length=1
    )
    attention_reduction: int | None = key(
        "The hidden width of the channel attention is 5C // attention_reduction. null: 16.", gt=0
    )
    mmd_normalize: bool | None = key(
        "true: MMD of L2-normalised vectors, as in the released code. false: of the vectors as they are, equation "
        "(9). null: true.",
        later=None,
    )
    train_features: bool | None = key("Whether the raw item features are trained too. null: true.")


class SampledStep(NamedTuple):
    """The encoder's sampled layers of a batch, and of each modality the items (N,) whose features are read.

    guiding, aligned: the places among these of the items that the encoder starts from, and of the batch's positive items, whose
    ids are in `positives`.
    """

    views: SampledViews
    items: dict[str, Tensor]
    guiding: dict[str, Tensor]
    aligned: dict[str, Tensor]
    positives: Tensor


class MambaRec(GeneralRecommender):
    """Scores are inner products of content + side vectors (14)."""

    def __init__(self, config, dataloader):
        super().__init__(config, dataloader)

        def setting(key, default):  # MMRec gives None for a key that is not set
            return default if config[key] is None else config[key]

        self.released = _one_of("variant", setting("variant", "paper"), Variant) == "released"
        if self.released:
            for key in FIXED_WHEN_RELEASED:
                if config[key] is not None:
                    raise ValueError(f"{key}={config[key]} has no effect with variant: released, which fixes it; leave it out")
        self.contrast = _one_of("contrast", setting("contrast", "behaviour" if self.released else "both"), Contrast)
        self.align_on = _one_of("align_on", setting("align_on", "dream"), Aligned)
        self.global_alignment = setting("use_global_alignment", True)
        self.mmd_weight = setting("mmd_weight", 0.15)
        self.mmd_bandwidth = setting("mmd_kernel_bandwidth", 1.5)
        self.mmd_normalize = setting("mmd_normalize", True)
        self.cl_weight = setting("cl_loss", 0.01)
        self.temperature = setting("cl_temperature", 0.2)
        self.reg_weight = setting("reg_weight", 1e-4)

        features = getattr(self, "features", {"visual": self.v_feat, "text": self.t_feat})
        features = {modality: table for modality, table in features.items() if table is not None}
        if not features:
            raise ValueError("needs item features, but the data set gives none (vision_feature_file, text_feature_file)")
        self.feature_tables = features
        dim = setting("embedding_size", 64)
        interactions = dataloader.inter_matrix("coo")
        self.masks = getattr(self, "masks", {})
        self.encoder = MultiViewEncoder(
            interactions,
            features,
            dim,
            setting("n_ui_layers", 4),
            setting("n_layers", 1),
            setting("knn_k", 10),
            masks=self.masks,
        )
        self.new_items = NewItems.of(config, features, interactions, self.masks, setting("knn_k", 10))
        if setting("train_features", True):
            self.feature_tables = nn.ParameterDict({m: nn.Parameter(table.clone()) for m, table in features.items()})

        factor, local = setting("reduction_factor", 8), setting("use_local_alignment", True)
        if not local and (unread := [key for key in ("feature_map", "attention_reduction") if config[key] is not None]):
            raise ValueError(f"{unread[0]}={config[unread[0]]} has no effect with use_local_alignment: false; leave it out")
        if self.released:
            self.modal_encoders = _released_encoders(features, factor, dim, local)
        else:
            widths = getattr(self, "feature_widths", {m: table.shape[1] for m, table in features.items()})
            shape, reduction = config["feature_map"], setting("attention_reduction", 16)
            self.modal_encoders = _paper_encoders(features, widths, factor, dim, local, shape, reduction)
        self.norm = nn.LayerNorm(dim)
        self.dropout = nn.Dropout(setting("dropout", 0.2))
        self.sampling = sampling_of(config, self.new_items)
        self.samplers = self.encoder.samplers() if self.sampling else {}

    def modal_vectors(self) -> dict[str, Tensor]:
        """v_i, t_i of every item: modality -> (I, D); dimensionality optimisation (12)-(13), then DREAM (1)-(6)."""
        return {modality: encoder(self.feature_tables[modality].float()) for modality, encoder in self.modal_encoders.items()}

    def forward(self):
        """Return the modal vectors, their form that guides the encoder, and the encoder's Views."""
        modal = self.modal_vectors()
        guides = {modality: self.dropout(self.norm(vectors)) for modality, vectors in modal.items()}
        return modal, guides, self.encoder(guides)

    def representations(self) -> tuple[Tensor, Tensor]:
        """User (U, D) and item (I, D) vectors, content + side."""
        if self.sampling and not self.training:
            modal = modal_in_blocks(self.modal_encoders, self.feature_tables)
            return self.encoder.final_vectors({modality: self.norm(vectors) for modality, vectors in modal.items()})
        _, guides, views = self.forward()
        side, content = self.encoder.fuse(views)
        users, items = (side + content).split((self.n_users, self.n_items))
        return users, self.new_items.with_cold(items, self._of_new_items(guides, views, items)) if self.new_items else items

    def for_new_items(self):
        """Vectors of new items by their features: reduction, DREAM and gates, then content + side (nn.new_items)."""
        _, guides, views = self.forward()
        return self._of_new_items(guides, views, sum(self.encoder.fuse(views))[self.n_users :])

    def _of_new_items(self, guides, views, items: Tensor):
        """guides, views: of forward. items: the vectors (I, D) of the data set's."""

        def vectors(features, links) -> Tensor:
            tables = {m: moved(features[m], links, m, self.feature_tables[m], self.features[m]) for m in guides}
            own = {m: self.dropout(self.norm(encoder(tables[m]))) for m, encoder in self.modal_encoders.items()}
            new = sum(self.encoder.fuse(self.encoder.new_items(own, guides, views, links)))
            return at_length(new, links, items)

        return vectors

    def full_sort_predict(self, interaction: list[Tensor]) -> Tensor:
        """Scores (B, I) of every item for the users interaction[0] (B,)."""
        users, items = self.representations()
        return users[interaction[0]] @ items.T

    def calculate_loss(self, interaction: Tensor) -> Tensor:
        """Equation (16) on a batch (3, B) of users, positive and negative items; a scalar."""
        modal, guides, views = self.forward()
        return self._loss(interaction, self.n_users, modal, guides, views, self.masks)

    def sample(self, interaction: Tensor, generator) -> SampledStep:
        """The sampled layers of a batch (3, B), and the items whose features they need."""
        batch = Batch.of(interaction)
        views = self.encoder.sample(batch, self.samplers, self.sampling, generator)
        step = SampledStep(views, {}, {}, {}, torch.from_numpy(batch.items[: batch.n_positives]))
        read = batch.items[: max(batch.n_positives, 2)]  # two where one is positive, since BatchNorm needs two rows
        for modality, items in views.items.items():
            rows, places = np.unique(np.concatenate((items, read)), return_inverse=True)
            step.items[modality] = torch.from_numpy(rows)
            guiding, own = torch.from_numpy(places).split((len(items), len(read)))
            step.guiding[modality], step.aligned[modality] = guiding, own[: batch.n_positives]
        return step

    def sampled_loss(self, sample: SampledStep) -> Tensor:
        """Equation (16) over the sampled layers; BatchNorm, MMD and the contrasts see the rows of the sample."""
        modal, guides = {}, {}
        for modality, (reduce, align) in self.modal_encoders.items():
            vectors = align(project_rows(reduce, self.feature_tables[modality], sample.items[modality]))  # (N, D)
            guides[modality] = self.dropout(self.norm(F.embedding(sample.guiding[modality], vectors)))
            modal[modality] = F.embedding(sample.aligned[modality], vectors)
        batch = sample.views.propagation
        views = self.encoder.sampled_views(guides, sample.views)
        masks = {modality: mask[sample.positives] for modality, mask in self.masks.items()}
        return self._loss(batch.interaction, batch.sizes[0], modal, guides, views, masks)

    def _loss(self, interaction: Tensor, n_users: int, modal, guides, views: Views, masks: dict[str, Tensor]) -> Tensor:
        """views: of n_users users, then of the items; modal, masks: of these items, or of the positive ones, which lead."""
        users, positives, negatives = interaction
        parts = [distinct(ids) for ids in (users, positives + n_users, negatives + n_users)]
        rows, sizes = torch.cat([part.values for part in parts]), [len(part.values) for part in parts]
        side, content = self.encoder.fuse(views, rows)
        if self.new_items:
            side, content = self.encoder.with_new(self.new_items, sizes[0], rows, (side, content), guides, views)
        user, positive, negative = final = [
            part.expand(rows) for part, rows in zip(parts, (side + content).split(sizes), strict=True)
        ]  # (B, D) each

        bpr = F.softplus((user * negative).sum(-1) - (user * positive).sum(-1)).mean()  # (15)
        l2 = 0.5 * sum(rows.square().sum() for rows in final) / self.batch_size
        loss = bpr + self.reg_weight * l2

        if self.contrast != "modality" and self.cl_weight:
            for part, own, other in zip(parts[:2], side.split(sizes), content.split(sizes), strict=False):  # users, positives
                loss = loss + self.cl_weight * info_nce(own, other, self.temperature, part.counts, part.counts)
        if self.global_alignment and len(modal) > 1:
            aligned = modal
            if self.align_on == "views":
                aligned = {modality: view[n_users:] for modality, view in views.modal.items()}
            rows, counts = parts[1].values - n_users, parts[1].counts
            vectors = {m: F.embedding(rows, table) for m, table in aligned.items()}  # (N, D) each
            there = {m: mask[rows] for m, mask in masks.items()}  # (N,) each
            if self.mmd_weight:  # (7)-(9)
                distance = partial(mmd, normalize=self.mmd_normalize)
                loss = loss + self.mmd_weight * _mean_over_pairs(distance, vectors, there, self.mmd_bandwidth, counts)
            if self.contrast != "behaviour" and self.cl_weight:  # (10)
                loss = loss + self.cl_weight * _mean_over_pairs(info_nce, vectors, there, self.temperature, counts)
        return loss


class FoldedLinear(nn.Module):
    """Two linear maps with nothing between them, D_m -> hidden -> D, as one: the small weights are multiplied first."""

    def __init__(self, in_dim: int, hidden: int, out_dim: int):
        super().__init__()
        self.inner, self.outer = nn.Linear(in_dim, hidden), nn.Linear(hidden, out_dim)

    def forward(self, x: Tensor) -> Tensor:
        """x: (N, in_dim) -> (N, out_dim)."""
        return F.linear(x, self.outer.weight @ self.inner.weight, self.outer(self.inner.bias))


def _paper_encoders(features, widths, factor, dim, local, shape, attention_reduction) -> nn.ModuleDict:
    """(12)-(13): every modality to d = min(D_m) // factor, then DREAM on the d values read as a map."""
    narrowest = min(widths.values())
    reduced = int(narrowest // factor)
    if reduced < 1:
        raise ValueError(
            f"reduction_factor={factor}: min({', '.join(map(str, widths.values()))}) // {factor} = 0 dimensions; "
            f"use at most {narrowest}"
        )
    shape = (reduced, 1, 1) if shape is None else tuple(shape)
    if len(shape) != 3 or shape[0] * shape[1] * shape[2] != reduced:
        raise ValueError(f"feature_map={list(shape)}: expected C, H, W whose product is the reduced width {reduced}")

    channels, height, width = shape

    def encoder(raw_width: int) -> nn.Module:
        reduce = nn.Linear(raw_width, reduced, bias=False)
        align = DREAM(channels, height, width, dim, attention_reduction) if local else nn.Linear(reduced, dim)
        return nn.Sequential(reduce, align)

    return nn.ModuleDict({modality: encoder(table.shape[1]) for modality, table in features.items()})


def _released_encoders(features, factor, dim, local) -> nn.ModuleDict:
    """The published code's reduction: the visual features in two steps, the others in one."""

    def encoder(modality: str, width: int) -> nn.Module:
        hidden = int(width // factor)
        if modality == "visual" and hidden < 1:
            raise ValueError(f"reduction_factor={factor}: {width} // {factor} = 0 dimensions; use at most {width}")
        reduce = FoldedLinear(width, hidden, dim) if modality == "visual" else nn.Linear(width, dim)
        return nn.Sequential(reduce, ReleasedDREAM(dim) if local else nn.Linear(dim, dim))

    return nn.ModuleDict({modality: encoder(modality, table.shape[1]) for modality, table in features.items()})


def _mean_over_pairs(distance, vectors: dict[str, Tensor], there, parameter: float, counts: Tensor | None) -> Tensor:
    """Mean of distance(a, b, parameter) over the pairs of modalities; with two of them, the distance itself.

    there: modality -> bool (N,), for modalities that some items lack; a pair is of the items that have both.
    """
    values = []
    for pair in combinations(vectors, 2):
        a, b = (vectors[modality] for modality in pair)
        masks = [there[modality] for modality in pair if modality in there]
        if masks:
            both = torch.stack(masks).all(0)
            part = counts[both] if counts is not None else None
            values.append(distance(a[both], b[both], parameter, part, part) if both.any() else a.new_zeros(()))
        else:
            values.append(distance(a, b, parameter, counts, counts))
    return torch.stack(values).mean()


def _one_of(name: str, value: str, choices: Any) -> str:
    """The value of a key; ValueError unless it is in the Literal. In MMRec nothing else checks it."""
    if value not in get_args(choices):
        raise ValueError(f"{name}={value}; expected one of {', '.join(get_args(choices))}")
    return value
