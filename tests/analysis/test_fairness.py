"""The rules of a fair table, one by one, and all of them against a naive reading of what they say."""

import itertools
import json
from dataclasses import replace
from pathlib import Path
from statistics import mean

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mambarec.analysis.comparison import compare
from mambarec.analysis.fairness import at_cap, check_same_data, row_labels
from mambarec.analysis.records import Record
from mambarec.analysis.selection import made_by_study
from mambarec.analysis.tables import performance_table
from mambarec.base.errors import ConfigError, RunError
from mambarec.config.catalogue import CONFIGS
from mambarec.config.yaml_files import read_yaml
from mambarec.experiments.experiment import Experiment

LOW, HIGH = [0.0, 0.0, 0.5, 0.5], [0.5, 0.5, 1.0, 1.0]


def test_every_row_is_shown_on_the_seeds_that_all_have_and_the_table_says_which_are_not_used(make_record):
    records = [make_record("A", LOW, seed) for seed in (1, 2)] + [make_record("B", LOW, seed) for seed in (2, 3, 999)]
    comparison = compare(records, "A")
    assert comparison.seeds == {"toy": [2]}
    assert all(entry.seeds == {2} for entry in comparison.entries.values())
    caption = performance_table(comparison).caption
    assert "seed 2, the same for all rows" in caption
    assert "because not every row of toy has it: seed 1 (only A), seed 3 (only B) and seed 999 (only B)." in caption


def test_rows_without_a_common_seed_are_an_error_that_lists_their_seeds_and_what_to_run(make_record):
    records = [make_record("A", LOW, 1), make_record("A", LOW, 2), make_record("B", LOW, 3)]
    with pytest.raises(RunError, match=r"(?s)A: seeds 1, 2\n  B: seed 3\nRun the same seeds.*--where"):
        compare(records)


def test_validation_chooses_on_the_shared_seeds_whatever_the_number_of_seeds(make_record):
    records = [make_record("A", LOW, seed, valid=0.2 if seed == 1 else 0.9, x=1) for seed in (1, 2, 3)]
    records.append(make_record("A", HIGH, 1, valid=0.3, x=2))
    comparison = compare(records)
    entry = comparison.entries["A", "toy"]
    assert entry.setting == "x=2" and entry.seeds == {1} and entry.n_trials == 2
    assert "its chosen setting, x=2, has no run with seeds 2, 3, and other settings have" in " ".join(comparison.notes)


def test_seeds_that_the_choice_could_not_use_are_said(make_record):
    records = [make_record("A", HIGH, seed, valid=0.9, x=1) for seed in (1, 2)]
    assert not any("since" in note for note in compare(records).notes)
    comparison = compare([*records, make_record("A", LOW, 1, valid=0.3, x=2)])
    assert comparison.entries["A", "toy"].setting == "x=1" and comparison.entries["A", "toy"].seeds == {1, 2}
    assert "A on toy: the choice was made on seed 1, since x=2 has no run with seed 2." in comparison.notes


def test_points_without_a_common_seed_are_an_error_that_lists_them(make_record):
    with pytest.raises(RunError, match=r"(?s)A on toy: its 2 settings have no seed in common.*x=1: seed 1\n.*x=2: seed 2"):
        compare([make_record("A", LOW, 1, x=1), make_record("A", LOW, 2, x=2)])


@pytest.mark.parametrize("key", ["epochs", "min_epochs", "stopping_step", "eval_step"])
def test_other_budgets_are_rows_of_their_own_which_are_not_tested_nor_ranked(make_record, key):
    records = [make_record("A", HIGH, seed, **{key: 7}) for seed in (1, 2)]
    records += [make_record(model, LOW, seed, **{key: 3}) for seed in (1, 2) for model in "AB"]
    comparison = compare(records, "B")
    assert comparison.labels == [f"A {key}=3", f"A {key}=7", f"B {key}=3"]
    assert [test.label for test in comparison.tests] == [f"A {key}=3"]
    assert comparison.gain("toy", "recall@20") == 0
    table = performance_table(comparison)
    bold = {row[0].text: row[2].bold for row in table.rows}
    assert bold[f"A {key}=3"] and not bold[f"A {key}=7"]
    assert f"A {key}=7 had another budget than B {key}=3" in table.caption


