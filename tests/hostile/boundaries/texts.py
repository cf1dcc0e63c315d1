"""Texts that people and programs write: prompts, settings, addresses, descriptions beside models."""

from __future__ import annotations

import json
from pathlib import Path

from fastsam_deploy.runtime.app.prompt_state import PromptState
from fastsam_deploy.runtime.clip.spec import clip_spec_from_json
from fastsam_deploy.runtime.connection import Address
from fastsam_deploy.runtime.engines.tensorrt.plan_file import read_plan
from fastsam_deploy.runtime.errors import ParameterError
from fastsam_deploy.runtime.measure.run import parse_model
from fastsam_deploy.runtime.prompts.base import looks_at_image
from fastsam_deploy.runtime.prompts.kinds import prompt_from_json
from fastsam_deploy.runtime.serving.parameters import Parameters
from fastsam_deploy.runtime.spec import ModelSpec, imgsz_for
from fastsam_deploy.runtime.system.scratch import scratch_folder
from fastsam_deploy.runtime.wire.question import Limits, Question
from tests.hostile.boundaries.segments import sample
from tests.hostile.boundary import Boundary

ROOT = Path(__file__).resolve().parents[3]

PROMPTS = (
    {"points": [[5, 5], [10.5, 8]], "labels": [1, 0], "mode": "merge", "clean": True},
    {"boxes": [[1, 2, 30, 20]]},
    {"text": ["a dog"], "mode": "crops"},
    {"everything": True},
)


def _prompt_seeds() -> list[bytes]:
    return [json.dumps(prompt).encode() for prompt in PROMPTS]


def _read_prompt(content: bytes) -> None:
    try:
        document = json.loads(content)
    except (ValueError, RecursionError):
        return  # the command line and the server say so before
    prompt = prompt_from_json(document, "--prompt")
    prompt.check_inside((40, 60))
    if "text" not in document:
        sample().select(prompt)


def _action_seeds() -> list[bytes]:
    actions = ({"point": [5.5, 5], "foreground": False, "image": 1}, {"box": [30, 20, 1, 2]}, {"text": "a dog, a cat"})
    return [json.dumps(action).encode() for action in (*actions, {"mode": "boxes"}, {"clear": True}, {"undo": True})]


def _read_action(content: bytes) -> None:
    """What a web page sends for a click, on an image of (40, 60) pixels."""
    try:
        action = json.loads(content)
    except (ValueError, RecursionError):
        return  # Gradio says so before
    prompt = PromptState().after(action if isinstance(action, dict) else {}).prompt()
    if prompt is not None and not looks_at_image(prompt):
        sample().select(prompt)


def _question_seeds() -> list[bytes]:
    questions = (
        {},
        {"conf": 0.3, "iou": 0.7, "max_det": 20, "masks": "bits", "prompts": PROMPTS[:2]},
        {"prompts": [PROMPTS[3]]},
    )
    return [json.dumps(question).encode() for question in questions]


def _read_question(content: bytes) -> None:
    limits = Limits()
    question = Question.from_json(content, limits)
    question.check_inside((40, 60))
    if not question.looks_at_the_image:
        question.select_from(sample(), limits)
    Question.from_json(question.to_json(), limits)


def _spec_seeds() -> list[bytes]:
    return [ModelSpec().to_json().encode(), ModelSpec(batch=1, size_hw=(64, 96), imgsz=96).to_json().encode()]


def _read_spec(content: bytes) -> None:
    spec = ModelSpec.from_json(content.decode("utf-8", "replace"))
    imgsz_for(spec, None)
    ModelSpec.from_json(spec.to_json())


def _clip_seeds() -> list[bytes]:
    return [(ROOT / "tests/data/clip-tiny/clip.json").read_bytes()]


def _read_clip(content: bytes) -> None:
    clip_spec_from_json(content.decode("utf-8", "replace"))


def _tokenizer_seeds() -> list[bytes]:
    return [(ROOT / "tests/data/clip-tiny/tokenizer.json").read_bytes()]


