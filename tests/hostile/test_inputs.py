"""A sample of the campaign of every night, and all inputs that once failed."""

from __future__ import annotations

import random
from datetime import date

import pytest

from tests.hostile import campaign
from tests.hostile.boundaries import BOUNDARIES
from tests.hostile.jobs import corpus_jobs, damage_jobs
from tests.hostile.mutations import damaged

pytestmark = pytest.mark.skipif(not hasattr(__import__("os"), "fork"), reason="needs limits of Linux")

SAMPLE = 4000


def said(outcomes: dict[str, campaign.Outcome]) -> str:
    """One line for each fault, with the beginning of the input."""
    return "\n".join(
        f"{name}: {fault}: {content[:60]!r}" for name, outcome in outcomes.items() for content, fault in outcome.faults
    )


def test_whatever_once_failed_is_an_error_of_ours() -> None:
    outcomes = campaign.run(corpus_jobs())
    assert sum(outcome.cases for outcome in outcomes.values()) > 10
    assert not said(outcomes), said(outcomes)


def test_damaged_inputs_are_errors_of_ours() -> None:
    """Other inputs each day, the same ones on one day."""
    seed = date.today().toordinal()
    outcomes = campaign.run(damage_jobs(list(BOUNDARIES), SAMPLE, seed))
    assert sum(outcome.cases for outcome in outcomes.values()) >= SAMPLE - len(BOUNDARIES)
    assert not said(outcomes), f"seed {seed}\n{said(outcomes)}"


def test_an_input_has_a_number_and_is_the_same_everywhere() -> None:
    boundary = BOUNDARIES["image-png"]
    cases = [boundary.case(1, index) for index in range(200)]
    assert cases == [boundary.case(1, index) for index in range(200)]
    assert len({*cases, *boundary.seeds}) > 180
    assert boundary.case(2, 0) != cases[0]


def test_damage_takes_what_is_empty() -> None:
    for number in range(300):
        damaged([b"", b"x"], random.Random(number), text=bool(number % 2))
