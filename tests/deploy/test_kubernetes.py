"""The manifests: schemas, and what they say to each other."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

jsonschema = pytest.importorskip("jsonschema", reason="needs the extra [dev]")
kubernetes_validate = pytest.importorskip("kubernetes_validate", reason="needs the extra [dev]")
yaml = pytest.importorskip("yaml", reason="needs the extra [dev]")

FOLDER = Path(__file__).resolve().parents[2] / "deploy/kubernetes"
# The oldest one that has all we use, and one of today; the schemas come with the package.
VERSIONS = ["1.29", "1.36"]
OPERATOR = json.loads(Path(__file__).with_name("prometheus_operator.schema.json").read_text(encoding="utf-8"))
KINDS = [
    "Deployment", "HorizontalPodAutoscaler", "Namespace", "NetworkPolicy", "PersistentVolumeClaim",
    "PodDisruptionBudget", "PodMonitor", "PrometheusRule", "Service", "Service",
]  # fmt: skip


def check(document: dict[str, Any], version: str) -> None:
    """Raise if the object is not one of its kind; unknown fields are errors."""
    if document["apiVersion"] == "monitoring.coreos.com/v1":
        schema = {"$defs": OPERATOR["$defs"], "$ref": f"#/$defs/{document['kind']}"}
        jsonschema.Draft202012Validator(schema).validate(document)
    else:
        kubernetes_validate.validate(document, version, strict=True)


def pod(manifest: Callable[[str], dict[str, Any]]) -> dict[str, Any]:
    return manifest("Deployment")["spec"]["template"]["spec"]


@pytest.mark.parametrize("version", VERSIONS)
def test_every_manifest_fits_its_schema(manifests: list[dict[str, Any]], version: str) -> None:
    assert sorted(document["kind"] for document in manifests) == KINDS
    for document in manifests:
        check(document, version)


@pytest.mark.parametrize("kind", sorted(set(KINDS)))
def test_a_misspelt_field_is_found(manifest: Callable[[str], dict[str, Any]], kind: str) -> None:
    broken = copy.deepcopy(manifest(kind))
    broken.setdefault("spec", {})["replicsa"] = 2
    with pytest.raises((kubernetes_validate.ValidationError, jsonschema.ValidationError)):
        check(broken, VERSIONS[0])


def test_the_kustomization_names_every_file_and_no_other() -> None:
    kustomization = yaml.safe_load((FOLDER / "kustomization.yaml").read_text(encoding="utf-8"))
    assert set(kustomization) == {"apiVersion", "kind", "namespace", "labels", "resources", "images"}
    files = {path.name for path in FOLDER.glob("*.yaml")} - {"kustomization.yaml"}
    assert sorted(kustomization["resources"]) == sorted(files)


def test_kustomize_puts_everything_into_our_namespace(
    manifests: list[dict[str, Any]], manifest: Callable[[str], dict[str, Any]]
) -> None:
    kustomization = yaml.safe_load((FOLDER / "kustomization.yaml").read_text(encoding="utf-8"))
    assert kustomization["namespace"] == manifest("Namespace")["metadata"]["name"]
    assert [document["kind"] for document in manifests if "namespace" in document["metadata"]] == []


def test_every_selector_finds_the_pods(
    manifests: list[dict[str, Any]], manifest: Callable[[str], dict[str, Any]]
) -> None:
    labels = manifest("Deployment")["spec"]["template"]["metadata"]["labels"]
    selectors = [
        manifest("Deployment")["spec"]["selector"]["matchLabels"],
        manifest("PodDisruptionBudget")["spec"]["selector"]["matchLabels"],
        manifest("PodMonitor")["spec"]["selector"]["matchLabels"],
        manifest("NetworkPolicy")["spec"]["podSelector"]["matchLabels"],
        pod(manifest)["topologySpreadConstraints"][0]["labelSelector"]["matchLabels"],
        *(document["spec"]["selector"] for document in manifests if document["kind"] == "Service"),
    ]
    assert len(selectors) == 7
    for selector in selectors:
        assert selector.items() <= labels.items()


def test_the_job_of_the_pod_monitor_is_that_of_the_alerts(manifest: Callable[[str], dict[str, Any]]) -> None:
    labels = manifest("Deployment")["spec"]["template"]["metadata"]["labels"]
    assert labels[manifest("PodMonitor")["spec"]["jobLabel"]] == "fastsam"


def test_every_named_port_is_one_of_the_containers(
    manifests: list[dict[str, Any]], manifest: Callable[[str], dict[str, Any]]
) -> None:
    container = pod(manifest)["containers"][0]
    names = {port["name"]: port["containerPort"] for port in container["ports"]}
    for document in manifests:
        if document["kind"] == "Service":
            assert all(names[port["targetPort"]] == port["port"] for port in document["spec"]["ports"])
    policy = [port["port"] for rule in manifest("NetworkPolicy")["spec"]["ingress"] for port in rule["ports"]]
    assert policy == ["http", "grpc", "metrics"]
    assert manifest("PodMonitor")["spec"]["podMetricsEndpoints"][0]["port"] in names
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        assert names[container[probe]["httpGet"]["port"]] == 8000


def test_load_does_not_restart_a_server(manifest: Callable[[str], dict[str, Any]]) -> None:
    container = pod(manifest)["containers"][0]
    asked = [container[probe]["httpGet"]["path"] for probe in ("startupProbe", "readinessProbe", "livenessProbe")]
    assert asked == ["/v2/models/fastsam/ready", "/v2/health/ready", "/v2/health/live"]


def test_the_pod_meets_the_level_restricted(manifest: Callable[[str], dict[str, Any]]) -> None:
    """https://kubernetes.io/docs/concepts/security/pod-security-standards/ and a read-only file system."""
    assert manifest("Namespace")["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
    spec = pod(manifest)
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["runAsUser"] == 1000
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert spec["automountServiceAccountToken"] is False
    assert not {"hostNetwork", "hostPID", "hostIPC"} & set(spec)
    for container in spec["containers"]:
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
    assert all(set(volume) - {"name"} <= {"emptyDir", "persistentVolumeClaim"} for volume in spec["volumes"])


def test_models_are_read_only_and_memory_is_bounded(manifest: Callable[[str], dict[str, Any]]) -> None:
    spec = pod(manifest)
    volumes = {volume["name"]: volume for volume in spec["volumes"]}
    mounts = {mount["mountPath"]: mount for mount in spec["containers"][0]["volumeMounts"]}
    assert mounts["/models"]["readOnly"] is True
    claim = volumes[mounts["/models"]["name"]]["persistentVolumeClaim"]
    assert claim == {"claimName": manifest("PersistentVolumeClaim")["metadata"]["name"], "readOnly": True}
    assert volumes[mounts["/dev/shm"]["name"]]["emptyDir"] == {"medium": "Memory", "sizeLimit": "2Gi"}
    assert "sizeLimit" in volumes[mounts["/tmp"]["name"]]["emptyDir"]
    resources = spec["containers"][0]["resources"]
    assert resources["limits"]["nvidia.com/gpu"] == resources["requests"]["nvidia.com/gpu"] == 1
    assert resources["limits"]["memory"] == resources["requests"]["memory"] == "8Gi"


def test_the_autoscaler_and_the_deployment_do_not_fight(manifest: Callable[[str], dict[str, Any]]) -> None:
    scaler = manifest("HorizontalPodAutoscaler")["spec"]
    deployment = manifest("Deployment")
    assert scaler["scaleTargetRef"]["name"] == deployment["metadata"]["name"]
    assert scaler["scaleTargetRef"]["kind"] == deployment["kind"]
    assert "replicas" not in deployment["spec"]
    # One may be away, and somebody still serves.
    assert scaler["minReplicas"] > manifest("PodDisruptionBudget")["spec"]["maxUnavailable"]