def test_one_budget_for_all_is_said_once_and_names_no_row(make_record):
    comparison = compare([make_record(model, LOW, epochs=12) for model in "AB"])
    assert comparison.labels == ["A", "B"] and "at most 12 epochs" in performance_table(comparison).caption


@pytest.mark.parametrize(
    ("model", "key", "value", "text"),
    [
        ("MambaRec", "use_local_alignment", False, "use_local_alignment=False"),
        ("MambaRec", "use_global_alignment", False, "use_global_alignment=False"),
        ("MambaRec", "variant", "released", "variant=released"),
        ("MambaRec", "contrast", "behaviour", "contrast=behaviour"),
        ("MambaRec", "train_features", False, "train_features=False"),
        ("VBPR", "modalities", ["text"], "modalities=text"),
        ("BPR", "precision", "bf16", "precision=bf16"),
        ("BPR", "mg", True, "mg=True"),
        ("GRCN", "routing", "paper", "routing=paper"),
        ("MMGCN", "train_embeddings", True, "train_embeddings=True"),
        ("LGMRec", "gumbel_noise", False, "gumbel_noise=False"),
    ],
)
def test_what_makes_another_model_names_its_row_even_where_there_is_no_other(make_record, model, key, value, text):
    other = make_record(model, HIGH, valid=0.9, **{key: value})
    assert compare([other]).labels == [f"{model} {text}"]
    comparison = compare([other, make_record(model, LOW)])
    assert sorted(comparison.labels) == [model, f"{model} {text}"]
    assert {entry.n_points for entry in comparison.entries.values()} == {1}


def test_a_models_own_yaml_says_what_makes_another_model(make_record, configs):
    (configs / "model" / "VBPR.yaml").write_text("flavour: mild\nmodel_identity: [flavour]\n")
    labels = compare([make_record("VBPR", LOW, flavour=taste) for taste in ("mild", "hot")]).labels
    assert labels == ["VBPR", "VBPR flavour=hot"]


def test_a_model_that_is_not_trained_could_not_have_improved(make_record):
    assert not at_cap(make_record("Pop", LOW, ended=1, epochs=1, req_training=False))
    assert at_cap(make_record("BPR", LOW, ended=5, epochs=5, req_training=True))


def test_all_modalities_by_name_are_all(make_record):
    files = {"vision_feature_file": "v.npy", "text_feature_file": "t.npy"}
    named = make_record("VBPR", LOW, 1, modalities=["text", "visual"], **files)
    assert compare([named, make_record("VBPR", LOW, 2, modalities=["all"], **files)]).labels == ["VBPR"]


def test_other_code_of_a_plug_in_or_another_feature_file_is_another_row(make_record):
    codes = [make_record("Mine", LOW, model_code=code * 8) for code in ("aa", "bb")]
    assert compare(codes).labels == ["Mine model_code=aaaaaaaa", "Mine model_code=bbbbbbbb"]
    assert compare(codes[:1]).labels == ["Mine"]
    files = [make_record("VBPR", LOW, text_feature_file=name) for name in ("a.npy", "b.npy")]
    assert compare(files).labels == ["VBPR text_feature_file=a.npy", "VBPR text_feature_file=b.npy"]


def test_the_metrics_that_are_computed_make_no_point(make_record):
    entry = compare([make_record("A", LOW, topk=[20]), make_record("A", LOW, 2, topk=[5, 20])]).entries["A", "toy"]
    assert entry.n_points == 1 and entry.seeds == {1, 2}


