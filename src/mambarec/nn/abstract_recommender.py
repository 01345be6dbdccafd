"""The base class of every model: what a model is given, and what it must provide."""

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from mambarec.base.settings import Settings, key
from mambarec.nn.new_items import NewItemVectors, at_length


class FeatureDimSettings(Settings):
    """The key that `GeneralRecommender.feature_dim` reads."""

    feat_embed_dim: int | None = key(
        "Width of the projected features. null: embedding_size, which it must equal.", gt=0, le=2**16
    )


class GeneralRecommender(nn.Module):
    """Base of models over users, items and item features; the interface is MMRec's.

    A model reads its settings from `config[key]` and declares them in a class `<Model>Settings` (docs/plugin.md). It reads the
    training pairs from `dataloader.inter_matrix(form)`. It must define calculate_loss, and either full_sort_predict or
    representations(): user (U, D) and item (I, D) vectors whose inner products are the scores, which evaluation then computes
    once for all users.

    features: modality -> float32 (I, D_m) on the device, for the modalities this run reads; feature_widths: modality -> D_m,
    for every modality that the data set declares. v_feat, t_feat: the visual and textual ones under MMRec's names, else None.
    masks: modality -> bool (I,), false at the items that lack it or occur in no split, for the modalities with such items.
    """

    sampling: Any = None  # nn.sampled.Sampling, of a model whose steps are sampled

    def __init__(self, config, dataloader):
        super().__init__()
        self.USER_ID = config["USER_ID_FIELD"]
        self.ITEM_ID = config["ITEM_ID_FIELD"]
        self.NEG_ITEM_ID = config["NEG_PREFIX"] + self.ITEM_ID
        self.n_users = dataloader.dataset.get_user_num()
        self.n_items = dataloader.dataset.get_item_num()
        self.batch_size = config["train_batch_size"]
        self.device = config["device"]

        tables = dataloader.dataset.features()
        self.features = {modality: torch.from_numpy(table).to(self.device) for modality, table in tables.items()}
        self.feature_widths = dataloader.dataset.feature_widths() if tables else {}
        masks = dataloader.dataset.usable_items() if tables else {}
        self.masks = {modality: torch.from_numpy(mask).to(self.device) for modality, mask in masks.items()}
        self.v_feat, self.t_feat = self.features.get("visual"), self.features.get("text")

    def require_features(self) -> dict[str, Tensor]:
        """`features`, for a model that cannot do without: ValueError when the run has none."""
        if not self.features:
            raise ValueError("needs item features, but the data set gives none (vision_feature_file, text_feature_file)")
        return self.features

    def feature_parameters(self, config) -> dict[str, Tensor] | nn.ParameterDict:
        """`require_features` as parameters, for a model that trains them too; as they are with `train_features: false`."""
        features = self.require_features()
        if not config["train_features"]:
            return features
        return nn.ParameterDict({modality: nn.Parameter(table.clone()) for modality, table in features.items()})

    def feature_dim(self, config) -> int:
        """Width of projected features, `feat_embed_dim`, where it must be embedding_size, which it is when not set."""
        dim, feature_dim = config["embedding_size"], config["feat_embed_dim"]
        if feature_dim not in (None, dim):
            raise ValueError(f"feat_embed_dim={feature_dim}: must equal embedding_size={dim}; leave it out")
        return dim

    def pre_epoch_processing(self) -> None:
        """Called before each training epoch."""

    def post_epoch_processing(self) -> str | None:
        """Called after each training epoch; what it returns is logged."""

    def calculate_loss(self, interaction: Tensor) -> Tensor | tuple[Tensor, ...]:
        """Loss of a training batch, int64 (3, B) users, positives, negatives: a scalar, or several to be added."""
        raise NotImplementedError(f"{type(self).__name__} does not define calculate_loss")

    def sample(self, interaction: Tensor, generator: np.random.Generator) -> Any:
        """What `sampled_loss` needs of a batch (3, B): the neighbours that are drawn, and the rows they read. On the CPU."""
        raise NotImplementedError(f"{type(self).__name__} does not define sample")

    def sampled_loss(self, sample: Any) -> Tensor:
        """calculate_loss of the batch from which `sample` was drawn, estimated from the rows that it names."""
        raise NotImplementedError(f"{type(self).__name__} does not define sampled_loss")

    def full_sort_predict(self, interaction: list[Tensor]) -> Tensor:
        """Scores (B, I) of every item for the users interaction[0] (B,); this one needs `representations`."""
        users, items = self.representations()  # type: ignore[operator]
        return users[interaction[0]] @ items.T

    def for_new_items(self) -> NewItemVectors:
        """What gives vectors to items outside the data set: a function of their features and links (nn.new_items).

        This one takes the mean of the neighbours' item vectors, at their mean length. A model that can make more of the
        features says how. It needs `representations`.
        """
        items = self.representations()[1]  # type: ignore[operator]
        return lambda features, links: at_length(links.mean(items), links, items)
