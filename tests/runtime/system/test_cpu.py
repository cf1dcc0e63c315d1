"""How many processors a container may use: the affinity, and the limits of every control group above."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from fastsam_deploy.runtime.system import cpu as processors

V2 = ("26 25 0:23 / {mount} rw,nosuid - cgroup2 cgroup2 rw\n", "0::{path}\n")
V1 = (
    "33 31 0:30 / {mount} rw,relatime shared:9 - cgroup cgroup rw,cpu,cpuacct\n"
    "34 31 0:31 / /elsewhere rw - cgroup cgroup rw,cpuset\n",
    "9:name=systemd:/\n3:cpuset:/\n2:cpu,cpuacct:{path}\n",
)


class Machine:
    """A /proc/self and a tree of control groups, as files."""

    def __init__(self, top: Path, layout: tuple[str, str], path: str, root: str = "/") -> None:
        self.mount, self.process = top / "cgroup", top / "self"
        self.process.mkdir()
        mountinfo = (
            layout[0].format(mount=self.mount).replace("0:23 /", f"0:23 {root}").replace("0:30 /", f"0:30 {root}")
        )
        (self.process / "mountinfo").write_text("22 1 8:1 / / rw - ext4 /dev/vda rw\n" + mountinfo)
        (self.process / "cgroup").write_text(layout[1].format(path=path))

    def limit(self, group: str, **files: str) -> None:
        folder = self.mount / group
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in files.items():
            (folder / name.replace("_", ".", 1)).write_text(text + "\n")


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def make(layout: tuple[str, str], path: str, root: str = "/") -> Machine:
        made = Machine(tmp_path, layout, path, root)
        monkeypatch.setattr(processors, "_SELF", made.process)
        return made

    return make


def test_the_lowest_limit_above_a_unit_counts(machine) -> None:
    """`CPUQuota=` of a systemd unit stands in the unit's own folder, not in the one that is mounted."""
    tree = machine(V2, "/app.slice/web.service")
    tree.limit("app.slice/web.service", cpu_max="max 100000")
    assert processors.cgroup_cpus() is None
    tree.limit("app.slice/web.service", cpu_max="350000 100000")
    assert processors.cgroup_cpus() == 4
    tree.limit("app.slice", cpu_max="150000 100000")
    assert processors.cgroup_cpus() == 2
    tree.limit("other.slice", cpu_max="50000 100000")
    assert processors.cgroup_cpus() == 2, "a group that this process is not in"


@pytest.mark.parametrize(
    ("path", "root"),
    [
        pytest.param("/", "/", id="a namespace of its own"),
        pytest.param("/docker/abc", "/docker/abc", id="the mount is the container's group"),
        pytest.param("/docker/abc", "/", id="the host's path, which is not to be seen here"),
        pytest.param("/../..", "/", id="a group outside of the namespace"),
    ],
)
@pytest.mark.parametrize("version", ["v1", "v2"])
def test_a_container(machine, version: str, path: str, root: str) -> None:
    tree = machine(V2 if version == "v2" else V1, path, root)
    if version == "v2":
        tree.limit(".", cpu_max="250000 100000")
    else:
        tree.limit(".", cpu_cfs_quota_us="250000", cpu_cfs_period_us="100000")
    assert processors.cgroup_cpus() == 3


def test_no_limit_in_version_1(machine) -> None:
    machine(V1, "/a").limit("a", cpu_cfs_quota_us="-1", cpu_cfs_period_us="100000")
    assert processors.cgroup_cpus() is None


@pytest.mark.parametrize("text", ["", "no number", "100000", "100000 0"])
def test_a_file_that_makes_no_sense_is_no_limit(machine, text: str) -> None:
    machine(V2, "/").limit(".", cpu_max=text)
    assert processors.cgroup_cpus() is None


def test_elsewhere_than_on_linux(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(processors, "_SELF", tmp_path / "none")
    monkeypatch.setattr(processors, "_CPUINFO", tmp_path / "none")
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    assert processors.usable_cpus() == (os.cpu_count() or 1)
    name, flags = processors.name_and_flags()
    assert name and not flags


def test_the_lower_of_affinity_and_limit_counts(machine, monkeypatch: pytest.MonkeyPatch) -> None:
    tree = machine(V2, "/")
    tree.limit(".", cpu_max="150000 100000")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    assert processors.usable_cpus() == 2
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {3}, raising=False)
    assert processors.usable_cpus() == 1


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="no affinity on this system")
def test_the_affinity_of_this_process_is_asked() -> None:
    before = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(before)})
        assert processors.usable_cpus() == 1
    finally:
        os.sched_setaffinity(0, before)
    assert 1 <= processors.usable_cpus() <= len(before)


def test_name_and_flags(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    info = tmp_path / "cpuinfo"
    info.write_text("model name\t: Xeon 8480\nflags\t\t: fpu avx2 amx_bf16\n\nmodel name\t: Xeon 8480\n")
    monkeypatch.setattr(processors, "_CPUINFO", info)
    assert processors.name_and_flags() == ("Xeon 8480", frozenset({"fpu", "avx2", "amx_bf16"}))