def test_runs_that_ended_at_their_last_epoch_are_marked(make_record):
    rows = [{"epoch": epoch, "valid": {"recall@20": 0.1}} for epoch in range(5)]
    capped = replace(make_record("A", LOW, epochs=5), epochs=rows)
    assert at_cap(capped) and at_cap(replace(capped, epochs=[]))
    assert not at_cap(make_record("A", LOW, epochs=6))
    # its best epoch is 3, and epoch 4 is the one evaluation without a better one: it stopped early, at the last epoch
    assert not at_cap(replace(make_record("A", LOW, epochs=5, stopping_step=1, min_epochs=0), epochs=rows))
    table = performance_table(compare([capped, make_record("B", LOW, epochs=5, stopping_step=1, min_epochs=0)], "B"))
    assert [row[0].mark for row in table.rows[:2]] == [" †", ""]
    assert "†: runs that ended at their last epoch and might have improved: A" in table.caption


def test_points_that_are_level_on_validation_are_said_and_the_defaults_win(make_record):
    records = [make_record("LightGCN", LOW, valid=0.1, n_layers=layers, seed=1) for layers in (1, 2, 3)]
    comparison = compare(records)
    assert comparison.entries["LightGCN", "toy"].setting == "n_layers=2"  # the YAML's
    assert "n_layers=2, n_layers=1 and n_layers=3 are level on validation to four decimals" in comparison.notes[0]


def test_a_point_run_on_two_machines_counts_once_and_the_table_says_so(make_record):
    pair = [make_record("A", LOW, name=f"seed1-{name}", valid=valid) for name, valid in (("b", 0.5), ("a", 0.1))]
    for records in (pair, pair[::-1]):
        comparison = compare(records)
        assert comparison.entries["A", "toy"].records[0].name == "seed1-a"
        assert "A seed 1. The first by name is used" in comparison.notes[0]


def test_the_reference_may_be_a_row_or_a_model(make_record):
    records = [make_record("A", LOW), make_record("B", LOW), make_record("B", LOW, precision="bf16")]
    assert compare(records, "a").reference == "A"
    assert compare(records, "B").reference == "B"
    assert compare(records, "B precision=bf16").reference == "B precision=bf16"
    budgets = [make_record("B", LOW, epochs=7), make_record("B", LOW, epochs=7, precision="bf16"), make_record("A", LOW)]
    assert compare(budgets, "B").reference == "B epochs=7"
    ablated = [make_record("MambaRec", LOW, use_local_alignment=False), make_record("A", LOW)]
    assert compare(ablated).reference is None and compare(ablated, "MambaRec").reference is not None
    halves = [replace(one, config=one.config | {"modalities": [name]}) for one in records[1:] for name in ("text", "visual")]
    with pytest.raises(RunError, match="several rows are of this model"):
        compare([*halves, records[0]], "B")


def test_there_is_no_star_where_one_test_alone_finds_a_difference(make_record):
    # many users lose a little and a few gain much: the ranks differ, the means do not
    base = np.full(400, 0.5)
    other = np.where(np.arange(400) < 320, 0.4, 0.9)
    comparison = compare([make_record("A", base), make_record("B", other)], "A")
    assert comparison.tests[0].wilcoxon_adjusted < 0.05 and not comparison.tests[0].is_significant
    assert "B on toy has no star, because the two tests disagree: p is 0.0000 in the Wilcoxon test" in comparison.notes[0]
    assert not any(cell.star for row in performance_table(comparison).rows for cell in row)


def test_rows_of_several_budgets_are_not_ranked_without_a_reference_and_a_single_row_never_is(make_record):
    records = [make_record("A", LOW, epochs=3), make_record("A", HIGH, epochs=7), make_record("B", LOW, epochs=3)]
    for some in (records, records[:1]):
        table = performance_table(compare(some))
        assert not any(cell.bold or cell.underlined for row in table.rows for cell in row) and "in bold" not in table.caption
        assert ("No row is marked as the best, because" in table.caption) == (len(some) > 1)
    assert "Best in bold" in performance_table(compare(records, "B")).caption


