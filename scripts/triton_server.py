"""A real Triton Inference Server on a CPU, without a container, for trying it out, tests and load tests.

    python scripts/triton_server.py --repository REPOSITORY

The wheel of NVIDIA's pytriton contains tritonserver 2.51 with its Python backend; nothing else of pytriton is used.
It has no backends for ONNX Runtime and TensorRT: `triton_onnx_backend.py` replaces both and runs the `.onnx` in the
folder of a model on the CPU, so that production configurations load unchanged. This tests configurations, ensembles,
batching, the Python models and the clients, but not the numbers of TensorRT or the speed of a GPU.

The environment (350 MB) is made once, by default in `.venv-triton`. Needs Linux x86-64, glibc 2.35 or newer, Python
3.11.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

ROOT = Path(__file__).resolve().parents[1]
DEFAULT_ENVIRONMENT = ROOT / ".venv-triton"
SERVER_VERSION = "2.51.0"
# The requirements of pytriton itself are not installed: the server does not need them.
SERVER_WHEEL = "nvidia-pytriton==0.7.0"
REQUIREMENTS = ROOT / "triton_models/requirements.txt"
BACKENDS_OF_ONNX_FILES = ("onnxruntime", "tensorrt")


class ServerError(RuntimeError):
    """The server cannot be installed or started."""


@dataclass(frozen=True)
class Environment:
    """The virtual environment of the server and its Python models."""

    folder: Path

    @property
    def python(self) -> Path:
        return self.folder / "bin/python"

    @property
    def packages(self) -> Path:
        return next((self.folder / "lib").glob("python3.*/site-packages"))

    @property
    def binary(self) -> Path:
        return self.packages / "pytriton/tritonserver/bin/tritonserver"

    @property
    def backends(self) -> Path:
        return self.folder / "backends"

    @property
    def perf_analyzer(self) -> Path:
        return self.folder / "bin/perf_analyzer"

    def variables(self) -> dict[str, str]:
        """The process environment of the server and of perf_analyzer."""
        libraries = [self.folder / "perf_analyzer_libraries", self.packages / "nvidia_pytriton.libs"]
        libraries.append(Path(sysconfig.get_config_var("LIBDIR")))
        kept = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
        path = f"{self.folder / 'bin'}{os.pathsep}{os.environ.get('PATH', '')}"
        return {**kept, "PATH": path, "LD_LIBRARY_PATH": os.pathsep.join(map(str, libraries))}


def make_environment(folder: Path = DEFAULT_ENVIRONMENT) -> Environment:
    """Install the server and the requirements of the Python models if they are missing; always reinstall the project.

    Raises:
        ServerError: this machine is not supported, or pip failed.
    """
    if sys.version_info[:2] != (3, 11) or sys.platform != "linux":
        raise ServerError(
            f"Python {sys.version_info.major}.{sys.version_info.minor} on {sys.platform}; the stub of the server's "
            "wheel that is used here is for Python 3.11 on Linux"
        )
    environment = Environment(folder)
    stamp = hashlib.sha256(f"{SERVER_WHEEL}\n{REQUIREMENTS.read_text(encoding='utf-8')}".encode()).hexdigest()
    if _read(folder / "stamp") != stamp:
        shutil.rmtree(folder, ignore_errors=True)
        _call([sys.executable, "-m", "venv", str(folder)])
        _pip(environment, "--no-deps", SERVER_WHEEL)
        _pip(environment, "setuptools>=77", "-r", str(REQUIREMENTS), f"tritonclient[grpc,http]=={SERVER_VERSION}")
        _link_perf_analyzer(environment)
        (folder / "stamp").write_text(stamp, encoding="utf-8")
    # pip builds in the folder of the sources: two installations must not run at once.
    _pip(environment, "--no-deps", "--force-reinstall", "--no-build-isolation", str(ROOT))
    _copy_backends(environment)
    return environment


def _copy_backends(environment: Environment) -> None:
    """Copy the Python backend and the replacements: the server refuses links that lead out of the folder."""
    source = environment.packages / "pytriton/tritonserver"
    python = environment.backends / "python"
    python.mkdir(parents=True, exist_ok=True)
    for file in (
        source / "backends/python/libtriton_python.so",
        source / "backends/python/triton_python_backend_utils.py",
        source / "python_backend_stubs/3.11/triton_python_backend_stub",
    ):
        if not (python / file.name).exists():
            shutil.copy2(file, python)
    for name in BACKENDS_OF_ONNX_FILES:
        (environment.backends / name).mkdir(exist_ok=True)
        shutil.copy2(ROOT / "scripts/triton_onnx_backend.py", environment.backends / name / "model.py")


def _link_perf_analyzer(environment: Environment) -> None:
    """Link two libraries under the names that perf_analyzer, from the wheel of tritonclient, looks for."""
    libraries = environment.folder / "perf_analyzer_libraries"
    libraries.mkdir(exist_ok=True)
    bundled = environment.packages / "nvidia_pytriton.libs"
    for pattern, name in (("libb64-*.so.0d", "libb64.so.0d"), ("libcudart-*.so.12*", "libcudart.so.12")):
        library = next(bundled.glob(pattern), None)
        if library is None:
            raise ServerError(f"{bundled}: no {pattern}; expected it in {SERVER_WHEEL}")
        (libraries / name).symlink_to(library)


class Server:
    """A running server on the loopback address. As a context manager it stops itself."""

    def __init__(
        self,
        environment: Environment,
        repository: Path,
        models: Sequence[str] = (),
        *,
        arguments: Sequence[str] = (),
        log: Path | None = None,
        ports: tuple[int, int, int] | None = None,
        start_timeout_s: float = 120,
    ) -> None:
        """
        Args:
            models: names of models to load in explicit mode (`load` and `unload` work); empty: all models, without
                model control.
            arguments: further arguments of tritonserver.
            log: file for the output of the server; None: in the folder of the environment.
            ports: HTTP, gRPC and metrics; None: free ones.

        Raises:
            ServerError: it stops before it is ready, or is not ready in time. The message has the end of its log.
        """
        self.http_port, self.grpc_port, self.metrics_port = ports or free_ports(3)
        self.log = log or environment.folder / "server.log"
        # The stubs of other servers on this machine must not use shared memory of the same name.
        self._shared_memory = f"fastsam_{os.getpid()}_{self.http_port}_"
        control = ["--model-control-mode=explicit", *(f"--load-model={name}" for name in models)] if models else []
        command = [
            str(environment.binary),
            f"--model-repository={repository}",
            f"--backend-directory={environment.backends}",
            *control,
            "--disable-auto-complete-config",
            "--exit-timeout-secs=10",
            f"--backend-config=python,shm-region-prefix-name={self._shared_memory}",
            *(f"--{kind}-address=127.0.0.1" for kind in ("http", "grpc", "metrics")),
            f"--http-port={self.http_port}",
            f"--grpc-port={self.grpc_port}",
            f"--metrics-port={self.metrics_port}",
            *arguments,
        ]
        with self.log.open("wb") as stream:
            self._process = subprocess.Popen(
                command,
                stdout=stream,
                stderr=subprocess.STDOUT,
                env=environment.variables(),
                cwd=environment.folder,
                start_new_session=True,
            )
        try:
            self._wait_until_ready(start_timeout_s)
        except BaseException:
            self.stop()
            raise

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def http(self) -> str:
        return f"127.0.0.1:{self.http_port}"

    @property
    def grpc(self) -> str:
        return f"127.0.0.1:{self.grpc_port}"

    def metrics(self) -> str:
        """The metrics as Prometheus reads them."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.metrics_port}/metrics", timeout=10) as answer:
            return answer.read().decode()

    def kill(self) -> None:
        """Kill it, as a crash would."""
        self._process.kill()
        self._process.wait()
        self._clear()

    def wait(self) -> None:
        """Wait until it ends."""
        self._process.wait()

    def stop(self) -> int:
        """Stop it in an orderly way; returns its exit code."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(30)
            except subprocess.TimeoutExpired:
                self._process.kill()
        code = self._process.wait()
        self._clear()
        return code

    def _clear(self) -> None:
        """Remove stubs and shared memory, which a killed server leaves behind."""
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        for region in Path("/dev/shm").glob(f"{self._shared_memory}*"):
            region.unlink(missing_ok=True)

    def __enter__(self) -> Server:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _wait_until_ready(self, timeout_s: float) -> None:
        end = time.monotonic() + timeout_s
        while time.monotonic() < end:
            if self._process.poll() is not None:
                raise ServerError(f"tritonserver stopped with {self._process.returncode}:\n{self._log_end()}")
            try:
                with urllib.request.urlopen(f"http://{self.http}/v2/health/ready", timeout=1):
                    pass
                # The port of the metrics opens last, possibly a moment after the models are ready.
                with urllib.request.urlopen(f"http://127.0.0.1:{self.metrics_port}/metrics", timeout=1):
                    return
            except (OSError, urllib.error.URLError):
                time.sleep(0.1)
        raise ServerError(f"tritonserver was not ready after {timeout_s:g} s:\n{self._log_end()}")

    def _log_end(self) -> str:
        return "\n".join(_read(self.log).splitlines()[-30:])


def free_ports(count: int) -> tuple[int, ...]:
    """Ports of the loopback address that are free now (the server does not accept port 0)."""
    with _sockets(count) as sockets:
        return tuple(listener.getsockname()[1] for listener in sockets)


@contextmanager
def _sockets(count: int) -> Iterator[list[socket.socket]]:
    sockets = [socket.socket() for _ in range(count)]
    try:
        for listener in sockets:
            listener.bind(("127.0.0.1", 0))
        yield sockets
    finally:
        for listener in sockets:
            listener.close()


def _pip(environment: Environment, *arguments: str) -> None:
    _call([str(environment.python), "-m", "pip", "install", "--quiet", *arguments])


def _call(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ServerError(f"{' '.join(command)} failed:\n{done.stdout}{done.stderr}")


def _read(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""


def main() -> int:
    """Run a server until it is interrupted."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--repository", type=Path, help="made by scripts/build_model_repository.sh")
    what.add_argument("--install-only", action="store_true", help="make the environment and stop")
    parser.add_argument("--environment", type=Path, default=DEFAULT_ENVIRONMENT, help="made if it is missing")
    parser.add_argument("--http-port", type=int, default=8000)
    parser.add_argument("--grpc-port", type=int, default=8001)
    parser.add_argument("--metrics-port", type=int, default=8002)
    parser.add_argument("arguments", nargs="*", help="further arguments of tritonserver, after --")
    args = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # otherwise the server would outlive this process
    try:
        environment = make_environment(args.environment.resolve())
        if args.install_only:
            return 0
        ports = (args.http_port, args.grpc_port, args.metrics_port)
        with Server(environment, args.repository.resolve(), arguments=args.arguments, ports=ports) as server:
            print(f"ready: http://{server.http} grpc://{server.grpc}; log in {server.log}; Ctrl-C stops it", flush=True)
            server.wait()
    except KeyboardInterrupt:
        return 0
    except ServerError as error:
        print(f"triton_server: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
