"""Image models by name: `statistics`, `vgg16` of torchvision, `timm:NAME`, `transformers:NAME`."""

import pickle
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from mambarec.base.errors import ConfigError, DataError
from mambarec.base.files import real
from mambarec.base.words import option
from mambarec.preparation.features.libraries import device, fetched, first_words, hub_cache, library
from mambarec.preparation.features.statistics import describe_picture
from mambarec.preparation.options import IMAGE_MODELS, model_option

if TYPE_CHECKING:
    from PIL.Image import Image

MODEL, STATISTICS = "vgg16", "statistics"
_WITHOUT_WEIGHTS = f"The image model {STATISTICS} needs no weights"
# What torch.load and load_state_dict raise for a file of something else.
_UNFIT = (RuntimeError, OSError, EOFError, KeyError, TypeError, ValueError, AttributeError, pickle.UnpicklingError)


@dataclass(frozen=True)
class Backbone:
    """An image model. prepare: an RGB picture -> pixels (3, H, W). model: pixels (B, 3, H, W) -> features (B, D).

    Where a model has no weights, `prepare` computes the features (D,) itself, and `model` passes them on.
    """

    name: str
    model: nn.Module
    prepare: Callable[["Image"], Tensor]

    @torch.inference_mode()
    def features(self, pictures: list[Tensor]) -> Tensor:
        """The features (B, D) of prepared pictures, float32 on the CPU."""
        return self.model(torch.stack(pictures).to(device())).float().cpu()

    def width(self) -> int:
        """D, found by a blank picture."""
        from PIL import Image

        return self.features([self.prepare(Image.new("RGB", (64, 64)))]).shape[1]


def load_backbone(name: str = MODEL, weights: Path | None = None, download: bool = False) -> Backbone:
    """The image model `name`, on the GPU where there is one. A name that is a folder is a model of transformers.

    weights: a file of its parameters, for vgg16 and timm; without it they come from the library's cache, or are fetched
    where `download` is true. Raises ConfigError when the model or its weights cannot be had, DataError when a file does not
    fit.
    """
    family, _, rest = f"transformers:{name}".partition(":") if Path(name).is_dir() else name.partition(":")
    if weights is not None and not weights.is_file():
        raise ConfigError(f"{option('weights', weights)} is no file")
    library("PIL", "reading pictures")
    if name == STATISTICS:
        backbone = _statistics(weights)
    elif name == "vgg16":
        backbone = _vgg16(weights, download)
    elif family == "timm" and rest:
        backbone = _timm(rest, weights, download)
    elif family == "transformers" and rest:
        if weights is not None:
            folder = real(weights).parent
            raise ConfigError(
                f"{option('weights')} is for vgg16 and timm; a transformers model is a folder: "
                f"{model_option('image', f'transformers:{folder}')}"
            )
        backbone = _transformers(rest, download)
    else:
        raise ConfigError(f"the image model {name} is not known. Expected {IMAGE_MODELS}")
    backbone.model.float().eval().to(device())
    return backbone


def _statistics(weights: Path | None) -> Backbone:
    if weights is not None:
        raise ConfigError(f"the image model {STATISTICS} has no weights; leave {option('weights')} out")
    return Backbone(STATISTICS, nn.Identity(), lambda picture: torch.from_numpy(describe_picture(picture)))


def _vgg16(weights: Path | None, download: bool) -> Backbone:
    """VGG16 up to its second fully connected layer, after the ReLU: 4096 wide. Simonyan and Zisserman, arXiv 1409.1556."""
    models = library("torchvision", model_option("image", "vgg16")).models
    recipe = models.VGG16_Weights.IMAGENET1K_V1
    cached = Path(torch.hub.get_dir()) / "checkpoints" / recipe.url.rpartition("/")[2]
    if weights is None and not cached.exists():
        if not download:
            raise ConfigError(
                f"the weights of vgg16 are not on this machine. Put torchvision's file {cached.name} into {cached.parent}, or "
                f"name it with {option('weights', 'FILE')}, or allow a download with {option('download', True)}. "
                f"{_WITHOUT_WEIGHTS}"
            )
        try:
            torch.hub.load_state_dict_from_url(recipe.url, map_location="cpu", check_hash=True, weights_only=True)
        except OSError as error:
            raise ConfigError(f"{recipe.url} cannot be fetched ({error}); put the file into {cached.parent}") from None
    file, model = weights or cached, models.vgg16()
    try:
        model.load_state_dict(torch.load(file, map_location="cpu", weights_only=True))
    except _UNFIT as error:
        raise DataError(f"{file} does not hold the weights of vgg16: {first_words(error)}") from None
    model.classifier = model.classifier[:-1]
    return Backbone("vgg16", model, recipe.transforms())


