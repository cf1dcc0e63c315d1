"""The clients of examples/triton against a real server: the masks of the local FastSAM, or an error that says why."""

from __future__ import annotations

import http.client
import json
import os
import random
import re
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from fastsam_deploy.runtime import Boxes, FastSAM, Points, Segments, Thresholds
from scripts.triton_server import Environment, Server, free_ports

pytestmark = pytest.mark.triton

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
CLIENTS = EXAMPLES / "triton"
BOXES = [[200, 60, 420, 260], [320, 230, 420, 330]]
QUESTIONS: dict[str, Callable[[FastSAM, Path], Segments]] = {
    "{}": lambda model, image: model.segment(image),
    '{"prompts": [{"points": [[285, 150], [10, 10]], "labels": [1, 0]}]}': lambda model, image: model.segment(
        image, Points([[285, 150], [10, 10]], [1, 0])
    ),
    json.dumps({"prompts": [{"boxes": BOXES}]}): lambda model, image: model.segment(image, Boxes(BOXES)),
    '{"conf": 0.999}': lambda model, image: model.segment(image, thresholds=Thresholds(conf=0.999)),
}

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def local(demo_onnx: Path) -> Iterator[FastSAM]:
    with FastSAM(demo_onnx) as model:
        yield model


@pytest.fixture(scope="module")
def compiler() -> str:
    found = shutil.which("c++")
    if found is None:
        pytest.skip("no C++ compiler: c++ is not on the path")
    return found


