"""The keys of every run, and those of the mirror gradient. A model's own keys stand in the model's file."""

import difflib
import re
from collections.abc import Iterable
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator

from mambarec.base.settings import Settings, key, other_names, roles_of

_FEATURE_SUFFIX = "_feature_file"
FEATURE_KEY = re.compile(rf"\w+{_FEATURE_SUFFIX}")  # any modality may be declared, so any such key is known
# Keys that MMRec's YAMLs of data sets have. Only models of MMRec's own form read them here.
IGNORED_OF_MMREC = frozenset({"RATING_FIELD", "TIME_FIELD", "user_graph_dict_file", "item_graph_dict_file"})
LARGEST = 2**53  # of a whole number; as many bits as JSON keeps everywhere

# The roles of a key say what it changes and who may set it.
# neutral: it changes no number, and so not the name of a run. data, features: what is read. budget: how long a run trains.
# selection: which of its epochs is kept. evaluation: what is computed of a trained model. machine: what computes it.
# identity: with another value it is another model. single: all trials of a command have the same value. grid: what is done with
# other keys. result: the program sets it.


class RunSettings(Settings):
    """The keys that any run has. One without a default stands in overall.yaml."""

    # machine
    use_gpu: bool = key("Use a GPU where there is one, else the CPU. The log says which.", roles="machine single")
    gpu_id: int = key("Which GPU, where there are several.", ge=0, roles="neutral single")
    threads: int = key("CPU threads. 0: as many as torch chooses.", ge=0, le=1024, roles="machine single")
    cuda_graphs: bool = key(
        "On a GPU: record the step once an epoch and replay it. For models whose steps are all alike.", roles="neutral single"
    )
    precision: Literal["fp32", "bf16"] = key(
        "bf16: dense products of a training step in bfloat16. All that is evaluated stays in float32.", roles="identity"
    )

    # data
    data_path: str = key("The folder that holds a folder for each data set.", roles="neutral single")
    field_separator: str = key(
        "What stands between the columns of the .inter file.", takes="one character of ASCII", roles="data single"
    )
    USER_ID_FIELD: str = key("The column of users.", roles="data")
    ITEM_ID_FIELD: str = key("The column of items.", roles="data")
    NEG_PREFIX: str = key("What stands before the name of a negative item.")
    inter_splitting_label: str = key("The column of the splits: 0 training, 1 validation, 2 test.", roles="data")
    filter_out_cod_start_users: bool = key("Leave users without training rows out of evaluation.", roles="data identity")
    is_multimodal_model: bool = key("false: the model reads no item features.", roles="features identity")
    missing: Literal["mean", "zero", "neighbours"] = key(
        "What stands in for the features of items without a modality: the mean row, zeros, or what their neighbours pass on "
        "over the training pairs. A mask says which items these are. The mask of image_feat.npy is image_mask.npy; of clip.npy "
        "it is clip_mask.npy. The name comes from the feature file, not from the modality.",
        later="mean",
        roles="features",
    )
    missing_modality: str | None = key(
        "A modality that a share of the items is made to lack, such as visual.",
        default=None,
        later=None,
        roles="features identity",
    )
    missing_share: float = key(
        "The share of the items that lack missing_modality.", ge=0, lt=1, later=0.0, roles="features identity"
    )
    missing_seed: int = key("The seed of which items these are.", ge=0, later=0, roles="features identity")
    end2end: bool = key("true: the model reads raw pictures and texts.", roles="features identity")

    # models
    model_path: str | None = key(
        "A folder of model files and their YAMLs, beside src/models.", default=None, roles="neutral single"
    )
    tuned: bool = key(
        "true: use the values of src/configs/tuned/<data set>/<Model>.yaml, which --save-best writes.",
        default=False,
        roles="neutral single result",
    )

    # runs
    results_dir: str = key("The folder of all runs.", roles="neutral single")
    checkpoint_seconds: float = key(
        "Seconds between two checkpoints. A killed run loses at most this much. 0: a checkpoint every epoch.",
        ge=0,
        roles="neutral",
    )
    save_recommended_topk: bool = key("Write the recommendations of the test users to topk.npz.", roles="neutral")
    tensorboard: bool = key("Write curves for TensorBoard. Needs the extra [tracking].", roles="neutral")

    # training
    seed: int = key("The seed of all random numbers. Several values are several runs.", ge=0, le=2**32 - 1)
    epochs: int = key("The run has at most so many epochs.", gt=0, le=10**9, roles="budget")
    min_epochs: int = key(
        "Epochs before stopping_step counts. On some data the metric falls before it rises.", ge=0, roles="budget"
    )
    stopping_step: int = key(
        "Stop after so many evaluations without a better valid_metric.", gt=0, roles="budget", also="patience"
    )
    train_batch_size: int = key("Pairs of a user and an item in a step.", gt=0, also="batch_size")
    learner: str = key("The optimiser.", pattern="(?i)^(adam|sgd|adagrad|rmsprop)$", takes="one of adam, sgd, adagrad, rmsprop")
    learning_rate: float = key("Step size of the optimiser.", gt=0, also="lr")
    learning_rate_scheduler: list[float] = key(
        "The learning rate is multiplied by decay ** (epoch / epochs).",
        takes="[decay, epochs], with decay above 0 and at most 1, and epochs above 0",
    )
    weight_decay: float = key("Weight decay of the optimiser.", ge=0)
    clip_grad_norm: Any = key(
        "The largest norm of the gradient. null: there is none.",
        default=None,
        takes="a number above 0, or {max_norm: 5, norm_type: 2}, or null",
    )
    eval_step: int = key("Evaluate on validation after every so many epochs, and after the last.", gt=0, roles="budget")
    req_training: bool = key("false: the model is evaluated without training.")
    use_neg_sampling: bool = key("Draw an item that the user does not have beside each pair.", roles="identity")
    use_full_sampling: bool = key("true: a batch holds users alone.", roles="identity")
    use_neighborhood_loss: bool = key(
        "true: a batch also holds a neighbour and a non-neighbour of each positive item.", roles="identity"
    )
    mg: bool = key("Train with mirror gradient.", roles="identity")
    embedding_size: int = key("Width of the vectors of users and items.", gt=0, le=2**16)
    approximate_knn_above: int | None = key(
        "kNN graphs of more items than this are approximate. For graphs of the raw features the log says, by a sample, which "
        "share of the neighbours was found. Needs the extra [serving].",
        default=None,
        ge=0,
    )

    # evaluation
    metrics: list[str] = key("Which metrics are computed.", min_length=1, roles="evaluation single")
    topk: list[Annotated[int, Field(gt=0, le=10**6)]] = key(
        "Lengths of the lists that are evaluated.", min_length=1, roles="evaluation single"
    )
    valid_metric: str = key(
        "The metric on validation that chooses the best epoch and the best grid point.", roles="selection single"
    )
    eval_batch_size: int = key(
        "Users whose lists are made at the same time; fewer where their scores would take more than 1 GiB.",
        gt=0,
        roles="evaluation",
    )

    # what a YAML says of grids
    hyper_parameters: list[str] = key(
        "MMRec's way to make a grid: names of keys whose lists are axes.", default=[], roles="neutral grid"
    )
    search_space: Any = key("The values that --search tries, by key.", default=None, roles="neutral grid")
    wide_search_space: Any = key("The values that --search wide tries, by key.", default=None, roles="neutral grid")
    model_identity: Any = key("Keys, or KEY=VALUE, with which it is another model.", default=None, roles="neutral grid")

    # what a data set and a model say of features
    inter_file_name: str | None = key("The file of interactions.", default=None, roles="data")
    modalities: list[str] | None = key(
        "The item features that the model reads: all that the data set declares, or some of them, such as [text].",
        default=None,
        min_length=1,
        roles="features identity",
    )

    # what the program sets
    model: str | None = key("The model's name.", default=None, roles="result")
    dataset: str | None = key("The data set's name.", default=None, roles="result")
    device: Any = key("The device that the run has.", default=None, roles="machine result")
    model_code: str | None = key(
        "A hash of the model's file, if it is no part of this version.", default=None, roles="identity result"
    )

    @field_validator("field_separator")
    @classmethod
    def _one_character(cls, value: str) -> str:
        if value == "\t" or (len(value) == 1 and value.isascii() and value.isprintable()):
            return value
        raise ValueError("expected one character of ASCII")

    @field_validator("learning_rate_scheduler")
    @classmethod
    def _decay_and_epochs(cls, value: list[float]) -> list[float]:
        if len(value) == 2 and 0 < value[0] <= 1 and value[1] > 0:
            return value
        raise ValueError(
            "expected [decay, epochs], decay above 0, at most 1: the learning rate is multiplied by decay ** (epoch / epochs)"
        )

    @field_validator("clip_grad_norm")
    @classmethod
    def _norm(cls, value: Any) -> Any:
        parts = value if isinstance(value, dict) else {"max_norm": value}
        if value is None or ("max_norm" in parts and all(_is_norm(name, part) for name, part in parts.items())):
            return value
        raise ValueError("expected a number above 0, or {max_norm: 5, norm_type: 2}")


