"""The image, its entrypoint and compose.yaml, as far as they can be checked without a container engine."""

from __future__ import annotations

import fnmatch
import json
import re
import subprocess
import sys
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from fastsam_deploy.runtime import __version__

dockerfile_parse = pytest.importorskip("dockerfile_parse", reason="needs the extra [dev]")
yaml = pytest.importorskip("yaml", reason="needs the extra [dev]")

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"
HERE = Path(__file__).parent
KNOWN_FLAGS = {
    line for line in (HERE / "tritonserver_flags.txt").read_text(encoding="utf-8").splitlines() if line[:1] != "#"
}
# Those that --http-restricted-api knows.
ENDPOINTS = {
    "health", "metadata", "inference", "shared-memory", "model-config", "model-repository", "statistics", "trace",
    "logging",
}  # fmt: skip


@pytest.fixture(scope="module")
def dockerfile(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, str]]:
    """The instructions, each with `instruction` and `value`."""
    # The parser writes beside what it reads when it is asked to: it gets a copy.
    path = tmp_path_factory.mktemp("dockerfile") / "Dockerfile"
    path.write_bytes((DEPLOY / "Dockerfile").read_bytes())
    steps = dockerfile_parse.DockerfileParser(str(path)).structure
    return [step for step in steps if step["instruction"] != "COMMENT"]


def values(dockerfile: list[dict[str, str]], instruction: str) -> list[str]:
    return [step["value"] for step in dockerfile if step["instruction"] == instruction]


def arguments(dockerfile: list[dict[str, str]]) -> dict[str, str]:
    return dict(value.split("=", 1) for value in values(dockerfile, "ARG") if "=" in value)


def settings(lines: list[str]) -> dict[str, str]:
    return {name: value for name, _, value in (line.partition("=") for line in lines if line.startswith("--"))}


def seconds(text: str) -> int:
    return int(text.removesuffix("s"))


def beside_python(program: str) -> Path:
    path = Path(sys.executable).parent / program
    if not path.exists():
        pytest.skip(f"{program} is not installed here; the extra [dev] brings it where it has a wheel")
    return path


def test_every_flag_is_one_of_tritons(
    entrypoint: Callable[..., list[str]],
    dockerfile: list[dict[str, str]],
    compose: dict[str, Any],
    manifest: Callable[[str], dict[str, Any]],
) -> None:
    container = manifest("Deployment")["spec"]["template"]["spec"]["containers"][0]
    given = settings(entrypoint(*container["args"]))
    assert given["--model-repository"] == "/models"
    assert set(given) <= KNOWN_FLAGS
    # Kubernetes says what the image would do anyway; compose leaves it to the image.
    assert container["args"] == json.loads(values(dockerfile, "CMD")[-1])
    assert [name for name in ("triton", "triton-cpu") if "command" in compose["services"][name]] == []


def test_nothing_can_be_loaded_into_a_running_server(entrypoint: Callable[..., list[str]]) -> None:
    given = settings(entrypoint())
    assert given["--model-control-mode"] == "none"
    assert given["--strict-readiness"] == "true"
    assert given["--exit-on-error"] == "true"
    assert "--disable-auto-complete-config" in given
    assert given["--metrics-config"] == "summary_latencies=true", "alerts and dashboard read the quantiles"


@pytest.mark.parametrize("flag", ["--http-restricted-api", "--grpc-restricted-protocol"])
def test_administration_is_closed_and_inference_is_open(entrypoint: Callable[..., list[str]], flag: str) -> None:
    closed, key, value = re.fullmatch(r"([a-z,-]+):([a-z-]+)=(.+)", settings(entrypoint())[flag]).groups()
    # Clients of this project read the network's spec in the model's configuration.
    assert set(closed.split(",")) == ENDPOINTS - {"health", "metadata", "inference", "model-config"}
    assert key == "fastsam-admin"
    # Nobody knows it, and it is not the same twice.
    assert re.fullmatch("[0-9a-f]{64}", value)
    assert settings(entrypoint())[flag] != f"{closed}:{key}={value}"
    assert settings(entrypoint(FASTSAM_ADMIN_KEY=""))[flag].endswith(tuple("0123456789abcdef"))
    assert settings(entrypoint(FASTSAM_ADMIN_KEY="known"))[flag] == f"{closed}:{key}=known"