@pytest.mark.parametrize(
    ("model", "key", "value"),
    [
        ("MambaRec", "cl_loss", 0.0),
        ("MambaRec", "mmd_weight", 0),
        ("LightGCN", "n_layers", 0),
        ("FREEDOM", "mm_image_weight", 1),
    ],
)
def test_a_value_that_switches_a_part_off_labels_its_row_and_other_values_are_points(make_record, model, key, value):
    records = [make_record(model, LOW), make_record(model, LOW, **{key: 0.7}), make_record(model, HIGH, **{key: value})]
    comparison = compare(records)
    points = {label: entry.n_points for (label, _), entry in comparison.entries.items()}
    assert points == {model: 2, f"{model} {key}={value}": 1}


def test_every_key_that_makes_another_model_is_one_of_its_yaml():
    for path in (CONFIGS / "model").glob("*.yaml"):
        content = read_yaml(path)
        assert {entry.partition("=")[0] for entry in content.get("model_identity", [])} <= set(content), path


def test_one_seed_and_no_test_are_said(make_record):
    values = np.random.default_rng(0).random(200)
    caption = performance_table(compare([make_record("A", values), make_record("B", values / 2)], "A")).caption
    assert "another seed may give another result" in caption


# all rules at once

RUN = st.fixed_dictionaries(
    {
        "model": st.sampled_from(["MambaRec", "VBPR", "LightGCN"]),
        "seed": st.sampled_from([1, 2, 3, 999]),
        "reg_weight": st.sampled_from([0.1, 0.2, 0.3]),
        "epochs": st.sampled_from([5, 40, 40, 40]),
        "part": st.sampled_from([None, None, None, "bf16", "local", "zero"]),
        "threads": st.sampled_from([1, 1, 2]),
        "valid": st.sampled_from([0.1, 0.2, 0.3, 0.4]),
        "as_file": st.booleans(),
    }
)


def oracle(runs: list[dict]) -> dict[str, tuple[float, set[int]]] | None:
    """The rows with their chosen point and shown seeds, read off the rules in the plainest way; None where they refuse."""

    def row(run):
        if run["part"] == "local" and run["model"] == "MambaRec":
            return run["model"], run["epochs"], "use_local_alignment=False"
        if run["part"] == "zero" and run["model"] == "MambaRec":
            return run["model"], run["epochs"], "cl_loss=0"
        return run["model"], run["epochs"], "precision=bf16" if run["part"] == "bf16" else ""

    first = {}
    for run in sorted(runs, key=lambda run: run["name"], reverse=True):
        first[row(run), run["reg_weight"], run["seed"]] = run
    rows = {key[0] for key in first}
    several = len({epochs for _, epochs, _ in rows}) > 1
    chosen = {}
    for one in rows:
        points = {weight for key, weight, _ in first if key == one}
        seeds = {weight: {s for key, w, s in first if (key, w) == (one, weight)} for weight in points}
        shared = set.intersection(*seeds.values())
        if not shared:
            return None
        values = {weight: mean(first[one, weight, seed]["valid"] for seed in sorted(shared)) for weight in points}
        best = max(values.values())
        chosen[one] = ({weight for weight in points if abs(values[weight] - best) < 1e-12}, seeds)
    found = {}
    options = [dict(zip(chosen, weights, strict=True)) for weights in itertools.product(*(ties for ties, _ in chosen.values()))]
    for pick in options:
        common = set.intersection(*(chosen[one][1][weight] for one, weight in pick.items()))
        texts = {}
        for (model, epochs, part), weight in pick.items():
            words = [model, part, f"epochs={epochs}" if several else ""]
            texts[" ".join(word for word in words if word)] = weight
        found[json.dumps(texts, sort_keys=True)] = common
    return found


