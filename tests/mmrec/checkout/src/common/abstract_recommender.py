"""A stand-in of MMRec's base class: what the exported files find there, and no more."""

from pathlib import Path

import numpy as np
import torch
from torch import nn


class GeneralRecommender(nn.Module):
    """Sizes, settings and two feature tables; the methods that MMRec's trainer calls."""

    def __init__(self, config, dataloader):
        super().__init__()
        self.USER_ID = config["USER_ID_FIELD"]
        self.ITEM_ID = config["ITEM_ID_FIELD"]
        self.NEG_ITEM_ID = config["NEG_PREFIX"] + self.ITEM_ID
        self.n_users = dataloader.dataset.get_user_num()
        self.n_items = dataloader.dataset.get_item_num()
        self.batch_size = config["train_batch_size"]
        self.device = config["device"]
        folder = Path(config["data_path"] + config["dataset"])
        self.v_feat, self.t_feat = (
            torch.from_numpy(np.load(folder / config[key])).float().to(self.device)
            for key in ("vision_feature_file", "text_feature_file")
        )

    def pre_epoch_processing(self):
        pass

    def post_epoch_processing(self):
        pass

    def calculate_loss(self, interaction):
        raise NotImplementedError

    def full_sort_predict(self, interaction):
        raise NotImplementedError