def test_the_python_models_do_not_inherit_the_key(entrypoint: Callable[..., list[str]]) -> None:
    assert entrypoint(FASTSAM_ADMIN_KEY="known")[-1] == "environment=unset"


def test_further_arguments_come_last_and_stay_whole(entrypoint: Callable[..., list[str]]) -> None:
    assert entrypoint("--model-repository=/a folder", "--log-verbose=1")[-3:-1] == [
        "--model-repository=/a folder", "--log-verbose=1"
    ]  # fmt: skip


def test_the_linter_has_nothing_to_say() -> None:
    done = subprocess.run(
        [beside_python("hadolint"), DEPLOY / "Dockerfile"], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, "")


def test_the_compose_file_fits_its_schema() -> None:
    check = [beside_python("check-jsonschema"), "--builtin-schema", "vendor.compose-spec", DEPLOY / "compose.yaml"]
    done = subprocess.run(check, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_the_server_is_not_root_and_gets_its_signals(dockerfile: list[dict[str, str]]) -> None:
    assert values(dockerfile, "USER")[-1] == "1000:1000"
    assert json.loads(values(dockerfile, "ENTRYPOINT")[-1]) == ["/opt/fastsam/entrypoint.sh"]
    assert json.loads(values(dockerfile, "CMD")[-1]) == ["--model-repository=/models"]
    # A shell in between would keep SIGTERM for itself.
    assert "\nexec " in (DEPLOY / "entrypoint.sh").read_text(encoding="utf-8")


def test_both_stages_have_the_same_base(dockerfile: list[dict[str, str]]) -> None:
    bases = [value.split()[0] for value in values(dockerfile, "FROM")]
    assert bases == ["nvcr.io/nvidia/tritonserver:${TRITON_TAG}-py3"] * 2


def test_what_is_copied_is_there_and_reaches_the_build(dockerfile: list[dict[str, str]]) -> None:
    ignored = (DEPLOY / "Dockerfile.dockerignore").read_text(encoding="utf-8").splitlines()
    kept = [line[1:] for line in ignored if line.startswith("!")]
    copied = set()
    for value in values(dockerfile, "COPY"):
        if value.startswith("--from="):
            continue
        *sources, _target = [word for word in value.split() if not word.startswith("--")]
        for source in sources:
            assert (ROOT / source).exists(), source
            assert source.rstrip("/") in kept, source
            copied.add(source.rstrip("/"))
    # Every folder whose packages setup.py finds is built into the wheel.
    folders = re.search(r"^TOP = \[([^\]]+)\]", (ROOT / "setup.py").read_text(encoding="utf-8"), re.M).group(1)
    assert {"runtime", "export"} <= set(re.findall(r'"(\w+)"', folders)) <= copied
    assert "*" in ignored
    # Checkpoints are AGPL-3.0 and are not needed.
    assert any(fnmatch.fnmatch("models/fastsam-demo.pt", pattern) for pattern in ignored if "*." in pattern)


def test_the_versions_are_one(
    dockerfile: list[dict[str, str]], compose: dict[str, Any], manifest: Callable[[str], dict[str, Any]]
) -> None:
    tag = arguments(dockerfile)["TRITON_TAG"]
    image = f"fastsam-triton:{tag}-{__version__}"
    assert arguments(dockerfile)["VERSION"] == __version__
    assert image in (DEPLOY / "Dockerfile").read_text(encoding="utf-8")
    readme = (DEPLOY / "README.md").read_text(encoding="utf-8")
    assert set(re.findall(r"fastsam-triton:[\w.-]+", readme)) == {image}
    assert set(re.findall(r"tritonserver:([\w.]+)-py3", readme)) <= {tag}
    for name in ("triton", "triton-cpu"):
        service = compose["services"][name]
        assert service["image"] == image
        given = service["build"]["args"]
        assert given == {name: arguments(dockerfile)[name] for name in ("TRITON_TAG", "TENSORRT_VERSION", "VERSION")}
    assert manifest("Deployment")["spec"]["template"]["spec"]["containers"][0]["image"] == image
    kustomization = yaml.safe_load((DEPLOY / "kubernetes/kustomization.yaml").read_text(encoding="utf-8"))
    assert [(entry["name"], entry["newTag"]) for entry in kustomization["images"]] == [tuple(image.split(":"))]


def test_the_ports_are_the_same_everywhere(
    entrypoint: Callable[..., list[str]],
    dockerfile: list[dict[str, str]],
    compose: dict[str, Any],
    manifest: Callable[[str], dict[str, Any]],
) -> None:
    given = settings(entrypoint())
    ports = {name: int(given[f"--{name}-port"]) for name in ("http", "grpc", "metrics")}
    assert sorted(map(int, values(dockerfile, "EXPOSE")[0].split())) == sorted(ports.values())
    container = manifest("Deployment")["spec"]["template"]["spec"]["containers"][0]
    assert {port["name"]: port["containerPort"] for port in container["ports"]} == ports
    # Inference on this machine only; the metrics are not published.
    published = [f"127.0.0.1:{ports[name]}:{ports[name]}" for name in ("http", "grpc")]
    assert compose["services"]["triton"]["ports"] == compose["services"]["triton-cpu"]["ports"] == published
    prometheus = yaml.safe_load((DEPLOY / "prometheus/prometheus.yaml").read_text(encoding="utf-8"))
    assert prometheus["scrape_configs"][0]["static_configs"] == [{"targets": [f"triton:{ports['metrics']}"]}]


def test_whoever_stops_the_server_waits_longer_than_it_does(
    entrypoint: Callable[..., list[str]], compose: dict[str, Any], manifest: Callable[[str], dict[str, Any]]
) -> None:
    given = settings(entrypoint())
    text = (DEPLOY / "drain.py").read_text(encoding="utf-8")
    drain = float(re.search(r"^_LONGEST_WAIT_S = ([\d.]+)$", text, re.M).group(1))
    stop = drain + int(given["--exit-timeout-secs"])
    assert seconds(compose["services"]["triton"]["stop_grace_period"]) >= stop + 10
    pod = manifest("Deployment")["spec"]["template"]["spec"]
    before = int(pod["containers"][0]["lifecycle"]["preStop"]["exec"]["command"][1])
    assert pod["terminationGracePeriodSeconds"] >= before + stop + 10
    # By the end of the drain every connection of gRPC has been opened anew, to a pod that stays.
    assert int(given["--grpc-max-connection-age"]) / 1000 <= before + drain - 5


@pytest.mark.parametrize("profile", ["triton", "triton-cpu"])
def test_a_container_of_compose_can_write_to_memory_only(compose: dict[str, Any], profile: str) -> None:
    service = compose["services"][profile]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert [volume for volume in service["volumes"] if not volume.endswith(":ro")] == []
    assert service["shm_size"] == "2gb"


def test_the_files_that_compose_mounts_are_there(compose: dict[str, Any]) -> None:
    mounted = [volume for service in compose["services"].values() for volume in service["volumes"]]
    files = [volume.split(":")[0] for volume in mounted if volume.startswith("./")]
    assert len(files) == 4
    for name in files:
        assert (DEPLOY / name).exists(), name


@pytest.mark.parametrize(("status", "healthy"), [(200, True), (400, False), (503, False)])
def test_the_health_check_sees_what_the_server_says(
    dockerfile: list[dict[str, str]], status: int, healthy: bool
) -> None:
    asked = []

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(status)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Answer) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        command = json.loads(values(dockerfile, "HEALTHCHECK")[0].split("CMD", maxsplit=1)[1])
        code = command[-1].replace(":8000", f":{server.server_port}")
        assert code != command[-1]
        done = subprocess.run([sys.executable, *command[1:-1], code], capture_output=True, check=False, timeout=30)
        server.shutdown()
    assert asked == ["/v2/health/ready"]
    assert (done.returncode == 0) is healthy
