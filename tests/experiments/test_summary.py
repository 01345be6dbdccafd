"""The list of failures: a line per kind of error, not per run."""

from pathlib import Path

import pytest

from mambarec.experiments.summary import failed_alike, failures
from mambarec.experiments.trials import Outcome, Trial

MODELS = "BPR FREEDOM GRCN LGMRec LightGCN MGCN MMGCN MambaRec SLMRec VBPR".split()


def test_ten_models_with_one_error_are_one_line():
    error = "data/demo/image_feat.npy does not exist; make it with prepare.py"
    (line,) = failed_alike((f"{model} on demo seed=1", error) for model in MODELS)
    named = ", ".join(f"{model} on demo seed=1" for model in MODELS[:5])
    assert line == f"  10 runs ({named} and 5 more): {error}"


@pytest.mark.parametrize(
    "error",
    [
        "RuntimeError: no memory (traceback in /results/demo/{model}/seed{n}-0f/train.log)",
        "{model}: the loss is not finite in epoch {n}",
        "{model} cannot be built: n_layers={n}.5e-3 is too large",
    ],
)
def test_what_is_of_one_run_makes_no_kind(error):
    lines = failed_alike((f"{model} on demo seed={n}", error.format(model=model, n=n)) for n, model in enumerate(MODELS))
    assert len(lines) == 1 and lines[0].endswith(f"the first of them: {error.format(model='BPR', n=0)}")


def test_different_errors_have_lines_of_their_own():
    lines = failed_alike([("A on x", "no images"), ("B on x", "no texts"), ("C on x", "no images")])
    assert lines == ["  2 runs (A on x, C on x): no images", "  B on x: no texts"]


def test_the_console_says_how_many_failed():
    trials = [Trial(None, Path(name), f"{name} on x") for name in "ABC"]
    outcomes = [Outcome(trials[0], result={}), *(Outcome(trial, error="no images") for trial in trials[1:])]
    assert failures(outcomes) == "error: 2 of 3 trials failed:\n  2 runs (B on x, C on x): no images"
    assert failures(outcomes[:1]) == ""
