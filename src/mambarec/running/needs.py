"""What a model needs before it can be trained: batches that it reads, features that are there, packages to import."""

from mambarec.base.errors import ConfigError, UserError
from mambarec.base.places import MODELS
from mambarec.config.catalogue import model_values
from mambarec.config.configurator import Config
from mambarec.data.dataset import RecDataset
from mambarec.mmrec.plugins import load_model_class


def unmet_need(config: Config, dataset: RecDataset) -> str | None:
    """Why the model cannot be trained on this data, as far as that is known before it is built; None where nothing is known."""
    try:
        check_batches(config)
        dataset.check_features()
        if dataset.modalities:
            dataset.feature_widths()  # reads the heads of the files
        load_model_class(config["model"], config["model_path"])
    except UserError as error:
        return str(error)
    return None


def check_batches(config: Config) -> None:
    """ConfigError where a model of src/models would get batches of another form than its YAML asks for.

    A model of another folder, such as MMRec's, may be told on the command line what batches it reads.
    """
    if config.model_file.parent != MODELS or not config["req_training"]:
        return
    asked = model_values(config["model"])
    if not config["use_neg_sampling"] and asked.get("use_neg_sampling", True) and not asked.get("use_full_sampling"):
        raise ConfigError(f"use_neg_sampling=False: {config['model']} is trained with negatives; leave it out")
    for key in ("use_full_sampling", "use_neighborhood_loss"):
        if config[key] and not asked.get(key):
            raise ConfigError(f"{key}={config[key]}: the loss of {config['model']} does not read such batches; leave it out")
