"""Runs at once with a thread each: when they come, that their bits are the same, and what they leave alone."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastsam_deploy.runtime import FastSAM
from fastsam_deploy.runtime.engines.onnxruntime.host import OnnxRuntimeNetwork
from fastsam_deploy.runtime.engines.onnxruntime.sessions import MOST_SINGLE, WORTH_OPENING, Sessions
from fastsam_deploy.runtime.settings import EngineSettings
from tests.processes import FORKED, run_program

OUTPUTS = ("output0", "output1")
FEED = {"images": np.random.default_rng(0).random((1, 3, 96, 160), np.float32)}


@pytest.fixture
def network(demo_onnx: Path, tmp_path: Path) -> Iterator[OnnxRuntimeNetwork]:
    with OnnxRuntimeNetwork(Path(shutil.copy(demo_onnx, tmp_path)), EngineSettings(threads=2)) as network:
        yield network


def _threads(network: OnnxRuntimeNetwork, runs: int = 1) -> list[int]:
    """Threads of the sessions that so many runs at once are lent."""
    with ExitStack() as stack:
        lent = [stack.enter_context(network._sessions.lend())[0] for _ in range(runs)]
        return [session.get_session_options().intra_op_num_threads for session in lent]


def test_runs_at_once_have_a_thread_each_once_it_is_worth_opening(network: OnnxRuntimeNetwork) -> None:
    assert network.description["streams"] == 2
    assert [_threads(network, 2) for _ in range(WORTH_OPENING - 1)] == [[2, 2]] * (WORTH_OPENING - 1)
    assert _threads(network, 2) == [2, 1], "the run that finds another under way"
    assert _threads(network) == [2], "a run alone has all threads"
    assert _threads(network, 3) == [2, 1, 1]


def test_a_run_that_fails_is_over(network: OnnxRuntimeNetwork) -> None:
    for _ in range(WORTH_OPENING + 1):
        with pytest.raises(Exception, match="images"):
            network.run({}, OUTPUTS)
    assert _threads(network) == [2] and network._sessions._single is None


def test_both_sessions_give_the_same_bits(network: OnnxRuntimeNetwork) -> None:
    alone = network.run(FEED, OUTPUTS)
    with network._sessions.lend():
        for _ in range(WORTH_OPENING + 1):
            beside = network.run(FEED, OUTPUTS)
            assert all(np.array_equal(a, b) for a, b in zip(alone, beside, strict=True))
    assert network._sessions._single is not None


@pytest.mark.parametrize("threads", [1, MOST_SINGLE + 1])
def test_one_thread_or_many_have_one_session(demo_onnx: Path, threads: int) -> None:
    with OnnxRuntimeNetwork(demo_onnx, EngineSettings(threads=threads)) as network:
        assert network.description["streams"] == min(threads, 2)
        for _ in range(WORTH_OPENING + 1):
            assert set(_threads(network, threads)) == {threads}


@pytest.mark.parametrize("change", ["gone", "another"])
def test_a_file_that_has_changed_is_not_opened_again(network: OnnxRuntimeNetwork, tmp_path: Path, change: str) -> None:
    file = tmp_path / network.name
    file.unlink() if change == "gone" else file.write_bytes(file.read_bytes() + b"\xf2\x3f\x01x")
    for _ in range(WORTH_OPENING + 1):
        assert _threads(network, 2) == [2, 2]
    assert network.run(FEED, OUTPUTS)[0].shape[1] == 37


def test_a_closed_network_opens_nothing(network: OnnxRuntimeNetwork) -> None:
    sessions: Sessions = network._sessions
    for _ in range(WORTH_OPENING):
        _threads(network, 2)
    network.close()
    with sessions.lend() as (shared, _), sessions.lend() as (single, _):
        assert shared is None and single is None


@pytest.mark.parametrize("way", ["stream", "batch"])
def test_a_stream_and_a_batch_give_what_a_loop_gives(demo_onnx: Path, coffee: Path, cat: Path, way: str) -> None:
    images = [coffee, cat] * (WORTH_OPENING + 2)
    with FastSAM(demo_onnx, threads=2, imgsz=192, conf=0.05) as model:
        looped = [model.segment(image) for image in images[:2]]
        if way == "stream":
            results = [item.result() for item in model.segment_stream(images)]
        else:
            results = model.segment_batch(images)
        sessions: Any = model._segmenter.engine._network._network._sessions  # type: ignore[attr-defined]
        assert sessions._full_runs >= WORTH_OPENING and sessions._single is not None
    for i, segments in enumerate(results):
        expected = looped[i % 2]
        assert segments.masks == expected.masks and len(segments), f"image {i}"
        np.testing.assert_array_equal(segments.scores, expected.scores)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_forked_child_has_sessions_of_its_own(tmp_path: Path) -> None:
    code = """
from fastsam_deploy.runtime import FastSAM
from fastsam_deploy.runtime.engines.onnxruntime.sessions import WORTH_OPENING
images = ["examples/images/cat.jpg"] * 2 * WORTH_OPENING
def answers(model):
    return [item.result().boxes_xyxy.tolist() for item in model.segment_stream(images)]
model = FastSAM(engine="onnxruntime", threads=2, imgsz=160, conf=0.05)
wanted = answers(model)
sessions = model._segmenter.engine._network._network._sessions
def work():
    assert sessions._running == 0 and sessions._single._value is None, "the parent's"
    assert answers(model) == wanted and wanted[0]
    print(sessions._single._value is not None, flush=True)
with sessions.lend():  # a run is under way in the parent
    print(forked(work), answers(model) == wanted)
"""
    assert run_program(tmp_path, FORKED + code) == "True\n0 True\n"
