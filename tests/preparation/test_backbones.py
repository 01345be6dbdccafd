"""Image models by name: what each gives for a picture, and what is said when it cannot be had."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from mambarec.base.errors import ConfigError, DataError
from mambarec.preparation.features.backbones import load_backbone
from mambarec.preparation.features.libraries import library

SRC = Path(__file__).resolve().parents[2] / "src"


@pytest.fixture
def transformers():
    return pytest.importorskip("transformers", reason="needs the extra features")


@pytest.fixture
def picture():
    image = pytest.importorskip("PIL.Image", reason="needs the extra features")
    return image.fromarray(np.random.default_rng(0).integers(0, 256, (48, 32, 3), dtype=np.uint8))


VIT = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16, "image_size": 32}


def save(transformers, model, folder):
    model.save_pretrained(folder)
    transformers.ViTImageProcessor(size={"height": 32, "width": 32}).save_pretrained(folder)
    return f"transformers:{folder}"


def test_a_model_whose_file_has_no_pooler_gives_the_mean_of_its_tokens(transformers, picture, tmp_path):
    classifier = transformers.ViTForImageClassification(transformers.ViTConfig(**VIT, patch_size=8)).eval()
    backbone = load_backbone(save(transformers, classifier, tmp_path))
    pixels = backbone.prepare(picture)
    expected = classifier.vit(pixel_values=pixels[None]).last_hidden_state.mean(dim=1)
    torch.testing.assert_close(backbone.features([pixels]), expected.detach())


def test_a_model_of_texts_and_images_gives_its_image_features(transformers, picture, tmp_path):
    text = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16, "vocab_size": 50}
    config = transformers.CLIPConfig(text_config=text, vision_config={**VIT, "patch_size": 8}, projection_dim=12)
    backbone = load_backbone(save(transformers, transformers.CLIPModel(config), tmp_path))
    assert backbone.width() == 12


def test_a_convolution_gives_one_number_a_channel(transformers, tmp_path):
    config = transformers.ResNetConfig(embedding_size=8, hidden_sizes=[8, 12], depths=[1, 1], layer_type="basic")
    backbone = load_backbone(save(transformers, transformers.ResNetModel(config), tmp_path))
    assert backbone.width() == 12


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("resnet", "the image model resnet is not known. Expected statistics .*, vgg16, timm:NAME or transformers:NAME"),
        ("timm:", "the image model timm: is not known"),
        ("transformers:no/such-model", r"no/such-model cannot be loaded.*--download.*preprocessor_config.json"),
        ("transformers:/nowhere", "/nowhere cannot be loaded.*The image model statistics needs no weights"),
    ],
)
def test_a_model_that_cannot_be_had_is_named(transformers, name, message):
    with pytest.raises(ConfigError, match=message):
        load_backbone(name)


def test_a_folder_of_weights_is_a_model_of_transformers(tiny_vit, picture):
    one, other = (load_backbone(name) for name in (str(tiny_vit), f"transformers:{tiny_vit}"))
    torch.testing.assert_close(one.features([one.prepare(picture)]), other.features([other.prepare(picture)]))


def test_weights_in_the_wrong_place_are_an_error(transformers, tmp_path):
    with pytest.raises(ConfigError, match="is no file"):
        load_backbone("vgg16", tmp_path / "none.pth")
    (tmp_path / "model.safetensors").write_bytes(b"")
    with pytest.raises(ConfigError, match=f"--model transformers:{tmp_path}"):
        load_backbone("transformers:any", tmp_path / "model.safetensors")


def test_half_a_model_is_refused(transformers, tiny_vit, tmp_path):
    model = transformers.ViTModel.from_pretrained(tiny_vit)
    state = {name: value for name, value in model.state_dict().items() if "layernorm" not in name}
    model.save_pretrained(tmp_path, state_dict=state)
    transformers.ViTImageProcessor(size={"height": 32, "width": 32}).save_pretrained(tmp_path)
    with pytest.raises(DataError, match=r"its file lacks \d+ of the weights, such as layernorm"):
        load_backbone(f"transformers:{tmp_path}")


@pytest.mark.parametrize("name", ["vgg16", "timm:resnet18"])
def test_without_the_library_the_error_says_how_to_get_it(monkeypatch, name):
    pytest.importorskip("PIL.Image", reason="needs the extra features")
    for module in ("torchvision", "timm"):
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ConfigError, match=rf"--model {name} needs the package \w+: pip install -e '.*\[vision\]'"):
        load_backbone(name)


@pytest.fixture
def broken_torchvision(tmp_path):
    """A folder with a torchvision that belongs to another torch, as pip would have installed it."""
    folder = tmp_path / "broken"
    (folder / "torchvision").mkdir(parents=True)
    text = "import torchvision.ops\nraise RuntimeError('operator torchvision::nms does not exist')\n"
    (folder / "torchvision" / "__init__.py").write_text(text)
    (folder / "torchvision" / "ops.py").touch()
    metadata = folder / "torchvision-0.28.0.dist-info" / "METADATA"
    metadata.parent.mkdir()
    metadata.write_text("Metadata-Version: 2.1\nName: torchvision\nVersion: 0.28.0\n")
    return folder


@pytest.mark.parametrize("name", ["vgg16", "timm:resnet18"])
def test_a_torchvision_of_another_torch_is_explained_where_it_is_needed(monkeypatch, broken_torchvision, name):
    pytest.importorskip("PIL.Image", reason="needs the extra features")
    monkeypatch.syspath_prepend(broken_torchvision)
    monkeypatch.delitem(sys.modules, "torchvision", raising=False)
    with pytest.raises(ConfigError, match=rf"--model {name} cannot start: torchvision does not import beside torch .*nms does"):
        load_backbone(name)


def test_a_library_that_does_not_import_is_named(monkeypatch, tmp_path):
    (tmp_path / "sentence_transformers.py").write_text("raise RuntimeError('broken build')")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "sentence_transformers", raising=False)
    with pytest.raises(ConfigError, match=r"sentence-transformers does not import \(.*broken build"):
        library("sentence_transformers", "--model x")


@pytest.mark.slow  # each starts Python and imports transformers
@pytest.mark.parametrize("state", ["broken", "absent"])
def test_texts_and_pictures_are_encoded_beside_a_torchvision_that_is_broken_or_absent(
    broken_torchvision, write_items, draw, mini_lm, tiny_vit, state
):
    folder, pictures = write_items(2, text=["a red shoe", "a blue shoe"]), draw(0, 1)
    hide = "" if state == "broken" else "sys.modules['torchvision'] = None"
    code = f"""
