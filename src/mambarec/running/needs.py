"""What a model needs before it can be trained: item features that are there, and packages that can be imported."""

from mambarec.base.errors import UserError
from mambarec.config.configurator import Config
from mambarec.data.dataset import RecDataset
from mambarec.mmrec.plugins import load_model_class


def unmet_need(config: Config, dataset: RecDataset) -> str | None:
    """Why the model cannot be trained on this data, as far as that is known before it is built; None where nothing is known."""
    try:
        dataset.check_features()
        if dataset.modalities:
            dataset.feature_widths()  # reads the heads of the files
        load_model_class(config["model"], config["model_path"])
    except UserError as error:
        return str(error)
    return None
