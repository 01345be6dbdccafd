"""The studies of MambaRec's paper as data: which runs each is made of, and what is drawn of them.

A study is a list of points, each a label and the settings in which it departs from the YAMLs. Its runs are ordinary runs, so
those that main.py or another study made are taken as they are.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from mambarec.analysis.comparison import METRICS
from mambarec.analysis.figures import Panel, XAxis, bars, heat_map, lines, metric_name
from mambarec.analysis.records import Record
from mambarec.base.errors import ConfigError
from mambarec.base.words import listed
from mambarec.config.catalogue import keys_owners
from mambarec.config.configurator import Axis, Config
from mambarec.config.keys import nearest_key
from mambarec.running.run import open_dataset

MODEL = "MambaRec"
CONTRAST_WEIGHTS = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)
FACTORS = (1, 2, 4, 8, 16, 32)
MMD_WEIGHTS, MMD_FACTORS = (0.1, 0.15, 0.2), (4, 8, 16)
EVERY = 10**6  # more neighbours than there are
METRICS_SHOWN = ("recall@20", "ndcg@20")


@dataclass(frozen=True)
class Point:
    """One configuration of a study: its settings beside the YAMLs' ({}: as they are), or why the data set cannot have it."""

    label: str
    values: dict[str, Any] = field(default_factory=dict)
    model: str = MODEL
    obstacle: str | None = None


@dataclass(frozen=True)
class Study:
    """title: above the figure. varied: what the caption says of it. keys: the settings that it makes itself.

    points: of the widths of the data set's features, by modality, and the reduction factor. draw: a figure of the table of
    numbers; None where the figures are of item vectors. reads_features: whether any of its models does. model: the one whose
    settings say what there is to read and to draw.
    """

    title: str
    varied: str
    keys: tuple[str, ...]
    points: Callable[[Mapping[str, int], int], list[Point]]
    draw: Callable[..., Any] | None
    reads_features: bool = True
    model: str = MODEL


@dataclass(frozen=True)
class Plan:
    """A study of one data set with what the user set beside it: each possible point with its configuration, seeds its axis."""

    name: str
    study: Study
    dataset: str
    given: dict[str, Any]
    points: list[tuple[Point, Config]]
    obstacles: list[str]

    @property
    def trials(self) -> list[Config]:
        """What is to be run: every point with every seed."""
        return [trial for _, config in self.points for trial in config.trials()]


def plan_study(name: str, dataset: str, given: Mapping[str, Any], records: Sequence[Record] = ()) -> Plan:
    """The points of a study for a data set; ConfigError for a setting in `given` that the study makes itself.

    records: where they say how wide the data set's features are, its files need not be here.
    """
    study, given = STUDIES[name], dict(given)
    keep_free(given, study.keys, f"the study {name}")
    base = configuration(Point("", model=study.model), dataset, given)
    check_computes(base, METRICS, f"the study {name}")
    points, obstacles = [], []
    widths = _feature_widths(base, records) if study.reads_features else {}
    for point in study.points(widths, base.peek("reduction_factor")):
        if point.obstacle:
            obstacles.append(f"{point.label} ({point.obstacle})")
        else:
            points.append((point, configuration(point, dataset, given)))
    if not points:
        raise ConfigError(f"the study {name} has nothing to run on {base['dataset']}: {'; '.join(obstacles)}")
    check_known(given, [config for _, config in points], f"the study {name}")
    return Plan(name, study, base["dataset"], given, points, obstacles)


def keep_free(given: Mapping[str, Any], keys: Iterable[str], who: str) -> None:
    """ConfigError where a command gives a key that `who` sets itself, or several values of another key than the seed."""
    for key in keys:
        if key in given:
            raise ConfigError(f"--{key}: {who} sets {key} itself; leave it out")
    for key, value in given.items():
        if isinstance(value, Axis) and key != "seed":
            raise ConfigError(f"--{key}: a study takes one value beside what it varies itself, not {list(value)}")


def check_known(given: Iterable[str], configs: Sequence[Config], who: str) -> None:
    """ConfigError for a key that was given and that none of the models which `who` trains has."""
    for key in given:
        if not any(config.knows(key) for config in configs):
            models = list(dict.fromkeys(config["model"] for config in configs))
            has = "which has no such key" if len(models) == 1 else "none of which has such a key"
            near = None if keys_owners(key) else nearest_key(key, {name for config in configs for name in config})
            hint = f"did you mean '--{near}'?" if near else "leave it out"
            raise ConfigError(f"--{key}: {who} trains {listed(models)}, {has}; {hint}")


