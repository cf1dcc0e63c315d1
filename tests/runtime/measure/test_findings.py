"""One figure and its limit; the worst of many."""

from __future__ import annotations

import doctest
import json

import pytest

from fastsam_deploy.runtime.measure import findings as module
from fastsam_deploy.runtime.measure import gate
from fastsam_deploy.runtime.measure.findings import Comparison, Finding, failures

NAN = float("nan")


@pytest.mark.parametrize(
    ("worst", "limit", "more_is_better", "passed"),
    [
        (0.05, 0.05, False, True),
        (0.0501, 0.05, False, False),
        (0.95, 0.95, True, True),
        (0.9499, 0.95, True, False),
        (NAN, 1e9, False, False),
        (NAN, 0, True, False),
        (0, NAN, False, False),
    ],
)
def test_a_value_passes_up_to_its_limit_and_nan_never(
    worst: float, limit: float, more_is_better: bool, passed: bool
) -> None:
    finding = Finding("x", worst, limit, more_is_better=more_is_better)
    assert finding.passed is passed
    assert failures([finding]) == ([] if passed else [str(finding)])


def test_a_value_that_misses_its_limit_never_looks_like_it() -> None:
    assert str(Finding("IoU", 0.99999, 1, more_is_better=True)) == "IoU is 0.99999, expected at least 1"
    assert Finding("scores", 0.0001000004, 1e-4).cells()[1] == "0.0001000004"
    assert Finding("IoU", 1, 1, more_is_better=True).cells() == ("IoU", "1", "≥ 1", "")


def test_the_worst_of_each_quantity_is_kept_with_its_place() -> None:
    comparison = Comparison()
    for value, at in ((1.0, "a"), (3.0, "b"), (3.0, "c"), (2.0, "d")):
        comparison.add("off", value, at)
        comparison.add("like", value, at, more_is_better=True)
    off, like = comparison.findings({"off": 2, "never compared": 0, "like": 1})
    assert (off.worst, off.at, off.passed) == (3, "b", False)
    assert (like.worst, like.at, like.passed) == (1, "a", True)
    assert comparison.findings({"off": None}) == (), "None is not looked at"


@pytest.mark.parametrize("values", [(NAN, 1.0, 2.0), (1.0, NAN, 2.0), (1.0, 2.0, NAN)])
@pytest.mark.parametrize("more_is_better", [False, True])
def test_a_nan_stays_the_worst_whatever_comes_after(values: tuple[float, ...], more_is_better: bool) -> None:
    comparison = Comparison()
    for i, value in enumerate(values):
        comparison.add("x", value, f"input {i}", more_is_better=more_is_better)
    (finding,) = comparison.findings({"x": 5.0 if not more_is_better else 0.0})
    assert not finding.passed and finding.at == f"input {values.index(NAN)}"


def test_faults_and_failures_come_together() -> None:
    comparison = Comparison(["x is 2-d, expected 3-d"])
    comparison.add("y", 2, "input 1")
    assert comparison.failures({"y": 3}) == ["x is 2-d, expected 3-d"]
    assert comparison.failures({"y": 1}) == ["x is 2-d, expected 3-d", "y 2 at input 1, expected at most 1"]


def test_json_has_the_keys_of_the_reports() -> None:
    written = Finding("recall", 0.9, 0.95, more_is_better=True).to_json()
    assert json.loads(json.dumps(written)) == {"what": "recall", "found": 0.9, "limit": 0.95, "passed": False}
    assert Finding("scores", 1, 2, "input 3").to_json()["at"] == "input 3"


@pytest.mark.parametrize("tried", [module, gate], ids=["findings", "gate"])
def test_the_examples_run(tried: object) -> None:
    done = doctest.testmod(tried)  # type: ignore[arg-type]
    assert done.attempted > 0 and done.failed == 0