@pytest.fixture(scope="module")
def plain(compiler: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return compiled(compiler, tmp_path_factory.mktemp("plain"), "-O2")


@pytest.fixture(scope="module")
def sanitized(compiler: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With checks of every access to memory and of undefined behaviour; a finding ends it with 99."""
    folder = tmp_path_factory.mktemp("sanitized")
    flags = ("-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-D_GLIBCXX_ASSERTIONS")
    (folder / "empty.cc").write_text("int main() {}\n")
    probe = subprocess.run(
        [compiler, *flags, "empty.cc", "-o", "empty"], cwd=folder, capture_output=True, text=True, check=False
    )
    if probe.returncode:
        pytest.skip(f"{compiler} cannot link its sanitizers: {probe.stderr.splitlines()[-1:]}")
    return compiled(compiler, folder, "-O1", "-g", *flags)


def compiled(compiler: str, folder: Path, *flags: str) -> Path:
    """The program that the README's one-line command makes, warnings being errors."""
    program = folder / "client"
    strict = ("-std=c++17", "-Wall", "-Wextra", "-Werror")
    done = run([compiler, *strict, *flags, str(CLIENTS / "client.cc"), "-o", str(program)], folder)
    assert done.returncode == 0, done.stderr
    return program


def run(command: list[str], folder: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """The command in a folder of its own, without the variables of the machine's user that the clients read."""
    kept = {name: value for name, value in os.environ.items() if name != "MODEL"}
    environment = {**kept, "ASAN_OPTIONS": "exitcode=99", "UBSAN_OPTIONS": "exitcode=99", **variables}
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, encoding="utf-8", errors="replace",
        check=False, timeout=120,
    )  # fmt: skip


@pytest.fixture
def curl(tmp_path: Path) -> Run:
    if shutil.which("curl") is None:
        pytest.skip("curl is not on the path")
    return lambda url, image, *prompt, **variables: run(
        ["bash", str(CLIENTS / "curl.sh"), url, str(image), *prompt], tmp_path, **variables
    )


@pytest.fixture
def python(environment: Environment, tmp_path: Path) -> Run:
    """The server's environment has tritonclient; the tests' own need not."""
    command = [str(environment.python), str(CLIENTS / "client.py")]
    return lambda url, image, *prompt, **variables: run(
        [*command, url, str(image), *(f"--prompt={text}" for text in prompt)], tmp_path, **variables
    )


@pytest.fixture
def cc(plain: Path, tmp_path: Path) -> Run:
    return lambda url, image, *prompt, **variables: run([str(plain), url, str(image), *prompt], tmp_path, **variables)


@pytest.fixture(params=["curl", "python", "cc"])
def client(request: pytest.FixtureRequest, server: Server) -> tuple[Run, str]:
    """Each client and the address that it takes."""
    return request.getfixturevalue(request.param), server.grpc if request.param == "python" else f"http://{server.http}"


def table(text: str) -> NDArray[np.float32]:
    """(n, 5) score and box of the rows that a client prints."""
    rows = [line.split()[1:6] for line in text.splitlines() if re.match(r" *\d+  \d", line)]
    return np.array(rows, np.float32).reshape(-1, 5)


def picture(path: Path) -> NDArray[np.bool_]:
    with Image.open(path) as opened:
        pixels = np.asarray(opened)
    assert set(np.unique(pixels)) <= {0, 255}
    return pixels == 255


def check_table(text: str, expected: Segments) -> None:
    found = table(text)
    assert np.abs(found - np.column_stack([expected.scores, expected.boxes_xyxy])).max(initial=0) <= 0.06


# --- the same answer as the local pipeline's ---------------------------------------------------------------------


@pytest.mark.parametrize("question", QUESTIONS)
@pytest.mark.parametrize("model", ["fastsam", "fastsam_device"])
def test_curl_gets_the_local_answer(
    curl: Run, server: Server, local: FastSAM, coffee: Path, question: str, model: str
) -> None:
    done = curl(f"http://{server.http}/", coffee, question, MODEL=model)
    assert (done.returncode, done.stderr) == (0, "")
    answer = json.loads(done.stdout, parse_constant=pytest.fail)
    found = {output["name"]: np.reshape(output["data"], output["shape"])[0] for output in answer["outputs"]}
    expected = QUESTIONS[question](local, coffee)
    assert answer["model_name"] == model
    assert found["COUNT"] == len(expected)
    assert found["MASKS"].tolist() == [rle["counts"] for rle in expected.masks.rle()]
    assert found["AREAS"].tolist() == expected.masks.areas.tolist()
    assert found["PROMPTS"].tolist() == expected.prompts.tolist()
    assert np.abs(found["BOXES"] - expected.boxes_xyxy).max(initial=0) <= 0.01
    assert np.abs(found["SCORES"] - expected.scores).max(initial=0) <= 1e-4


@pytest.mark.parametrize("question", QUESTIONS)
@pytest.mark.parametrize("build", ["plain", "sanitized"])
def test_the_cc_client_writes_the_local_masks(
    request: pytest.FixtureRequest, server: Server, local: FastSAM, coffee: Path, tmp_path: Path,
    question: str, build: str,
) -> None:  # fmt: skip
    program = request.getfixturevalue(build)
    done = run([str(program), f"http://{server.http}", str(coffee), question], tmp_path, MODEL="fastsam_device")
    assert (done.returncode, done.stderr) == (0, "")
    expected = QUESTIONS[question](local, coffee)
    assert done.stdout.startswith(f"coffee.jpg 600x400: {len(expected)} segments\n")
    check_table(done.stdout, expected)
    assert len(list(tmp_path.iterdir())) == len(expected)
    for i, mask in enumerate(expected.masks):
        assert np.array_equal(picture(tmp_path / f"coffee_{i}.pgm"), mask)


@pytest.mark.parametrize("question", QUESTIONS)
def test_the_python_client_writes_the_best_local_mask(
    python: Run, server: Server, local: FastSAM, coffee: Path, tmp_path: Path, question: str
) -> None:
    done = python(server.grpc, coffee, question)
    assert (done.returncode, done.stderr) == (0, "")
    expected = QUESTIONS[question](local, coffee)
    assert done.stdout.startswith(f"coffee.jpg 600x400: {len(expected)} segments\n")
    check_table(done.stdout, expected)
    if len(expected):
        best = expected.masks.full(int(expected.scores.argmax()))
        assert np.array_equal(picture(tmp_path / "coffee_mask.png"), best)
    else:
        assert not list(tmp_path.iterdir())


def test_many_images_are_asked_at_once_and_a_bad_one_fails_alone(
    environment: Environment, server: Server, local: FastSAM, cat: Path, tmp_path: Path
) -> None:
    images = []
    for i in range(20):  # more than the client has on the way at the same time
        images.append(tmp_path / f"cat{i}.png")
        with Image.open(cat) as opened:
            opened.resize((200 + i, 120)).save(images[-1])
    bad = tmp_path / "text.jpg"
    bad.write_text("no image")
    command = [str(environment.python), str(CLIENTS / "client.py"), server.grpc, *map(str, [bad, *images])]
    done = run(command, tmp_path)
    assert done.returncode == 2
    assert "text.jpg: " in done.stderr and "not an image" in done.stderr and "cat" not in done.stderr
    for image in images:
        expected = local.segment(image)
        assert f"{image.name} {expected.image_hw[1]}x120: {len(expected)} segments" in done.stdout
        best = expected.masks.full(int(expected.scores.argmax()))
        assert np.array_equal(picture(tmp_path / f"{image.stem}_mask.png"), best)


# --- errors ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "prompt", "message"),
    [
        pytest.param(b"no image, but text", "{}", "IMAGE: not an image, it begins with", id="a text file"),
        pytest.param(None, '{"prompt": []}', "PROMPT: unknown key 'prompt'", id="a key that is not known"),
        pytest.param(None, '{"prompts": [{"points": [[601, 0]]}]}', "point 0 is at (601, 0)", id="beyond the image"),
        pytest.param(None, 'é "quoted" \\', "is not JSON", id="no JSON"),
    ],
)
def test_the_servers_message_is_shown(
    client: tuple[Run, str], coffee: Path, tmp_path: Path, content: bytes | None, prompt: str, message: str
) -> None:
    ask, url = client
    image = coffee
    if content is not None:
        image = tmp_path / "text.jpg"
        image.write_bytes(content)
    done = ask(url, image, prompt)
    assert (done.returncode, done.stdout) == (2, "")
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_a_model_that_is_not_there(client: tuple[Run, str], coffee: Path) -> None:
    ask, url = client
    done = ask(url, coffee, MODEL="nowhere")
    assert (done.returncode, done.stdout) == (2, "")
    assert "unknown model: 'nowhere'" in done.stderr


def test_nobody_listens(client: tuple[Run, str], coffee: Path) -> None:
    ask, url = client
    done = ask(re.sub(r"\d+$", str(free_ports(1)[0]), url), coffee)
    assert (done.returncode, done.stdout) == (2, "")
    assert re.search("expected a running server|failed to connect", done.stderr)


def test_an_image_that_is_not_there(client: tuple[Run, str], tmp_path: Path) -> None:
    ask, url = client
    done = ask(url, tmp_path / "nowhere.jpg")
    assert (done.returncode, done.stdout) == (2, "")
    assert re.search(r"nowhere\.jpg'?: no such file|No such file.*nowhere\.jpg", done.stderr)


@pytest.mark.parametrize("arguments", [[], ["http://localhost:8000"], ["a", "b", "c", "d"]])
def test_curl_wants_two_or_three_arguments(tmp_path: Path, arguments: list[str]) -> None:
    done = run(["bash", str(CLIENTS / "curl.sh"), *arguments], tmp_path)
    assert done.returncode == 2
    assert f"expected URL IMAGE [PROMPT-JSON], got {len(arguments)} arguments" in done.stderr


# --- what a server that is not to be trusted sends to the C++ client ---------------------------------------------


@dataclass(frozen=True)
class Recorded:
    """An answer of the real server, taken apart.

    Attributes:
        tensors: name → dtype and bytes.
        sizes: name → what the JSON says instead of the bytes' true number.
        cut: bytes that are missing at the end of the body.
    """

    tensors: dict[str, tuple[str, bytes]]
    sizes: dict[str, str]
    cut: int = 0

    def body(self) -> tuple[bytes, int]:
        """JSON and tensors, and the size of the JSON."""
        outputs = [
            f'{{"name": "{name}", "datatype": "{dtype}", "shape": [], '
            f'"parameters": {{"binary_data_size": {self.sizes.get(name, len(content))}}}}}'
            for name, (dtype, content) in self.tensors.items()
        ]
        text = f'{{"outputs": [{", ".join(outputs)}]}}'.encode()
        return text + b"".join(content for _, content in self.tensors.values()), len(text)

    def http(self) -> bytes:
        body, json_size = self.body()
        return http_answer(body, json_size)[: -self.cut or None]

    def having(self, name: str, content: bytes, dtype: str | None = None) -> Recorded:
        """With another tensor of that name."""
        return replace(self, tensors={**self.tensors, name: (dtype or self.tensors[name][0], content)})


def http_answer(body: bytes, json_size: int) -> bytes:
    head = f"HTTP/1.1 200 OK\r\nInference-Header-Content-Length: {json_size}\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


@pytest.fixture(scope="module")
def recorded(server: Server, coffee: Path) -> Recorded:
    image, prompt = coffee.read_bytes(), json.dumps({"prompts": [{"boxes": BOXES}]}).encode()
    names = ("COUNT", "IMAGE_SIZE", "BOXES", "SCORES", "MASKS")
    contents = [len(one).to_bytes(4, "little") + one for one in (image, prompt)]
    question = json.dumps(
        {
            "inputs": [
                {"name": name, "shape": [1, 1], "datatype": "BYTES", "parameters": {"binary_data_size": len(content)}}
                for name, content in zip(("IMAGE", "PROMPT"), contents, strict=True)
            ],
            "outputs": [{"name": name, "parameters": {"binary_data": True}} for name in names],
        }
    ).encode()
    connection = http.client.HTTPConnection(server.http, timeout=60)
    headers = {"Inference-Header-Content-Length": str(len(question))}
    connection.request("POST", "/v2/models/fastsam/infer", question + b"".join(contents), headers)
    response = connection.getresponse()
    body, json_size = response.read(), int(response.headers["Inference-Header-Content-Length"])
    connection.close()
    tensors, start = {}, json_size
    for output in json.loads(body[:json_size])["outputs"]:
        size = output["parameters"]["binary_data_size"]
        tensors[output["name"]] = (output["datatype"], body[start : start + size])
        start += size
    return Recorded(tensors, {})


@contextmanager
def answering(content: bytes) -> Iterator[str]:
    """A server that sends these bytes whatever it is asked; its URL."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as listening:
        thread = threading.Thread(target=listening.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{listening.server_port}"
        listening.shutdown()
        thread.join()


def ask(program: Path, content: bytes, image: Path, folder: Path) -> subprocess.CompletedProcess[str]:
    with answering(content) as url:
        return run([str(program), url, str(image)], folder)


def int32(*values: int) -> bytes:
    return np.array(values, np.int32).tobytes()


def element(content: bytes) -> bytes:
    return len(content).to_bytes(4, "little") + content


def test_an_answer_that_was_taken_apart_still_reads(
    sanitized: Path, recorded: Recorded, local: FastSAM, coffee: Path, tmp_path: Path
) -> None:
    """Or the tests below would pass for a wrong reason."""
    done = ask(sanitized, recorded.http(), coffee, tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    check_table(done.stdout, local.segment(coffee, Boxes(BOXES)))


EMPTY = element(b"")
BROKEN: dict[str, tuple[Callable[[Recorded], bytes], str]] = {
    "cut off": (lambda good: replace(good, cut=1).http(), "bytes of"),
    "nothing": (lambda _: b"", "is no HTTP answer"),
    "no HTTP": (lambda _: b"220 mail.example.org ESMTP\r\n" * 4000, "is no HTTP answer"),
    "chunked": (lambda _: b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "header content-length"),
    "said to be huge": (lambda _: b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n", "99999999999 bytes"),
    "a length beyond 64 bits": (
        lambda _: b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\n",
        "header content-length",
    ),
    "JSON longer than the answer": (lambda good: http_answer(good.body()[0], 1 << 40), "shorter than its JSON"),
    "JSON cut off": (lambda good: http_answer(good.body()[0], 40), "is no JSON"),
    "JSON too deep": (lambda _: http_answer(b"[" * 100_000, 100_000), "is no JSON"),
    "JSON that ends in an escape": (lambda _: http_answer(b'{"a\\', 4), "is no JSON"),
    "no outputs": (lambda _: http_answer(b"{}", 2), "has no 'outputs'"),
    "a tensor longer than the answer": (
        lambda good: replace(good, sizes={"MASKS": "4294967296"}).http(),
        "4294967296 bytes",
    ),
    "a size beyond 64 bits": (lambda good: replace(good, sizes={"MASKS": "9" * 30}).http(), "is no size"),
    "a size below nothing": (lambda good: replace(good, sizes={"MASKS": "-1"}).http(), "is no size"),
    "more bytes than tensors": (
        lambda good: http_answer(good.body()[0] + b"\0", good.body()[1]),
        "bytes that belong to no tensor",
    ),
    "no masks": (
        lambda good: replace(good, tensors={n: t for n, t in good.tensors.items() if n != "MASKS"}).http(),
        "has no MASKS",
    ),
    "another dtype": (lambda good: good.having("SCORES", bytes(8), "FP64").http(), "SCORES is FP64, expected FP32"),
    "more segments than boxes": (lambda good: good.having("COUNT", int32(2**31 - 1)).http(), "BOXES has 32 bytes"),
    "less than no segment": (lambda good: good.having("COUNT", int32(-1)).http(), "impossible COUNT"),
    "an image without end": (
        lambda good: good.having("IMAGE_SIZE", int32(2**31 - 1, 2**31 - 1)).http(),
        "IMAGE_SIZE",
    ),
    "an image of no height": (lambda good: good.having("IMAGE_SIZE", int32(0, 600)).http(), "IMAGE_SIZE"),
    "a lower image": (lambda good: good.having("IMAGE_SIZE", int32(300, 600)).http(), "holds more pixels"),
    "a higher image": (lambda good: good.having("IMAGE_SIZE", int32(401, 600)).http(), "holds fewer pixels"),
    "one mask": (lambda good: good.having("MASKS", EMPTY).http(), "MASKS has 1 elements, expected 2"),
    "an element without its length": (lambda good: good.having("MASKS", EMPTY + b"\1\0").http(), "longer than the"),
    "an element longer than all": (
        lambda good: good.having("MASKS", EMPTY + b"\xff\xff\xff\xff0").http(),
        "element 1 is longer than the tensor",
    ),
    "empty masks": (lambda good: good.having("MASKS", EMPTY * 2).http(), "holds fewer pixels"),
    "not of the alphabet": (lambda good: good.having("MASKS", element(b"\xff") * 2).http(), "is no COCO RLE"),
    "a run without end": (lambda good: good.having("MASKS", element(b"o" * 40) * 2).http(), "is no COCO RLE"),
    "a run cut off": (lambda good: good.having("MASKS", element(b"o") * 2).http(), "ends within a run"),
    "a run of less than nothing": (lambda good: good.having("MASKS", element(b"@") * 2).http(), "fits no image"),
    "a run beyond the image": (lambda good: good.having("MASKS", element(b"ooooo0") * 2).http(), "more pixels"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_the_cc_client_refuses_a_broken_answer(
    sanitized: Path, recorded: Recorded, coffee: Path, tmp_path: Path, name: str
) -> None:
    make, message = BROKEN[name]
    done = ask(sanitized, make(recorded), coffee, tmp_path)
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith("client: ") and message in done.stderr


def test_the_cc_client_survives_any_byte(sanitized: Path, recorded: Recorded, coffee: Path, tmp_path: Path) -> None:
    body, json_size = recorded.body()
    draw = random.Random(0)
    codes = []
    for _ in range(240):
        changed = bytearray(body)
        for _ in range(draw.randint(1, 3)):
            changed[draw.randrange(len(body))] = draw.randrange(256)
        done = ask(sanitized, http_answer(bytes(changed), json_size), coffee, tmp_path)
        assert done.returncode in (0, 2), done.stderr
        codes.append(done.returncode)
    assert set(codes) == {0, 2}, "some changes do no harm, most are found"


# --- the README --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def cmake_folder(compiler: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as the repository's, with the client that the README's cmake command makes."""
    if shutil.which("cmake") is None:
        pytest.skip("cmake is not on the path")
    folder = tmp_path_factory.mktemp("readme")
    (folder / "examples").symlink_to(EXAMPLES)
    command = next(line for line in (CLIENTS / "README.md").read_text(encoding="utf-8").splitlines() if "-S " in line)
    done = run(["bash", "-c", command], folder, CXX=compiler, CXXFLAGS="-Werror")
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def readme_runs() -> list[tuple[str, str]]:
    """Each command of the README that is followed by what it prints, and that."""
    text = (CLIENTS / "README.md").read_text(encoding="utf-8")
    return re.findall(r"```bash\n([^\n]+)\n```\n+```text\n(.*?)```", text, re.DOTALL)


def test_the_readme_has_three_runs() -> None:
    assert [Path(command.split()[0]).name for command, _ in readme_runs()] == ["bash", "python", "client"]


@pytest.mark.parametrize(("command", "printed"), readme_runs(), ids=["curl", "python", "cc"])
def test_the_readme_shows_what_is_printed(
    cmake_folder: Path, environment: Environment, server: Server, command: str, printed: str
) -> None:
    if "jq" in command and not (shutil.which("jq") and shutil.which("curl")):
        pytest.skip("jq or curl is not on the path")
    command = command.replace("http://localhost:8000", f"http://{server.http}").replace("localhost:8001", server.grpc)
    done = run(["bash", "-c", re.sub("^python", str(environment.python), command)], cmake_folder)
    assert done.returncode == 0, done.stderr
    assert same_but_for_digits(done.stdout, printed)


def same_but_for_digits(found: str, expected: str) -> bool:
    """Equal texts, numbers within a hundredth, or a thousandth of themselves; in any order of lines."""
    number = re.compile(r"\d+(?:\.\d+)?")
    pairs = list(zip(sorted(found.splitlines()), sorted(expected.splitlines()), strict=True))
    texts = all(number.sub("#", a).split() == number.sub("#", b).split() for a, b in pairs)
    return texts and all(
        np.allclose([float(n) for n in number.findall(a)], [float(n) for n in number.findall(b)], 1e-3, 1e-2)
        for a, b in pairs
    )