def check_computes(config: Config, metrics: Iterable[str], who: str) -> None:
    """ConfigError where the runs of a configuration would lack a metric that is shown."""
    if lacking := [metric for metric in metrics if metric not in config.computed()]:
        raise ConfigError(f"metrics, topk: {who} shows {', '.join(lacking)}, which these settings do not compute")


def configuration(point: Point, dataset: str, given: Mapping[str, Any]) -> Config:
    """The settings of a point's runs. MambaRec must know every given key; another model takes those that it knows."""
    defaults = Config(point.model, dataset, {"mg": True} if given.get("mg") else {})
    known = {key: value for key, value in given.items() if point.model == MODEL or defaults.knows(key)}
    return Config(point.model, dataset, {**known, **point.values})


def _feature_widths(config: Config, records: Sequence[Record]) -> dict[str, int]:
    """Modality -> width, of those that the data set declares; DataError where features that the runs need are not there."""
    for record in records:
        if record.dataset == config["dataset"] and record.environment.get("feature_widths"):
            return record.environment["feature_widths"]
    dataset = open_dataset(config)
    dataset.check_features()
    dataset.features()
    return dataset.feature_widths()


def _ablations(widths: Mapping[str, int], factor: int) -> list[Point]:
    alone = "the data set has one modality, so the full model has no global alignment either" if len(widths) == 1 else None
    return [
        Point("full model"),
        Point("without local alignment", {"use_local_alignment": False}),
        Point("without global alignment", {"use_global_alignment": False}, obstacle=alone),
        Point("without global alignment, no contrast", {"use_global_alignment": False, "cl_loss": 0.0}),
    ]


def _modalities(widths: Mapping[str, int], factor: int) -> list[Point]:
    alone = [Point(f"{modality} alone", {"modalities": [modality]}) for modality in sorted(widths)]
    return [*alone, Point("all modalities")]


def _contrast_weights(widths: Mapping[str, int], factor: int) -> list[Point]:
    return [Point(f"weight of the contrast {weight:g}", {"cl_loss": weight}) for weight in CONTRAST_WEIGHTS]


def _factors(widths: Mapping[str, int], factor: int) -> list[Point]:
    return [_reduced(widths, f"reduction factor {each}", {"reduction_factor": each}) for each in FACTORS]


def _weights_and_factors(widths: Mapping[str, int], factor: int) -> list[Point]:
    return [
        _reduced(
            widths,
            f"weight of the MMD {weight:g}, reduction factor {each}",
            {"mmd_weight": weight, "reduction_factor": each},
        )
        for weight in MMD_WEIGHTS
        for each in MMD_FACTORS
    ]


def _reduced(widths: Mapping[str, int], label: str, values: dict[str, Any]) -> Point:
    narrowest = min(widths.values())
    obstacle = None if values["reduction_factor"] <= narrowest else f"its narrowest feature has {narrowest} dimensions"
    return Point(label, values, obstacle=obstacle)


def _feature_maps(widths: Mapping[str, int], factor: int) -> list[Point]:
    """[d, 1, 1], which is the default, squares of side 2, 4, 8 … as long as d holds them, and one row [1, 1, d]."""
    d = min(widths.values()) // factor
    points, side = [Point(f"{d}×1×1")], 2
    while side**2 <= d:
        channels, rest = divmod(d, side**2)
        label = f"{'C' if rest else channels}×{side}×{side}"
        obstacle = f"the reduced width {d} is no multiple of {side**2}" if rest else None
        points.append(Point(label, {"feature_map": [channels, side, side]}, obstacle=obstacle))
        side *= 2
    return [*points, Point(f"1×1×{d}", {"feature_map": [1, 1, d]})] if d > 1 else points


def _with_vbpr(widths: Mapping[str, int], factor: int) -> list[Point]:
    return [Point("VBPR", model="VBPR"), Point(MODEL)]


