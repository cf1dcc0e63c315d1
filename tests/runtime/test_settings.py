"""Settings are checked when they are made, and handed on as they are."""

from __future__ import annotations

from dataclasses import FrozenInstanceError
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastsam_deploy.runtime import DeviceError, FastSAM, FastSamError, ParameterError
from fastsam_deploy.runtime.settings import EngineSettings, Thresholds, refuse_settings


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"device": "tpu"}, DeviceError, "device is 'tpu', expected 'cpu', 'cuda' or 'cuda:N'"),
        ({"device": "cuda:"}, DeviceError, "device is 'cuda:'"),
        ({"device": "cuda:-1"}, DeviceError, "device is 'cuda:-1'"),
        ({"device": "cpu:0"}, DeviceError, "device is 'cpu:0'"),
        ({"device": 0}, DeviceError, "device is 0"),
        ({"threads": 0}, ParameterError, "threads is 0, expected a whole number from 1 to 4096"),
        ({"threads": 10**9}, ParameterError, "threads is 1000000000"),
        ({"threads": 1.5}, ParameterError, "threads is 1.5"),
        ({"threads": True}, ParameterError, "threads is True"),
        ({"threads": "2"}, ParameterError, "threads is 2"),
        ({"engine": 1}, ParameterError, "engine is 1"),
        ({"precision": 16}, ParameterError, "precision is 16"),
        ({"hint": "x"}, ParameterError, "hint is 'x', expected one of latency, throughput"),
        ({"search": "x"}, ParameterError, "search is 'x', expected one of heuristic, exhaustive"),
        ({"cache": 1}, ParameterError, "cache is 1"),
        ({"cache": b"folder"}, ParameterError, "cache is b'folder'"),
        ({"cache": ""}, ParameterError, "cache is ''"),
        ({"cache": None}, ParameterError, "cache is None"),
    ],
    ids=str,
)
def test_settings_that_cannot_be_are_refused_at_birth(
    settings: dict[str, Any], error: type[FastSamError], message: str
) -> None:
    with pytest.raises(error, match=message):
        EngineSettings(**settings)
    with pytest.raises(error, match=message):
        FastSAM(**settings)


def test_settings_are_a_value() -> None:
    settings = EngineSettings("cuda:0", threads=np.int64(2), cache=Path("folder"))
    assert settings == EngineSettings("cuda:0", 2, cache=Path("folder")) and type(settings.threads) is int
    assert settings.given() == {"device": "cuda:0", "threads": 2, "cache": Path("folder")}
    assert EngineSettings().given() == {}
    with pytest.raises(FrozenInstanceError):
        settings.device = "cpu"  # type: ignore[misc]


def test_an_engine_names_what_it_does_not_have() -> None:
    settings = EngineSettings(threads=2, precision="fp32", cache=True)
    refuse_settings(settings, "m.onnx", "", {"threads", "precision", "cache"})
    with pytest.raises(ParameterError, match="threads is 2, cache is True; no room: leave threads, cache out"):
        refuse_settings(settings, "m.onnx", "no room:", {"precision"})


@pytest.mark.parametrize(
    ("thresholds", "message"),
    [
        ({"conf": 1}, "conf is 1"),
        ({"conf": float("nan")}, "conf is nan"),
        ({"iou": 0}, "iou is 0"),
        ({"max_det": 0}, "max_det is 0"),
        ({"max_det": 1.5}, "max_det is 1.5"),
        ({"max_det": float("inf")}, "max_det is inf"),
    ],
    ids=str,
)
def test_thresholds_are_checked_at_birth(thresholds: dict[str, float], message: str) -> None:
    with pytest.raises(ParameterError, match=message):
        Thresholds(**thresholds)  # type: ignore[arg-type]