def _read_tokenizer(content: bytes) -> None:
    from fastsam_deploy.runtime.clip.encoders import _as_model_error, _open_tokenizer

    with scratch_folder() as folder:
        path = Path(folder, "tokenizer.json")
        path.write_bytes(content)
        tokenizer = _open_tokenizer(path)
    with _as_model_error("its tokenizer fails"):  # as `TextEncoder.tokens` does
        tokenizer.encode("a photo of a dog, é")


_PLAN = b"ftrt" + bytes(20) + bytes([10, 16, 1, 11]) + bytes(100)


def _record_seeds() -> list[bytes]:
    shapes = {"min": [1, 3, 64, 64], "opt": [1, 3, 64, 64], "max": [1, 3, 64, 64]}
    plain = {"spec": json.loads(ModelSpec().to_json()), "profiles": [shapes], "tensorrt": "10.16.1.11", "gpu": "L4"}
    return [json.dumps(plain).encode(), json.dumps({**plain, "plan_bytes": 128, "compared": []}).encode()]


def _read_record(content: bytes) -> None:
    with scratch_folder() as folder:
        Path(folder, "x.plan").write_bytes(_PLAN)
        Path(folder, "x.json").write_bytes(content)
        read_plan(Path(folder, "x.plan"))


def _plan_seeds() -> list[bytes]:
    header = json.dumps({"names": {"0": "object"}, "imgsz": [64, 64], "stride": 32, "task": "segment"}).encode()
    return [_PLAN, len(header).to_bytes(4, "little") + header + _PLAN]


def _read_plan(content: bytes) -> None:
    with scratch_folder() as folder:
        path = Path(folder, "x.engine")
        path.write_bytes(content)
        read_plan(path)


def _word_seeds() -> list[bytes]:
    models = (b"int8=models/m.onnx@threads=1,engine=openvino", b"m.onnx@imgsz=64,device=cuda:1")
    addresses = (b"grpc://localhost:8001/fastsam", b"https://[::1]:8000/a/b/fastsam/2", b"grpc://dns://1.1.1.1/h/m")
    return [*models, *addresses]


def _read_word(content: bytes) -> None:
    text = content.decode("utf-8", "surrogateescape").replace("\0", "")  # as arguments of a command are
    parse_model(text)
    Address.from_text(text)


def _configuration_seeds() -> list[bytes]:
    texts = {"imgsz": "64", "rect": "false", "limit_prompts": "10", "fastsam_deploy": ModelSpec().to_json()}
    return [json.dumps({"parameters": {name: {"string_value": text} for name, text in texts.items()}}).encode()]


def _read_configuration(content: bytes) -> None:
    """The operator writes it, with an editor: values of any text, but of the structure that Triton checks."""
    try:
        given = json.loads(content)["parameters"].items()
        texts = {str(name): {"string_value": part["string_value"]} for name, part in given}
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return
    if not all(isinstance(part["string_value"], str) for part in texts.values()):
        return
    parameters = Parameters({"parameters": texts})
    assert isinstance(parameters.limits, Limits)
    assert isinstance(parameters.rect, bool)
    imgsz_for(parameters.spec, parameters.number("imgsz"))


def _size_seeds() -> list[bytes]:
    return [b"1024", b"768,1024"]


def _read_size(content: bytes) -> None:
    import importlib.util

    if importlib.util.find_spec("onnx") is None:
        raise ParameterError("needs the extra [export]")
    from fastsam_deploy.export.cli.main import size_from_text

    size_from_text(content.decode("utf-8", "surrogateescape"))


BOUNDARIES = [
    Boundary("prompt", _prompt_seeds, _read_prompt, text=True, share=2.0),
    Boundary("page-action", _action_seeds, _read_action, text=True),
    Boundary("question", _question_seeds, _read_question, text=True, share=2.0),
    Boundary("model-spec", _spec_seeds, _read_spec, text=True),
    Boundary("clip-spec", _clip_seeds, _read_clip, text=True),
    Boundary("tokenizer", _tokenizer_seeds, _read_tokenizer, text=True, share=0.3),
    Boundary("plan-record", _record_seeds, _read_record, text=True),
    Boundary("plan", _plan_seeds, _read_plan),
    Boundary("word", _word_seeds, _read_word),
    Boundary("configuration", _configuration_seeds, _read_configuration, text=True),
    Boundary("size", _size_seeds, _read_size, share=0.3),
]
