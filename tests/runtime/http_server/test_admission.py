"""Who may wait, and for how long."""

from __future__ import annotations

import threading

import pytest

from fastsam_deploy.runtime.http_server.admission import Admission, Deadline, Slots
from fastsam_deploy.runtime.http_server.refusals import BusyError, LateError


def test_a_time_that_is_over_is_an_error_and_so_is_a_client_that_has_gone():
    with pytest.raises(LateError, match=r"no answer within 0 s; .*--timeout"):
        Deadline(0).left_s()
    deadline = Deadline(60)
    assert 0 < deadline.left_s() <= 60 and not deadline.is_over
    deadline.abandon()
    assert deadline.is_over
    with pytest.raises(LateError, match="the client has closed the connection"):
        deadline.left_s()


def test_no_more_than_allowed_are_inside_and_a_place_is_free_again_after_an_error():
    admission = Admission(2)
    with admission.entered(), admission.entered():
        with pytest.raises(BusyError, match=r"2 requests are waiting, the server takes 2 at once; send it again"):
            admission.entered().__enter__()
        assert admission.inside == 2
    with pytest.raises(ZeroDivisionError), admission.entered():
        raise ZeroDivisionError
    assert admission.inside == 0


def test_whoever_finds_no_slot_waits_for_one_or_for_the_end_of_its_time():
    slots = Slots(1)
    with slots.taken(Deadline(60)), pytest.raises(LateError):
        slots.taken(Deadline(0.01)).__enter__()
    entered = threading.Event()

    def enter() -> None:
        with slots.taken(Deadline(60)):
            entered.set()

    thread = threading.Thread(target=enter)
    with slots.taken(Deadline(60)):
        thread.start()
        assert not entered.is_set()
    thread.join(60)
    assert entered.is_set()
