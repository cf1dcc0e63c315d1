"""README and the pages in docs: their commands run, their links lead somewhere, their figures are measured."""

from __future__ import annotations

import importlib
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.examples.pictures import town

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", *sorted(ROOT.glob("docs/*.md"))]
TEXTS = {str(page.relative_to(ROOT)): page.read_text(encoding="utf-8") for page in PAGES}
README = TEXTS["README.md"]
NEED_A_GPU = [
    "bash scripts/onnx2trt.sh FastSAM-s.onnx --output FastSAM-s.plan --precision fp16",
    'python scripts/inference_trt.py --model_path FastSAM-s.plan --img_path dogs.jpg --point_prompt "[[520,360]]"',
]
ELSEWHERE = {
    **dict.fromkeys(NEED_A_GPU, "needs a GPU: test_commands_that_need_a_gpu_say_so_without_one"),
    "fastsam-export engine FastSAM-s.onnx --compare FastSAM-s.rtx": "a GPU: tests/runtime/engines/tensorrt/test_rtx.py",
    "fastsam video rtsp://camera/live --every 5 --json live.jsonl": "needs a camera: tests/runtime/cli/test_live.py",
    "python examples/recipes/click_window.py photo.jpg": "needs a screen: tests/examples/test_recipes.py",
    "fastsam batch s3://photos/2026 --output s3://segments/2026 --ray head.example.com:6379 --workers 64": (
        "needs a cluster: tests/runtime/batch/parts/cluster/test_cluster.py"
    ),
    "fastsam segment photos --model demo.onnx --engine tuned --output out": "after tuning: tests/runtime/tuning",
    "bash scripts/gpu_check.sh": "needs a GPU: tests/scripts/test_gpu_check.py",
    **dict.fromkeys(
        ("fastsam app --open", "fastsam app --model FastSAM-s --clip clip"),
        "serves until it is ended: tests/runtime/app/test_command.py",
    ),
    "bash scripts/demo.sh": "makes an environment: tests/scripts/test_demo.py",
    "bash scripts/test.sh": "runs these tests",
    "fastsam download FastSAM-s": "needs the network: tests/runtime/cli/test_download.py, with a server of its own",
    "fastsam-export clip --output clip": "needs the network: tests/export/clip, with small models",
    'fastsam segment photo.jpg --text "a yellow dog" --clip clip': "needs CLIP: tests/runtime/cli/test_main.py",
}
"""Commands that are not run here: why, and what runs them instead."""
DATA_SETS = r"fastsam bench (edges|proposals|instances) "
"""These need BSDS500, COCO or LVIS; tests/runtime/accuracy runs the commands on small sets."""
SERVED = r"fastsam serve|(id=\$\(|echo '\{\"masks\").*|curl "
"""These need a server: tests/runtime/http_server/test_documentation.py starts it and runs them."""
RTX = sorted(Path(os.environ.get("FASTSAM_TRT_BINDINGS", "nowhere")).glob("rtx-*"))
"""Folders with NVIDIA's parser and builder, which lie beside the environment and not in it."""
ELSEWHERE_PYTHON = {
    'read("out")': "needs what a run has written: tests/runtime/batch/parts/test_export.py",
    "http+fastsam://": "needs a server: tests/runtime/http_server/test_client.py runs it",
    "grpc://": "needs a server: tests/triton_models/test_client.py runs it",
    "TRTFastSAM(": "needs a GPU: tests/runtime/cuda/test_pipeline.py has its calls",
}


def blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


def commands(page: str) -> list[str]:
    lines = [line for block in blocks(TEXTS[page], "bash") for line in block.splitlines() if line.strip()]
    return [re.sub(r"\s{2,}# .*", "", line) for line in lines]


def runs_here(command: str) -> bool:
    return not (
        command in ELSEWHERE or command.startswith("pip install ") or re.match(f"{DATA_SETS}|{SERVED}", command)
    )


def programs(page: str) -> list[str]:
    return [code for code in blocks(TEXTS[page], "python") if not any(mark in code for mark in ELSEWHERE_PYTHON)]


@pytest.fixture
def workplace(tmp_path: Path) -> Path:
    """A folder that looks like the clone from where the commands stand, with files of the names that they use."""
    for name in ("examples", "models", "scripts"):
        shutil.copytree(ROOT / name, tmp_path / name)
    shutil.copytree(ROOT / "examples/images", tmp_path / "photos")
    for name in ("photo.jpg", "dogs.jpg"):
        shutil.copy(ROOT / "examples/images/coffee.jpg", tmp_path / name)
    for name in ("FastSAM-s.onnx", "fp32.onnx", "fp16.onnx", "int8.onnx", "demo.onnx"):
        shutil.copy(ROOT / "models/fastsam-demo.onnx", tmp_path / name)
    shutil.copy(ROOT / "models/fastsam-demo.pt", tmp_path / "FastSAM-s.pt")
    (tmp_path / "cache").mkdir()
    shutil.copy(ROOT / "models/fastsam-demo.onnx", tmp_path / "cache/FastSAM-s.onnx")
    _write_clip(tmp_path / "clip.mp4")
    _write_city(tmp_path / "city.tif")
    return tmp_path


def _write_clip(path: Path) -> None:
    cv2 = pytest.importorskip("cv2")
    picture = cv2.resize(cv2.imread(str(ROOT / "examples/images/coffee.jpg")), (480, 320))
    video = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"mp4v"), 5, (480, 320))
    for _ in range(2):
        video.write(picture)
    video.release()


def _write_city(path: Path) -> None:
    image = pytest.importorskip("PIL.Image")
    image.fromarray(town()[0]).save(path)


def _run(arguments: list[str], folder: Path) -> str:
    environment = {**os.environ, "PYTHON": sys.executable, "FASTSAM_CACHE": str(folder / "cache")}
    done = subprocess.run(
        arguments, cwd=folder, capture_output=True, text=True, timeout=600, check=False, env=environment
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def _with_rtx(command: str) -> bool:
    return "--rtx" in command or "engine --check" in command


def _needs(command: str) -> None:
    """Skip what needs an extra that is not installed."""
    export = command.startswith(("fastsam-export onnx", "bash scripts/pt2onnx.sh", "fastsam-export quantize"))
    if export and "--direct" not in command:
        pytest.importorskip("ultralytics", reason="needs the extra [export]")
    if _with_rtx(command) and not RTX:
        pytest.skip("needs TensorRT for RTX: scripts/dev/trt_bindings.py gets it")
    if "supervision" in command:
        pytest.importorskip("supervision", reason="needs the extra [supervision]")
    if command.startswith("fastsam-export"):
        pytest.importorskip("onnx", reason="needs onnx")


RUN_HERE = [(page, line) for page in TEXTS for line in commands(page) if runs_here(line)]


@pytest.mark.parametrize(("page", "command"), RUN_HERE)
def test_commands_run(page: str, command: str, workplace: Path):
    _needs(command)
    # The command of this environment, whatever PATH says.
    words = f'export PATH="{Path(sys.executable).parent}:$PATH"; {command}'
    if _with_rtx(command):
        words = f'export PYTHONPATH="{RTX[-1]}:${{PYTHONPATH:-}}"; {words}'
    if "--resume" in command:
        _run(["bash", "-c", words.replace(" --resume", "")], workplace)
    output = _run(["bash", "-c", words], workplace)
    assert output or "--json" in command


def test_what_is_not_run_is_on_a_page():
    """The list of exceptions has no entry that is needed no more."""
    every = [line for page in TEXTS for line in commands(page)]
    assert set(ELSEWHERE) <= set(every)
    assert all(any(mark in text for text in TEXTS.values()) for mark in ELSEWHERE_PYTHON)
    reasons = " ".join([*ELSEWHERE.values(), *ELSEWHERE_PYTHON.values()])
    assert [path for path in re.findall(r"tests/[\w/.]+\w", reasons) if not (ROOT / path).exists()] == []


def test_the_readme_has_the_two_commands_of_a_clone():
    assert {"bash scripts/demo.sh", "bash scripts/test.sh"} <= set(commands("README.md"))


def test_the_readme_is_short():
    assert len(README.splitlines()) <= 120


@pytest.mark.parametrize("command", NEED_A_GPU)
def test_commands_that_need_a_gpu_say_so_without_one(command: str, workplace: Path):
    """Their options are taken, their files looked at, and the end is one line and exit code 2."""
    (workplace / "FastSAM-s.plan").write_bytes(b"no plan")
    program, *arguments = shlex.split(command)
    environment = {**os.environ, "PYTHON": sys.executable}
    done = subprocess.run(
        [sys.executable if program == "python" else program, *arguments],
        cwd=workplace, env=environment, capture_output=True, text=True, timeout=100, check=False,
    )  # fmt: skip
    if importlib.util.find_spec("tensorrt") is not None:
        pytest.skip("TensorRT is here")
    assert done.returncode == 2, done.stdout + done.stderr
    assert "pip install 'fastsam-deploy[trt]'" in done.stderr


@pytest.mark.parametrize("page", [page for page in TEXTS if programs(page)])
def test_python_runs(page: str, workplace: Path):
    """The blocks of a page run one after the other, and write the files that they name."""
    code = "\n".join(programs(page))
    _run([sys.executable, "-c", code], workplace)
    written = re.findall(r'save\("([\w.]+)"', code)
    assert all((workplace / name).is_file() for name in written), written


@pytest.mark.parametrize("document", [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("*/README.md")])
def test_links_lead_somewhere(document: Path):
    for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", document.read_text(encoding="utf-8")):
        if not target.startswith(("http", "mailto")):
            assert (document.parent / target).exists(), target