@settings(max_examples=120, deadline=None)
@given(runs=st.lists(RUN, min_size=1, max_size=14), order=st.randoms(use_true_random=False))
def test_the_rules_hold_for_any_collection_of_runs(make_shared_record, runs, order):
    for number, run in enumerate(runs):
        run["name"] = f"seed{run['seed']}-{number:02}"
    records = [make_shared_record(run) for run in runs]
    order.shuffle(records)
    expected = oracle(runs)
    if expected is None or not all(expected.values()):
        if expected is None or not any(expected.values()):
            with pytest.raises(RunError, match="no seed in common"):
                compare(records)
            return
        return  # points are level, and whether a seed is common depends on which is taken: any is right
    comparison = compare(records)
    shown = {label: entry.records[0].config["reg_weight"] for (label, _), entry in comparison.entries.items()}
    assert json.dumps(shown, sort_keys=True) in expected
    common = expected[json.dumps(shown, sort_keys=True)]
    assert comparison.seeds["toy"] == sorted(common)
    assert all(entry.seeds == common for entry in comparison.entries.values())
    assert all(len({record.config["epochs"] for record in entry.runs}) == 1 for entry in comparison.entries.values())
    own = comparison.entries.get((comparison.reference or "", "toy"))
    assert all(own and comparison.entries[test.label, "toy"].budget == own.budget for test in comparison.tests)
    rows = performance_table(comparison, ["recall@20"]).rows[: len(comparison.labels)]
    marked = [row[0].text for row in rows if row[1].bold or row[1].underlined or row[1].star]
    assert len({str(comparison.entries[label, "toy"].budget) for label in marked}) <= 1


@pytest.fixture(scope="session")
def make_shared_record(tmp_path_factory):
    """make_shared_record(run) -> its record, from a compact file where run['as_file'] says so."""
    folder = tmp_path_factory.mktemp("records")

    def make(run: dict) -> Record:
        values = np.linspace(0, 1, 8, dtype=np.float16)
        config = {"seed": run["seed"], "epochs": run["epochs"], "threads": run["threads"], "reg_weight": run["reg_weight"]}
        config |= {"valid_metric": "Recall@20", "model": run["model"], "dataset": "toy"}
        if run["part"] == "bf16":
            config["precision"] = "bf16"
        elif run["part"] == "local" and run["model"] == "MambaRec":
            config["use_local_alignment"] = False
        elif run["part"] == "zero" and run["model"] == "MambaRec":
            config["cl_loss"] = 0
        numbers = {"recall@20": float(values.mean())}
        result = {"model": run["model"], "dataset": "toy", "seed": run["seed"], "best_epoch": 3, "epochs": 5}
        result |= {"valid": {"recall@20": run["valid"]}, "test": numbers, "parameters": 12, "parameters_without_features": 10}
        result |= {"seconds_per_epoch": 0.2, "seconds_total": 1.0, "peak_memory_mb": None}
        environment = {"device": "cpu", "threads": run["threads"], "data_files": {"toy.inter": "a"}}
        users = np.arange(8, dtype=np.int32)
        record = Record(config, environment, result, [], users, {"recall@20": values}, Path(run["name"]))
        return Record.of_file(record.save(folder)) if run["as_file"] else record

    return make


# false stars


def false_star_rate(make_record, tables: int, models: int, seeds: int, users: int, rng: np.random.Generator) -> float:
    """The share of tables with a star, of models that differ by noise of users and of runs alone; some have two points."""
    starred = 0
    for _ in range(tables):
        taste = rng.random(users) * 0.3  # users differ, models do not
        records = [
            make_record(f"M{model}", rng.random(users) < taste, seed, valid=float(rng.random()), x=point)
            for model in range(models)
            for point in range(1 + model % 2)
            for seed in range(1, seeds + 1)
        ]
        starred += any(test.is_significant for test in compare(records, "M0").tests)
    return starred / tables


def test_models_that_differ_by_noise_alone_are_starred_in_at_most_one_table_in_twenty(make_record, monkeypatch):
    monkeypatch.setattr("mambarec.analysis.significance.N_RESAMPLES", 200)  # the interval is not what is tested
    rate = false_star_rate(make_record, tables=60, models=5, seeds=2, users=300, rng=np.random.default_rng(1))
    assert rate <= 0.05 + 2 * np.sqrt(0.05 * 0.95 / 60)