def _is_norm(name: str, value: Any) -> bool:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return name in ("max_norm", "norm_type") and is_number and 0 < value < LARGEST


class FeatureFileSettings(Settings):
    """A key of the form <modality>_feature_file."""

    file: str | None = key("The file of a modality's features.", takes="the name of one file")


class MirrorGradientSettings(Settings):
    """The keys of mg.yaml, which is read with `mg: true`. Zhong et al., WWW 2024, arXiv 2402.11262."""

    alpha1: float = key("Factor of the descent step.")
    alpha2: float = key("Factor of the ascent step that follows it.")
    beta: int = key("Take the two steps in place of one after every so many.", gt=0)


def keys_with(*roles: str) -> list[str]:
    """The keys of any run that have one of the roles, in the order in which they are declared."""
    return [name for name, field in RunSettings.model_fields.items() if set(roles) & set(roles_of(field))]


NEUTRAL_KEYS = frozenset(keys_with("neutral"))


def modality_of(key: str) -> str | None:
    """The modality whose features a key such as text_feature_file names; None for a key of another form.

    MMRec's key of the visual modality is vision_feature_file.
    """
    name = key.removesuffix(_FEATURE_SUFFIX)
    if name in ("", key):
        return None
    return "visual" if name == "vision" else name


def likely_feature_keys(key: str) -> list[str]:
    """The keys of features that a misspelt key such as vision_feature may stand for; none if it is not about features."""
    words = ["vision", "text", "audio", key.partition("_")[0]]
    return [f"{word}{_FEATURE_SUFFIX}" for word in words] if "feat" in key.lower() else []


def is_feature_line(key: str, value: Any) -> bool:
    """Whether a line such as 'vision_feat: image_feat.npy' is meant to name features, by a key that names none."""
    return "feat" in key.lower() and str(value).endswith(".npy") and modality_of(key) is None


def nearest_key(key: str, known: Iterable[str], cutoff: float = 0.6) -> str | None:
    """The key that was probably meant: one of another name, or one that is spelt alike. cutoff: how much, as difflib has it."""
    known = sorted(known)
    meant = next((name for name, field in RunSettings.model_fields.items() if key.lower() in other_names(field)), None)
    return meant if meant in known else next(iter(difflib.get_close_matches(key, known, n=1, cutoff=cutoff)), None)
