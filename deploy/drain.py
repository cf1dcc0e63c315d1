"""Runs tritonserver, and lets requests that are under way finish before it is stopped.

    python3 drain.py tritonserver --model-repository=/models …

Triton finishes on SIGTERM what its models compute, but an ensemble's next step is refused by then: of 24 gRPC requests
under way to `fastsam`, 21 to 23 got UNAVAILABLE. So the signal stops here. Requests are served as before until Triton's
metrics show none under way, then Triton gets its SIGTERM.

    FASTSAM_DRAIN_S   longest wait, 20 s unless set: as long as a request may wait in a queue, and twice. 0: none.

A second signal ends the wait. The exit status is tritonserver's.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass
from time import monotonic

_LONGEST_WAIT_S = 20.0
_EVERY_S = 0.1
_METRICS_PORT = "8002"
_LINE = re.compile(r'^(nv_inference_\w+)\{model="([^"]*)".*\} (\S+)$', re.MULTILINE)
_FINISHED = ("nv_inference_request_success", "nv_inference_request_failure", "nv_inference_exec_count")
_PENDING = "nv_inference_pending_request_count"
_COMPUTING_US = "nv_inference_compute_infer_duration_us"


@dataclass(frozen=True)
class Activity:
    """What Triton's metrics tell of the requests under way; those that a model computes just now are in none of them.

    Attributes:
        pending: requests in the queues of models.
        finished: requests and executions since the start, of all models.
        quiet_s: after so long without a change nothing is being computed: twice the mean of the slowest model, and 1 s.
    """

    pending: float
    finished: float
    quiet_s: float


def activity_from_metrics(text: str) -> Activity:
    """Read what Prometheus would read.

    >>> activity_from_metrics('nv_inference_pending_request_count{model="fastsam_engine",version="1"} 3').pending
    3.0
    """
    lines = [(name, model, float(value)) for name, model, value in _LINE.findall(text)]
    computing_s = dict.fromkeys((model for _, model, _ in lines), 0.0)
    count = dict.fromkeys(computing_s, 0.0)
    for name, model, value in lines:
        if name == _COMPUTING_US:
            computing_s[model] += value / 1e6
        elif name == _FINISHED[0]:
            count[model] += value
    slowest_s = max((computing_s[model] / max(1.0, count[model]) for model in count), default=0.0)
    return Activity(
        sum(value for name, _, value in lines if name == _PENDING),
        sum(value for name, _, value in lines if name in _FINISHED),
        1 + 2 * slowest_s,
    )


class Signals:
    """SIGTERM and SIGINT of this process: the first asks for an end in order, the second for one at once."""

    def __init__(self) -> None:
        self.asked = threading.Event()
        self.at_once = threading.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._arrived)

    def _arrived(self, *_: object) -> None:
        (self.at_once if self.asked.is_set() else self.asked).set()


def wait_until_idle(metrics: str, longest_s: float, server: subprocess.Popen[bytes], signals: Signals) -> str:
    """Wait while requests are under way.

    Args:
        metrics: URL of the server's metrics.

    Returns:
        Why the wait is over.
    """
    # Whatever proxy the environment names, this is the host itself.
    ask = urllib.request.build_opener(urllib.request.ProxyHandler({})).open
    begin = quiet_since = monotonic()
    finished = -1.0
    while monotonic() - begin < longest_s:
        try:
            with ask(metrics, timeout=5) as answer:
                activity = activity_from_metrics(answer.read().decode())
        except (OSError, ValueError) as error:
            return f"{metrics} does not say what is under way ({error})"
        if activity.pending or activity.finished != finished:
            finished, quiet_since = activity.finished, monotonic()
        elif monotonic() - quiet_since >= activity.quiet_s:
            return "no request is under way"
        if signals.at_once.wait(_EVERY_S):
            return "a second signal"
        if server.poll() is not None:
            return "the server has ended"
    return f"requests are still under way after {longest_s:g} s"


def _option(command: Sequence[str], name: str, default: str) -> str:
    """Value of a flag, written as `--name=value` or `--name value`; the last one counts, as for Triton."""
    found = default
    for word, following in zip(command, [*command[1:], ""], strict=True):
        if word.partition("=")[0] == name:
            found = word.partition("=")[2] or following
    return found


def _say(what: str) -> None:
    sys.stderr.write(f"drain: {what}\n")


def main(command: Sequence[str]) -> int:
    """Run the command until it ends or a signal asks for its end."""
    text = os.environ.pop("FASTSAM_DRAIN_S", "") or str(_LONGEST_WAIT_S)
    try:
        longest_s = float(text)
    except ValueError:
        longest_s = -1.0
    if not 0 <= longest_s < float("inf") or not command:
        _say(f"FASTSAM_DRAIN_S is {text!r}, expected seconds; and a command to run")
        return 2
    address = _option(command, "--metrics-address", "127.0.0.1").replace("0.0.0.0", "127.0.0.1")
    metrics = f"http://{address}:{_option(command, '--metrics-port', _METRICS_PORT)}/metrics"
    signals = Signals()
    # A group of its own: Ctrl-C in a terminal reaches all of a group, and would stop the server past us.
    server = subprocess.Popen(command, start_new_session=True)
    while server.poll() is None and not signals.asked.wait(_EVERY_S):
        pass
    if server.poll() is None:
        _say(f"requests under way are finished, {longest_s:g} s at most")
        reason = wait_until_idle(metrics, longest_s, server, signals)
        _say(f"{reason}; the server is stopped")
        server.terminate()
    code = server.wait()
    return code if code >= 0 else 128 - code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