def _samplings(widths: Mapping[str, int], factor: int) -> list[Point]:
    """10 neighbours are those of the YAML's fanouts, null."""
    choices = {"3 neighbours": ([3], None), "10 neighbours": (None, None), "every neighbour": ([EVERY], EVERY)}
    return [
        Point("full steps", {"propagation": "full", "fanouts": None, "layer_size": None}, "LightGCN"),
        *(
            Point(label, {"propagation": "sampled", "fanouts": fanouts, "layer_size": size}, "LightGCN")
            for label, (fanouts, size) in choices.items()
        ),
    ]


_METRIC_PANELS = [Panel(metric_name(metric), {metric: ""}) for metric in METRICS_SHOWN]
_SIZES = {"parameters": "all", "parameters_without_features": "without feature tables"}
_COST_PANELS = [
    Panel("parameters\n(millions)", _SIZES, 1e6, from_zero=True),
    Panel("time an epoch\n(seconds)", {"seconds_per_epoch": ""}, from_zero=True),
    Panel("peak memory\n(MB)", {"peak_memory_mb": ""}, from_zero=True),
]
_WORDS = {  # of keys, which stand in brackets for the command line
    "cl_loss": "weight of the contrast (cl_loss)",
    "mmd_weight": "weight of the MMD (mmd_weight)",
    "reduction_factor": "reduction factor (reduction_factor)",
}

STUDIES = {
    "ablation": Study(
        "What each alignment of MambaRec gives",
        "Without local alignment: a linear map replaces DREAM. Without global alignment: there is no MMD and no contrast "
        "between modalities, but the encoder keeps its own contrast. No contrast: the encoder has none either.",
        ("use_local_alignment", "use_global_alignment", "cl_loss"),
        _ablations,
        partial(bars, metrics=METRICS_SHOWN),
    ),
    "modality": Study(
        "MambaRec with one modality and with all",
        "With one modality there is nothing to align.",
        ("modalities",),
        _modalities,
        partial(bars, metrics=METRICS_SHOWN),
    ),
    "cl-weight": Study(
        "MambaRec by the weight of the contrast",
        "The weight of the contrast in the loss varies (key cl_loss).",
        ("cl_loss",),
        _contrast_weights,
        partial(lines, x=XAxis("cl_loss", _WORDS["cl_loss"], log=10), panels=_METRIC_PANELS),
    ),
    "mmd-reduction": Study(
        "MambaRec by the weight of the MMD and the reduction of the features",
        "Two settings vary: the weight of the MMD in the loss (key mmd_weight), and the factor by which the width of the "
        "features is reduced (key reduction_factor).",
        ("mmd_weight", "reduction_factor"),
        _weights_and_factors,
        partial(heat_map, rows="mmd_weight", columns="reduction_factor", metric="recall@20", names=_WORDS),
    ),
    "reduction": Study(
        "MambaRec by the reduction of the features",
        "The factor by which the width of the features is reduced varies (key reduction_factor). Parameters are counted with "
        "and without the raw feature tables. Time is that of training one epoch, without evaluation. Peak memory is that of "
        "the process, or of the GPU if there is one.",
        ("reduction_factor",),
        _factors,
        partial(
            lines,
            x=XAxis("reduction_factor", _WORDS["reduction_factor"], log=2),
            panels=[_METRIC_PANELS[0], *_COST_PANELS],
        ),
    ),
    "feature-map": Study(
        "MambaRec by the shape of DREAM's feature map",
        "The shape is channels × height × width (key feature_map). Its product is the reduced width of the features.",
        ("feature_map",),
        _feature_maps,
        partial(bars, metrics=METRICS_SHOWN),
    ),
    "embedding": Study(
        "Item vectors of MambaRec and VBPR",
        "The vectors are those that score items, at length 1. MambaRec makes them from all modalities (content + side).",
        (),
        _with_vbpr,
        None,
    ),
    "sampling": Study(
        "LightGCN with full steps and with sampled ones",
        "A row keeps so many of its neighbours in each layer (keys propagation, fanouts and layer_size). With every neighbour "
        "the loss and its gradients are those of a full step. Adam still differs: it leaves rows without a gradient alone.",
        ("propagation", "fanouts", "layer_size"),
        _samplings,
        partial(bars, metrics=METRICS_SHOWN),
        reads_features=False,
        model="LightGCN",
    ),
}
