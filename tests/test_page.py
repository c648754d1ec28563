"""The report's page in a browser: what it shows, how it is used, and that it loads nothing."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import browser
import numpy as np
import pytest
from reports import column, metric, outcome, profile, regression, report

from aml_spark.monitoring import figures
from aml_spark.monitoring.metric import Metric, Thresholds
from aml_spark.monitoring.performance import performance
from aml_spark.monitoring.report.report import Report, findings

HOSTILE = [
    "</script><img src=x onerror=document.title='broken'>",
    "a.b`c\"d'e",
    "<b>bold</b>&amp;",
    "ветер 🌬️ \u2028",
    "\udc80half",
    "__proto__",
    "",
]


@pytest.fixture(scope="module")
def driver() -> Iterator[Any]:
    with browser.started() as started:
        yield started


def opened(driver: Any, of: Report, folder: Path, **options: Any) -> Any:
    file = folder / "report.html"
    of.to_html(file)
    browser.said(driver), browser.requested(driver)
    browser.shown(driver, file, **options)
    assert browser.said(driver) == []
    assert browser.requested(driver) == [file.as_uri()]
    return driver


def texts(driver: Any, selector: str) -> list[str]:
    """The text of all elements that are shown."""
    found: list[str] = driver.execute_script(
        "return [...document.querySelectorAll(arguments[0])].filter((one) => one.checkVisibility())"
        ".map((one) => one.innerText.trim())",
        selector,
    )
    return found


def cells(driver: Any, selector: str) -> list[list[str]]:
    """The text of each cell of rows."""
    found: list[list[str]] = driver.execute_script(
        "return [...document.querySelectorAll(arguments[0])]"
        ".map((row) => [...row.children].map((one) => one.textContent))",
        selector,
    )
    return found


def click(driver: Any, selector: str, text: str | None = None) -> None:
    assert driver.execute_script(
        "const found = [...document.querySelectorAll(arguments[0])]"
        ".find((one) => arguments[1] === null || one.textContent === arguments[1]);"
        "if (found) found.click(); return Boolean(found)",
        selector,
        text,
    )


def fill(driver: Any, selector: str, value: str, event: str = "input") -> None:
    driver.execute_script(
        "const found = document.querySelector(arguments[0]); found.value = arguments[1];"
        "found.dispatchEvent(new Event(arguments[2]))",
        selector,
        value,
        event,
    )


def flights(columns: int = 12) -> Report:
    """Three columns that drifted, windows, slices, labels and predictions."""
    drawn = np.random.default_rng(7)
    values = {f"feature_{at}": tuple(drawn.normal(0.3 * at if at < 3 else 0, 1, (2, 400))) for at in range(columns)}
    values["carrier"] = (drawn.choice(["UA", "B6", "DL"], 400), drawn.choice(["UA", "HA", "DL"], 400))
    metrics = []
    for at, name in enumerate(values):
        value = 0.5 / (at + 1)
        for window in (None, "2026-01-01T00:00:00", "2026-02-01T00:00:00"):
            one = metric("jensen_shannon_distance", value, column=name, threshold=0.15, window=window, bound=0.001)
            metrics.append(replace(one, breached=value > 0.15))
        metrics.append(metric("hellinger_distance", value / 3, column=name, note="no threshold is set"))
        metrics.append(metric("jensen_shannon_distance", value / 2, column=name, slice="JFK"))
    metrics.append(Metric(signal="quality", metric="freshness_hours", value=30.5, threshold=24.0, breached=True))
    before = outcome(1)
    outcomes = (outcome(2, shift=0.6), outcome(3, slice="JFK"), outcome(4, window="2026-01-01T00:00:00"))
    for one in outcomes:
        metrics += performance.measured(one, Thresholds(None, performance.THRESHOLDS), before)
    windows = tuple(
        profile([column(name, both[1]) for name, both in values.items()], window=f"2026-0{month}-01T00:00:00")
        for month in (1, 2)
    )
    return report(
        values,
        metrics,
        windows=windows,
        outcomes=outcomes,
        baseline_outcome=before,
        importance={name: 1 / (at + 1) for at, name in enumerate(values)},
        model="models:/delay/3",
    )


def test_a_page_shows_what_breached_and_each_number_of_the_report(driver: Any, tmp_path: Path) -> None:
    of = flights()
    opened(driver, of, tmp_path)
    assert texts(driver, "h1") == [findings.verdict(of)]
    assert texts(driver, ".findings li") == [f"▲{one.line()}" for one in findings.findings(of)]
    assert texts(driver, "nav a") == ["Columns", "Over time", "Performance", "Slices", "Whole table", "All metrics"]
    for term in ("main.flights, version 3, 400 rows", "main.flights, version 7, 400 rows", "models:/delay/3"):
        assert term in texts(driver, ".facts dd")
    click(driver, "#everything .more")
    rows = cells(driver, "#everything tbody tr")
    wanted = []
    for one in of.metrics_found:
        sign = "" if one.threshold is None else ">" if one.value > one.threshold else "<"
        threshold = "" if one.threshold is None else f"{sign} {findings.shown(one, one.threshold)}"
        value = ("▲" if one.breached else "") + findings.shown(one, one.value)
        wanted.append(
            [one.column or "", one.metric, value, threshold, one.slice or "", (one.window or "")[:10], one.note or ""]
        )
    assert rows == wanted


def test_columns_are_sorted_filtered_and_opened(driver: Any, tmp_path: Path) -> None:
    of = flights()
    opened(driver, of, tmp_path)
    worst = [one.column for one in findings.findings(of) if one.column]
    assert texts(driver, ".opener")[: len(worst)] == worst
    click(driver, ".columns thead button", "Column")
    assert texts(driver, ".opener") == sorted(of.columns)
    click(driver, ".columns thead button", "Column")
    assert texts(driver, ".opener") == sorted(of.columns, reverse=True)
    assert driver.execute_script(
        "return [...document.querySelectorAll('.columns th[aria-sort]')].map((one) => one.ariaSort)"
    ) == ["descending", "none", "none", "none", "none"]
    click(driver, ".columns thead button", "Importance")
    assert texts(driver, ".opener") == list(of.columns)
    fill(driver, "#columns select", "hellinger_distance", "change")
    shown = [one.value for one in of.metrics_found if one.metric == "hellinger_distance"]
    assert texts(driver, ".columns > tbody > tr > td:nth-child(5)") == [figures.number(value) for value in shown]
    fill(driver, "#columns input[type=search]", "FEATURE_1")
    assert texts(driver, ".opener") == ["feature_1", "feature_10", "feature_11"]
    assert texts(driver, "#columns [role=status]") == ["3 of 13 columns"]
    fill(driver, "#columns input[type=search]", "")
    click(driver, "#columns input[type=checkbox]")
    assert sorted(texts(driver, ".opener")) == sorted(worst)
    click(driver, ".findings a", worst[-1])
    assert driver.execute_script("return document.activeElement.textContent") == worst[-1]
    lines = texts(driver, ".detail figure + div tbody tr")
    both = [profile.columns[worst[-1]] for profile in (of.baseline, of.target)]
    for label, values in {
        "mean": [one.mean for one in both],
        "median": [one.histogram.quantile(0.5) for one in both],
        "greatest": [one.max for one in both],
    }.items():
        assert "\t".join([label, *map(figures.number, values)]) in lines
    assert browser.said(driver) == []


def test_histograms_and_heat_map_hold_the_reports_numbers(driver: Any, tmp_path: Path) -> None:
    of = flights()
    opened(driver, of, tmp_path)
    click(driver, ".findings a", "carrier") if "carrier" in texts(driver, ".findings a") else click(
        driver, ".opener", "carrier"
    )
    told = texts(driver, ".detail .bars .told")
    counts = [profile.columns["carrier"].frequencies for profile in (of.baseline, of.target)]
    labels = texts(driver, ".detail .bars .label")
    assert sorted(labels) == ["B6", "DL", "HA", "UA"]
    for label, text in zip(labels, told, strict=True):
        shares = [one.counts.get(label, 0) / 400 for one in counts if one is not None]
        assert text == " → ".join(map(figures.percent, shares))
    values = {one.column: one for one in of.metrics_found if one.window == "2026-01-01T00:00:00" and one.column}
    shown = [row[:2] for row in cells(driver, ".heat tbody tr")]
    assert shown == [[name, ("▲" if one.breached else "") + figures.number(one.value)] for name, one in values.items()]


def test_performance_shows_confusion_and_follows_the_choice(driver: Any, tmp_path: Path) -> None:
    of = flights()
    opened(driver, of, tmp_path)
    whole = of.outcomes[0].confusion.ravel().tolist()
    assert texts(driver, ".confusion tbody td") == [f"{count:,}" for count in whole]
    assert "ROC curve of the class true" in texts(driver, "#performance h3")
    counted = "4,012 rows, of which 4,000 have both a usable label and a usable prediction"
    assert f"{counted}; 12 have no usable label, 0 no usable prediction." in texts(driver, "#performance p")
    fill(driver, "#performance select", "1", "change")
    assert texts(driver, ".confusion tbody td") == [f"{count:,}" for count in of.outcomes[1].confusion.ravel().tolist()]
    errors = regression(1, shift=4.0)
    metrics = performance.measured(errors, Thresholds(None, performance.THRESHOLDS))
    opened(driver, report({}, metrics, outcomes=(errors,), baseline_outcome=regression(2)), tmp_path)
    medians = [one.residuals.quantile(0.5) for one in (regression(2), errors)]
    assert "\t".join(["median", *map(figures.number, medians)]) in texts(driver, "#performance tr")
    assert browser.printed(driver).startswith(b"%PDF")


def test_what_classes_without_probabilities_cant_tell_takes_one_line(driver: Any, tmp_path: Path) -> None:
    bare = [replace(outcome(1), scores=(), calibration=None, losses={}, slice=name) for name in (None, "AA", "UA")]
    metrics = [metric for one in bare for metric in performance.measured(one, Thresholds(None, performance.THRESHOLDS))]
    opened(driver, report({}, metrics, outcomes=bare, by="carrier"), tmp_path)
    told = ["accuracy", "precision", "recall", "F1"]
    assert texts(driver, "[aria-label=Performance] tbody th") == told
    assert texts(driver, "[aria-label=carrier] thead th") == ["carrier", *told]
    left_out = "ROC AUC, PR AUC, log loss, Brier score, calibration error"
    assert f"Not measured: {left_out} (classes are predicted, without probabilities)." in texts(
        driver, "#performance p"
    )


def test_names_and_values_are_only_ever_text(driver: Any, tmp_path: Path) -> None:
    values = np.array(HOSTILE[:-3] * 20)
    metrics = [
        metric("jensen_shannon_distance", 0.9, column=name, threshold=0.1, breached=True, note=name, slice=name)
        for name in HOSTILE
    ]
    metrics += [replace(one, slice=None) for one in metrics]
    hostile = HOSTILE[0]
    of = report(
        dict.fromkeys(HOSTILE, (values, values[:40])),
        metrics,
        baseline_name=hostile,
        model=hostile,
        outcomes=(replace(outcome(1), classes=(hostile, "2"), slice=hostile),),
    )
    opened(driver, of, tmp_path)
    assert hostile in texts(driver, ".opener")
    assert "broken" not in driver.title
    assert driver.execute_script("return document.images.length + document.querySelectorAll('b').length") == 0
    assert len(texts(driver, ".opener")) == len(HOSTILE)
    assert not [tag for tag in ("<img", "<b>") if tag in of._repr_html_()]
    for opener in driver.execute_script("return [...document.querySelectorAll('.opener')].map((one) => one.click())"):
        assert opener is None
    assert hostile in texts(driver, ".detail .label")
    assert browser.said(driver) == []


def test_five_hundred_columns_fit_on_a_phone_and_in_the_dark(driver: Any, tmp_path: Path) -> None:
    drawn = np.random.default_rng(3)
    values = {
        f"a_rather_long_name_of_a_column_{at:03d}": (drawn.normal(size=90), drawn.normal(size=90)) for at in range(500)
    }
    metrics = [
        metric(name, float(value), column=column, threshold=0.6, breached=bool(value > 0.6), window=window)
        for column in values
        for window in (None, *(f"2026-{month:02d}-01" for month in range(1, 13)))
        for name, value in (("jensen_shannon_distance", drawn.random()), ("population_stability_index", drawn.random()))
    ]
    of = report(values, metrics)
    page = of.to_html()
    assert page is not None
    assert len(page.encode()) < 5e6
    opened(driver, of, tmp_path, width=320, dark=True)
    assert len(texts(driver, ".opener")) == 500
    click(driver, ".opener")
    assert driver.execute_script("return document.documentElement.scrollWidth") == 320
    grounds = "return getComputedStyle(document.body).backgroundColor"
    dark = driver.execute_script(grounds)
    opened(driver, of, tmp_path)
    assert driver.execute_script(grounds) != dark
    assert driver.execute_script("return document.documentElement.scrollWidth") == 1280


@pytest.mark.parametrize("values", [(), (1.0,), (0.0, -1e308, 1e308), (float(2**60), 5e-324)], ids=str)
def test_few_and_extreme_numbers_are_drawn(driver: Any, tmp_path: Path, values: tuple[float, ...]) -> None:
    infinite = metric("normalized_wasserstein_distance", float("inf"), column="x", threshold=0.1, breached=True)
    of = report(
        {"x": (values, (*values, 3.0)), "all null": ((), ())}, [infinite, metric("psi", float("nan"), note="why")]
    )
    opened(driver, of, tmp_path)
    for _ in range(2):
        click(driver, ".opener[aria-expanded=false]")
    assert browser.said(driver) == []
    assert texts(driver, "#columns .held .number")[0] == "∞"


def test_a_report_of_nothing_says_so(driver: Any, tmp_path: Path) -> None:
    opened(driver, report({}), tmp_path)
    assert texts(driver, "h1") == ["Nothing was held against a threshold, of 0 columns"]
