"""The RayJob: schemas, what it says to its pods, and whether `fastsam` knows the command that it runs."""

from __future__ import annotations

import copy
import json
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

jsonschema = pytest.importorskip("jsonschema", reason="needs the extra [dev]")
kubernetes_validate = pytest.importorskip("kubernetes_validate", reason="needs the extra [dev]")
yaml = pytest.importorskip("yaml", reason="needs the extra [dev]")

ROOT = Path(__file__).resolve().parents[2]
HERE = Path(__file__).parent
FOLDER = ROOT / "deploy/ray"
VERSIONS = ["1.29", "1.36"]
LABEL = {"app.kubernetes.io/name": "fastsam-batch"}


def schema_of(name: str, kind: str) -> dict[str, Any]:
    definitions = json.loads((HERE / f"{name}.schema.json").read_text(encoding="utf-8"))["$defs"]
    return {"$defs": definitions, "$ref": f"#/$defs/{kind}"}


@pytest.fixture
def objects() -> dict[str, dict[str, Any]]:
    documents = yaml.safe_load_all((FOLDER / "rayjob.yaml").read_text(encoding="utf-8"))
    return {document["kind"]: document for document in documents}


@pytest.fixture
def job(objects: dict[str, dict[str, Any]]) -> dict[str, Any]:
    spec: dict[str, Any] = objects["RayJob"]["spec"]
    return spec


def templates(job: dict[str, Any]) -> list[dict[str, Any]]:
    cluster = job["rayClusterSpec"]
    groups = [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]
    return [job["submitterPodTemplate"], *(group["template"] for group in groups)]


def check(objects: dict[str, dict[str, Any]], version: str) -> None:
    jsonschema.Draft202012Validator(schema_of("kuberay", "RayJob")).validate(objects["RayJob"])
    jsonschema.Draft202012Validator(schema_of("prometheus_operator", "PodMonitor")).validate(objects["PodMonitor"])
    kubernetes_validate.validate(objects["NetworkPolicy"], version, strict=True)
    for template in templates(objects["RayJob"]["spec"]):
        pod = {"apiVersion": "v1", "kind": "PodTemplate", "metadata": {"name": "pod"}, "template": template}
        kubernetes_validate.validate(pod, version, strict=True)


@pytest.mark.parametrize("version", VERSIONS)
def test_every_object_fits_its_schema(objects: dict[str, dict[str, Any]], version: str) -> None:
    assert set(objects) == {"RayJob", "NetworkPolicy", "PodMonitor"}
    check(objects, version)


@pytest.mark.parametrize("place", ["job", "cluster", "worker", "pod", "container"])
def test_a_misspelt_field_is_found(objects: dict[str, dict[str, Any]], place: str) -> None:
    broken = copy.deepcopy(objects)
    spec = broken["RayJob"]["spec"]
    worker = spec["rayClusterSpec"]["workerGroupSpecs"][0]
    pod = worker["template"]["spec"]
    places = {"job": spec, "cluster": spec["rayClusterSpec"], "worker": worker, "pod": pod}
    {**places, "container": pod["containers"][0]}[place]["replicsa"] = 2
    with pytest.raises((kubernetes_validate.ValidationError, jsonschema.ValidationError)):
        check(broken, VERSIONS[0])


def test_the_pods_meet_the_level_restricted(job: dict[str, Any]) -> None:
    """https://kubernetes.io/docs/concepts/security/pod-security-standards/"""
    for template in templates(job):
        spec = template["spec"]
        assert spec["securityContext"]["runAsNonRoot"] is True
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert not {"hostNetwork", "hostPID", "hostIPC"} & set(spec)
        for container in spec["containers"]:
            context = container["securityContext"]
            assert context == {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
            assert container["resources"]["limits"]["memory"] == container["resources"]["requests"]["memory"]


def test_the_policy_and_the_monitor_find_all_pods(objects: dict[str, dict[str, Any]], job: dict[str, Any]) -> None:
    assert objects["NetworkPolicy"]["spec"]["podSelector"]["matchLabels"] == LABEL
    assert objects["PodMonitor"]["spec"]["selector"]["matchLabels"] == LABEL
    assert [template["metadata"]["labels"] for template in templates(job)] == [LABEL] * 3
    ports = [{port["name"] for port in t["spec"]["containers"][0]["ports"]} for t in templates(job)[1:]]
    assert all("metrics" in names for names in ports)


def test_all_pods_have_one_image_and_report_nothing(job: dict[str, Any]) -> None:
    containers = [container for template in templates(job) for container in template["spec"]["containers"]]
    assert len({container["image"] for container in containers}) == 1
    for container in containers[1:]:
        assert {"name": "RAY_USAGE_STATS_ENABLED", "value": "0"} in container["env"]


def test_the_version_of_ray_is_that_of_the_image_and_of_the_extra(job: dict[str, Any]) -> None:
    version = job["rayClusterSpec"]["rayVersion"]
    assert f"ARG RAY_VERSION={version}\n" in (FOLDER / "Dockerfile").read_text(encoding="utf-8")
    least = re.search(r'^ray = \["ray\[data,default\]>=([\d.]+)"\]', (ROOT / "pyproject.toml").read_text("utf-8"), re.M)
    assert least is not None and version.startswith(least[1])


def test_fastsam_knows_the_command(job: dict[str, Any]) -> None:
    import typer

    from fastsam_deploy.runtime.cli.main import app

    program, *arguments = shlex.split(job["entrypoint"])
    assert program == "fastsam"
    group: Any = typer.main.get_command(app)
    command = group.commands[arguments[0]].commands["run"]
    values = command.make_context("run", arguments[1:]).params
    assert values["ray"] == "auto"
    # As many workers as the machines of the group have processors for.
    group_spec = job["rayClusterSpec"]["workerGroupSpecs"][0]
    cpus = int(group_spec["template"]["spec"]["containers"][0]["resources"]["requests"]["cpu"])
    assert values["workers"] == group_spec["maxReplicas"] * cpus // values["threads"]


def test_the_dockerfile_passes_the_linter() -> None:
    linter = Path(sys.executable).parent / "hadolint"
    if not linter.exists():
        pytest.skip("hadolint is not installed here; the extra [dev] brings it where it has a wheel")
    done = subprocess.run([linter, FOLDER / "Dockerfile"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")
