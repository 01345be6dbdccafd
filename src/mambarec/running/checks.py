"""The health of one run: what training.health finds, said on the console and in train.log, and kept for result.json."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from mambarec.base.contract import contract
from mambarec.base.logger import get_logger
from mambarec.config.configurator import Config
from mambarec.data.dataloader import EvalDataLoader, user_batches
from mambarec.evaluation.topk_evaluator import masked_scores
from mambarec.running.sizes import topk_warnings
from mambarec.training.health import feature_warnings, graph_warnings, score_warnings, training_warnings, vector_warnings
from mambarec.training.trainer import Trainer

N_USERS = 256  # users of the test split whose scores are looked at


class Health:
    """Collects and logs `warnings`, a line each. It changes nothing of the training."""

    def __init__(self, config: Config, trainer: Trainer, test: EvalDataLoader):
        self.config, self.trainer, self.test = config, trainer, test
        self.warnings: list[str] = []

    def before(self) -> None:
        """Look at the data, and at the model as it was built."""
        model = self.trainer.model
        self._say(topk_warnings(self.config, self.test.dataset))
        self._say(feature_warnings(getattr(model, "features", {})))
        self._say(graph_warnings(model))

    @torch.no_grad()
    def after(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Look at the epochs, and at the scores and vectors of the model as it is now, the last of the training."""
        metric = self.config["valid_metric"]
        self._say(training_warnings(rows, metric.lower()))
        if self.trainer.progress.best_epoch == 0 and len(rows) > 1:
            self._say(
                [
                    f"the first epoch was the best of {len(rows)}: validation {metric} was never higher afterwards. The model "
                    "may not have learned; try a smaller learning_rate, or min_epochs if the metric rises late"
                ]
            )
        model, dataset = self.trainer.model.eval(), self.test.dataset
        users = self.test.users[:N_USERS].cpu().numpy()
        batches = user_batches(dataset, users, self.config)
        self._say(score_warnings(masked_scores(model, batch, dataset) for batch in batches))
        if hasattr(model, "representations"):
            with contract(type(model).__name__, "representations"):
                items = model.representations()[1]  # type: ignore[operator]
            self._say(vector_warnings(items))

    def _say(self, lines: Sequence[str]) -> None:
        for line in lines:
            get_logger().warning("WARNING: %s", line)
        self.warnings += lines