import sys
sys.path[:0] = [{str(SRC)!r}, {str(broken_torchvision)!r}]
{hide}
from pathlib import Path
from mambarec.preparation.features.images import extract_features
from mambarec.preparation.features.text import encode_texts
folder = Path({str(folder)!r})
encode_texts(folder, {str(mini_lm)!r})
extract_features(folder, {f"transformers:{tiny_vit}"!r}, images=Path({str(pictures)!r}))
"""
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.count("torchvision does not import beside torch") == (state == "broken")
    assert np.load(folder / "text_feat.npy").shape == (2, 384) and np.load(folder / "image_feat.npy").shape == (2, 16)


def test_the_pinned_torch_and_torchvision_belong_together():
    """torch 2.N and torchvision 0.(N + 15) are released together."""
    pins = dict(line.split("==") for line in (SRC.parent / "constraints.txt").read_text().split() if "==" in line)
    assert pins["torch"].split(".")[0] == "2" and pins["torchvision"].split(".")[0] == "0"
    assert int(pins["torchvision"].split(".")[1]) == int(pins["torch"].split(".")[1]) + 15
    page = (SRC.parent / "docs" / "install.md").read_text(encoding="utf-8")
    assert page.count(f"pip install torch=={pins['torch']} torchvision=={pins['torchvision']}") == 2


@pytest.fixture
def torchvision():
    reason = "needs the extra vision, and a torchvision that belongs to this torch"
    return pytest.importorskip("torchvision", reason=reason, exc_type=(ImportError, RuntimeError))


@pytest.mark.slow  # 138 million numbers, made and written
def test_vgg16_gives_its_second_fully_connected_layer(torchvision, picture, tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    with pytest.raises(ConfigError, match=r"vgg16-397923af.pth into .*checkpoints, or name it with --weights"):
        load_backbone("vgg16")
    model = torchvision.models.vgg16().eval()
    torch.save(model.state_dict(), tmp_path / "vgg16.pth")
    backbone = load_backbone("vgg16", tmp_path / "vgg16.pth")
    pixels = backbone.prepare(picture)
    with torch.inference_mode():
        hidden = model.avgpool(model.features(pixels[None])).flatten(1)
        for layer in model.classifier[:5]:
            hidden = layer(hidden)
    assert backbone.width() == 4096
    torch.testing.assert_close(backbone.features([pixels]), hidden)


def test_a_file_that_does_not_fit_vgg16_is_refused(torchvision, tmp_path):
    (tmp_path / "broken.pth").write_bytes(b"no weights")
    with pytest.raises(DataError, match="does not hold the weights of vgg16"):
        load_backbone("vgg16", tmp_path / "broken.pth")


def test_timm_gives_what_its_classifier_reads(torchvision, picture, tmp_path):
    timm = pytest.importorskip("timm", reason="needs the extra vision")
    model = timm.create_model("resnet10t").eval()
    torch.save(model.state_dict(), tmp_path / "weights.pth")
    backbone = load_backbone("timm:resnet10t", tmp_path / "weights.pth")
    pixels = backbone.prepare(picture)
    with torch.inference_mode():
        expected = model.forward_head(model.forward_features(pixels[None]), pre_logits=True)
    torch.testing.assert_close(backbone.features([pixels]), expected)
    with pytest.raises(ConfigError, match=r"timm\.list_models"):
        load_backbone("timm:nothing")
    torch.save({"other": torch.zeros(1)}, tmp_path / "weights.pth")
    with pytest.raises(DataError, match="does not hold the weights of timm's resnet10t"):
        load_backbone("timm:resnet10t", tmp_path / "weights.pth")
