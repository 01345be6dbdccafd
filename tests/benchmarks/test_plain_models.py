"""The plain form of every model against the fast one: same loss, same gradients, from the same parameters."""

import pytest
import torch

from benchmarks.plain_models import PLAIN
from mambarec.running.run import load_model_class
from mambarec.training.trainer import init_seed

VARIANTS = [("MambaRec", {"variant": "released"}), ("PGL", {"mode": "global"}), ("LATTICE", {"graph_gradient": "every_batch"})]
CASES = [(name, {}) for name in PLAIN] + VARIANTS
WITHOUT_NOISE = {
    "MambaRec": {"dropout": 0.0},
    "LGMRec": {"gumbel_noise": False, "keep_rate": 1.0},
    "BM3": {"dropout": 0.0},
    "SMORE": {"dropout_rate": 0.0},
    "PGL": {"dropout": 0.0},
}


@pytest.mark.parametrize(("name", "overrides"), CASES, ids=str)
def test_the_plain_form_computes_the_same_loss_and_gradients(name, overrides, make_config, make_loader):
    config = make_config(name, **WITHOUT_NOISE.get(name, {}), **overrides)
    results = []
    for cls in (load_model_class(name), PLAIN[name]):
        loader = make_loader(config)
        init_seed(config["seed"])
        model = cls(config, loader)
        init_seed(config["seed"])
        model.pre_epoch_processing()
        loss = model.calculate_loss(next(iter(loader))).sum()
        loss.backward()
        results.append((loss.item(), dict(model.named_parameters())))
    (loss, parameters), (plain_loss, plain_parameters) = results
    assert plain_loss == pytest.approx(loss, abs=1e-5)
    shared = [key for key in parameters if "modal_encoders" not in key]  # whose parameters have other names and shapes
    assert len(shared) > 1
    for key in shared:
        torch.testing.assert_close(plain_parameters[key].grad, parameters[key].grad, atol=1e-5, rtol=1e-4)