@pytest.mark.parametrize(
    ("script", "name", "table", "page"),
    [
        ("suite.report", "avx512-bf16/suite_end_to_end", "readme_table", "performance"),
        ("triton_load", "triton_load", "summary", "performance"),
        ("web_page", "web_page", "summary", "app"),
    ],
)
def test_the_tables_are_those_of_the_results(script: str, name: str, table: str, page: str):
    benchmark = importlib.import_module(f"benchmarks.{script}")
    report = json.loads((ROOT / f"benchmarks/results/{name}.json").read_text(encoding="utf-8"))
    shown = TEXTS[f"docs/{page}.md"].split(f"{name}.json -->\n", maxsplit=1)[1].split("<!-- end -->", maxsplit=1)[0]
    assert shown.strip() == getattr(benchmark, table)(report).strip()


def test_the_three_figures_are_those_of_the_table():
    """README's ratios over PyTorch, of the photographs that the chart shows."""
    rows: dict[str, list[str]] = {}
    image = ""
    for line in TEXTS["docs/performance.md"].splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if len(cells) == 9:
            image = cells[0] or image
            if cells[2] == "ultralytics, PyTorch, retina_masks":
                rows[image] = cells[-2:]
    assert f"- {rows['cat 931×698'][1]} as fast for an image of 0.65 megapixels" in README
    assert f"- {rows['cat 2000×1500'][1]} as fast for an image of 3 megapixels" in README
    assert f"- {rows['cat 2000×1500'][0]} less time around the network" in README


def test_the_drawings_are_those_that_the_script_makes():
    figures = importlib.import_module("scripts.dev.make_figures").figures()
    for name, content in figures.items():
        assert (ROOT / "docs/images" / name).read_text(encoding="utf-8") == content, name
    numbers = re.findall(r">(\d+)</text>", figures["speed.svg"])
    for page in ("README.md", "docs/performance.md"):
        (described,) = re.findall(r"!\[(Time for one image.*?)\]", TEXTS[page])
        assert re.findall(r"(\d+) ms", described) == numbers


MESSAGES = re.findall(r"^### `(.*)`$", TEXTS["docs/troubleshooting.md"], re.MULTILINE)


@pytest.fixture(scope="module")
def sources() -> str:
    folders = ("runtime", "export")
    return "\n".join(path.read_text(encoding="utf-8") for top in folders for path in (ROOT / top).rglob("*.py"))


@pytest.mark.parametrize("message", MESSAGES)
def test_a_quoted_message_is_in_the_sources(message: str, sources: str):
    """Between the values, which are written as "…", the words are those of an error."""
    words = r"[^\n]*".join(re.escape(part) for part in message.split("…"))
    assert len(message.replace("…", "")) >= 10 and re.search(words, sources), message