@pytest.mark.slow
def test_false_stars_in_many_tables(make_record, monkeypatch):
    monkeypatch.setattr("mambarec.analysis.significance.N_RESAMPLES", 200)
    rate = false_star_rate(make_record, tables=500, models=10, seeds=3, users=500, rng=np.random.default_rng(2))
    assert rate <= 0.05 + 2 * np.sqrt(0.05 * 0.95 / 500)


@pytest.mark.parametrize(
    ("program", "in_a_study", "expected"),
    [
        ("main.py", True, False),
        ("mambarec train", True, False),
        ("mambarec compare", True, False),
        ("report.py", False, True),
        ("mambarec report", False, True),
        ("elsewhere.py", True, True),
    ],
)
def test_a_run_is_a_studys_by_the_program_that_made_it(make_record, program, in_a_study, expected):
    record = make_record("BPR", [0.1], command=program)
    plan = Experiment("x", "study modality", ["BPR"], ["toy"], {}, {}, [1], {}, {}, "", trials=[record.trial])
    assert made_by_study(record, [plan] if in_a_study else []) is expected


def test_runs_with_features_taken_away_are_a_row_of_their_own(make_record):
    whole, less = make_record("MambaRec", [0.1, 0.2]), {"missing_modality": "visual", "missing_share": 0.5, "missing_seed": 1}
    labels = row_labels([whole, make_record("MambaRec", [0.1, 0.2], **less)])
    assert labels == ["MambaRec", "MambaRec missing_modality=visual missing_share=0.5 missing_seed=1"]


def test_another_split_of_the_same_file_is_refused(make_record):
    columns = {"USER_ID_FIELD": "userID", "ITEM_ID_FIELD": "itemID", "inter_splitting_label": "x_label"}
    records = [make_record("A", [0.1, 0.2], **columns), make_record("B", [0.1, 0.2], **columns)]
    check_same_data(records)
    other = make_record("C", [0.1, 0.2], **{**columns, "inter_splitting_label": "x_label2"})
    with pytest.raises(RunError, match="read different columns of one file: inter_splitting_label is x_label2 and x_label"):
        check_same_data([*records, other])


def test_equal_settings_on_different_data_are_no_repetition(make_record):
    records = [make_record("A", [0.1, 0.2], data=data, name=f"{data}-1") for data in "ab"]
    with pytest.raises(RunError, match="made on different data"):
        compare(records)


def test_a_run_from_before_the_pictures_is_another_row_than_one_with_them(make_record):
    multimodal, text = {"dataset": "tiktok", "is_multimodal_model": True}, {"text_feature_file": "audio_feat.npy"}
    whole = make_record("VBPR", [0.1, 0.2], 2, **multimodal, **text, vision_feature_file="image_feat.npy")
    labels = row_labels([whole, make_record("VBPR", [0.1, 0.2], 1, **multimodal, **text)])
    assert labels == ["VBPR", "VBPR vision_feature_file=None"]
    bpr = make_record("BPR", [0.1, 0.2], 1, dataset="tiktok", is_multimodal_model=False)  # reads none, so nothing differs
    assert row_labels([bpr]) == ["BPR"]


def test_a_mask_that_one_of_two_runs_had_is_refused(make_record):
    records = [make_record("VBPR", [0.1, 0.2], seed, is_multimodal_model=True) for seed in (1, 2)]
    check_same_data(records)
    records[1].environment["data_files"]["image_mask.npy"] = "c"
    with pytest.raises(RunError, match=r"made on different data: only one of them had image_mask\.npy"):
        check_same_data(records)
    bpr = make_record("BPR", [0.1, 0.2], is_multimodal_model=False)  # it reads no features, so no mask either
    check_same_data([bpr, records[1]])


@pytest.mark.parametrize("key", ["threads", "seed", "gpu_id"])
def test_a_key_that_is_no_setting_of_a_model_makes_no_rows(make_record, key):
    records = [make_record("A", [0.1, 0.2], 1, **{"threads": n, "gpu_id": n}) for n in (1, 2)]
    with pytest.raises(ConfigError, match=f"--split {key}: '{key}' is no setting of a model"):
        row_labels(records, [key])