def _timm(name: str, weights: Path | None, download: bool) -> Backbone:
    """A model of timm without its classifier."""
    timm = library("timm", model_option("image", f"timm:{name}"))
    try:
        config = timm.create_model(name).pretrained_cfg
    except RuntimeError as error:
        raise ConfigError(f"{model_option('image', f'timm:{name}')}: {error}; timm.list_models() names all") from None
    filename = config.get("hf_hub_filename") or "model.safetensors"
    file = weights or _of_hub(name, config.get("hf_hub_id"), filename, download)
    try:
        model = timm.create_model(name, pretrained=True, pretrained_cfg_overlay={"file": str(file), "source": ""})
    except _UNFIT as error:
        raise DataError(f"{file} does not hold the weights of timm's {name}: {first_words(error)}") from None
    model.reset_classifier(0)
    transform = timm.data.create_transform(**timm.data.resolve_model_data_config(model), is_training=False)
    return Backbone(f"timm:{name}", model, transform)


def _of_hub(name: str, repository: str | None, filename: str, download: bool) -> Path:
    """The file with the weights of timm's model `name`, from the cache or, with `download`, from the hub."""
    if not repository:
        raise ConfigError(f"timm knows no weights of {name}; name a file of them by {option('weights', 'FILE')}")
    hub = library("huggingface_hub", model_option("image", f"timm:{name}"))
    otherwise = f"Or name the file {filename} of {repository} with {option('weights')}. {_WITHOUT_WEIGHTS}"

    def load(local: bool) -> Path:
        return Path(hub.hf_hub_download(repository, filename, local_files_only=local))

    try:
        return fetched(f"the file of timm:{name}", repository, download, load, otherwise)
    except (OSError, ValueError) as error:
        allow = "" if download else f"Allow a download with {option('download', True)}. "
        raise ConfigError(
            f"the weights of timm:{name} are not in the cache {hub_cache()}. {allow}{otherwise}. The library says: "
            f"{first_words(error)}"
        ) from None


def _transformers(name: str, download: bool) -> Backbone:
    """A model of transformers: its image features (as CLIP's), its pooler's output, or the mean of its last hidden state."""
    transformers = library("transformers", model_option("image", f"transformers:{name}"))
    otherwise = (
        "Or name a folder of an image model (with config.json, preprocessor_config.json and model.safetensors). "
        f"{_WITHOUT_WEIGHTS}"
    )

    def load(local: bool) -> tuple[Any, tuple[nn.Module, dict]]:
        options: dict[str, Any] = {"local_files_only": local}
        processor = transformers.AutoImageProcessor.from_pretrained(name, **options)
        return processor, transformers.AutoModel.from_pretrained(name, **options, output_loading_info=True)

    try:
        processor, (model, loading) = fetched(f"the image model transformers:{name}", name, download, load, otherwise)
    except (OSError, ValueError) as error:
        allow = "Check its name" if download else f"Allow a download with {option('download', True)}"
        raise ConfigError(
            f"the image model transformers:{name} cannot be loaded. It is not a folder of an image model, and it is not in the "
            f"cache {hub_cache()}. {allow}. {otherwise}. The library says: {first_words(error)}"
        ) from None
    missing = sorted(loading["missing_keys"])
    random_pooler = bool(missing) and all("pooler." in key for key in missing)
    if missing and not random_pooler:
        some = ", ".join(missing[:3])
        raise DataError(
            f"{model_option('image', f'transformers:{name}')}: its file lacks {len(missing)} of the weights, such as {some}"
        )

    def prepare(picture: "Image") -> Tensor:
        return processor(images=picture, return_tensors="pt")["pixel_values"][0]

    return Backbone(f"transformers:{name}", _Pooled(model, random_pooler), prepare)


class _Pooled(nn.Module):
    """One vector (B, D) for a picture from a model of transformers."""

    def __init__(self, model: nn.Module, random_pooler: bool):
        """random_pooler: the file had no weights for the pooler, so what it gives means nothing."""
        super().__init__()
        self.model, self.random_pooler = model, random_pooler

    def forward(self, pixels: Tensor) -> Tensor:
        output = getattr(self.model, "get_image_features", self.model)(pixel_values=pixels)
        if isinstance(output, Tensor):
            return output
        pooled = None if self.random_pooler else getattr(output, "pooler_output", None)
        if pooled is None:
            hidden = output.last_hidden_state  # (B, tokens, D), or (B, D, H, W) of a convolution
            pooled = hidden.mean(dim=1) if hidden.dim() == 3 else hidden.mean(dim=(2, 3))
        return pooled.flatten(start_dim=1)
