"""What a worker asks a cluster for."""

from __future__ import annotations

from typing import Any

import pytest

from fastsam_deploy.runtime.batch.parts.execution.cluster.settings import LOCAL, ClusterSettings
from fastsam_deploy.runtime.errors import ParameterError


@pytest.mark.parametrize(
    ("settings", "cluster", "workers"),
    [
        ({}, {"CPU": 16.0}, 16),
        ({"cpus": 3}, {"CPU": 16.0}, 5),
        ({"gpus": 0.25}, {"CPU": 16.0, "GPU": 2.0}, 8),
        ({"gpus": 1}, {"CPU": 16.0}, 1),
        ({"memory": 4 << 30}, {"CPU": 16.0, "memory": 9.0 * (1 << 30)}, 2),
        ({}, {}, 1),
    ],
)
def test_as_many_workers_as_have_a_place(settings: dict[str, Any], cluster: dict[str, float], workers: int) -> None:
    assert ClusterSettings("auto", **settings).places(cluster) == workers


def test_a_tenth_of_a_gpu_fits_ten_times() -> None:
    assert ClusterSettings("auto", gpus=0.1).places({"CPU": 64.0, "GPU": 1.0}) == 10


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"address": " "}, "address"),
        ({"least": 3, "most": 2}, "3 to 2"),
        ({"most": 0}, "1 to"),
        ({"cpus": 0}, "cpus"),
        ({"gpus": 1.5}, "fraction"),
        ({"gpus": -1.0}, "gpus"),
        ({"memory": 0}, "memory"),
        ({"cpus": 4096, "address": LOCAL}, "this machine has"),
    ],
)
def test_settings_are_checked(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ParameterError, match=message):
        ClusterSettings(**settings)
