"""The configurations of the Triton models, as text: everything in them follows from the network's spec.

They are text and not protocol buffers, because people read these files, and their comments matter.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from textwrap import indent

from ...runtime.spec import METADATA_KEY, PROTOTYPE_STRIDE, ModelSpec
from ...runtime.wire.question import Limits
from ...runtime.wire.tensors import ANSWER, IMAGE_SIZE, PROMPT, QUESTION
from .blocks import TRITON_DTYPE, Tensor, parameters_block, queue_block, tensor_of, tensors_block

HEAD = "# Written by fastsam-export triton; change its options and write it again.\n"
NEWEST_VERSION = "version_policy { latest { num_versions: 1 } }"
MODELS = ("fastsam", "fastsam_preprocess", "fastsam_engine", "fastsam_postprocess", "fastsam_device")
WARMUP_IMAGE = "image"
_NEWER_LIMITS = {"answer_bytes"}
"""Limits that configurations of earlier versions have not: written where they differ from the default."""


@dataclass(frozen=True)
class Serving:
    """How a network is served.

    Attributes:
        engine: "tensorrt" (`model.plan`), "tensorrt_rtx" (`model.rtx`) or "onnxruntime" (`model.onnx`).
        device: "gpu" or "cpu".
        imgsz: longest side of the network's input, pixels.
        rect: the input is the smallest rectangle around each image; False: a square, so that images of all shapes
            share a batch.
        max_batch: largest batch.
        instances: number of instances of the network on each GPU, and of the whole pipeline.
        threads: CPU threads of an instance of the network; 0: all.
        queue: number of requests that may wait for the network; further ones are refused.
        queue_ms: requests that have waited this long are refused, milliseconds.
        output_dtype: of the network's outputs.
        cache: keep results of the network in Triton's response cache, so that further prompts on the same image cost
            little; the server must be started with a cache.
        clip: content of the `clip.json` of the encoders; "": there are none, and no text prompts.
        limits: limits of a request for one image.

    Example:
        >>> Serving("onnxruntime", "cpu", imgsz=640, rect=True).max_batch
        8
    """

    engine: str
    device: str
    imgsz: int
    rect: bool
    max_batch: int = 8
    instances: int = 1
    threads: int = 0
    queue: int = 128
    queue_ms: int = 10_000
    output_dtype: str = "float32"
    cache: bool = False
    clip: str = ""
    limits: Limits = field(default_factory=Limits)


def config_of(model: str, spec: ModelSpec, serving: Serving) -> str:
    """Write the `config.pbtxt` of one of MODELS.

    Example:
        >>> serving = Serving("onnxruntime", "cpu", imgsz=640, rect=True)
        >>> config_of("fastsam", ModelSpec(), serving).splitlines()[1]
        'name: "fastsam"'
    """
    makers = {
        "fastsam": _ensemble,
        "fastsam_preprocess": _preprocess,
        "fastsam_engine": _engine,
        "fastsam_postprocess": _postprocess,
        "fastsam_device": _device,
    }
    return HEAD + f'name: "{model}"\n{NEWEST_VERSION}\n' + makers[model](spec, serving)


def input_hw(spec: ModelSpec, serving: Serving) -> tuple[int, int]:
    """(H, W) of the network's input, -1 where it depends on the image.

    Example:
        >>> input_hw(ModelSpec(), Serving("onnxruntime", "cpu", imgsz=640, rect=True))
        (-1, -1)
    """
    if spec.fixed_hw is not None:
        return spec.fixed_hw
    return (-1, -1) if serving.rect else (serving.imgsz, serving.imgsz)


def _ensemble(spec: ModelSpec, serving: Serving) -> str:
    images, detections, prototypes = spec.input, spec.detections, spec.prototypes
    outputs = [name for name, *_ in _ANSWER]
    image_again = ""
    if serving.clip:  # text prompts look at the image
        image_again = "".join(f'      input_map {{ key: "{name}" value: "{name}" }}\n' for name in ("IMAGE", "PIXELS"))
    return f"""\
# The public model. Images and prompts in, segments out; between them Triton schedules the network.
platform: "ensemble"
max_batch_size: {serving.max_batch}
{tensors_block("input", _QUESTION, ragged=False)}
{tensors_block("output", _ANSWER)}
ensemble_scheduling {{
  step [
    {{
      model_name: "fastsam_preprocess"
      model_version: -1
      input_map {{ key: "IMAGE" value: "IMAGE" }}
      input_map {{ key: "PIXELS" value: "PIXELS" }}
      input_map {{ key: "PROMPT" value: "PROMPT" }}
      output_map {{ key: "{images}" value: "{images}" }}
      output_map {{ key: "IMAGE_SIZE" value: "image_size" }}
    }},
    {{
      model_name: "fastsam_engine"
      model_version: -1
      input_map {{ key: "{images}" value: "{images}" }}
      output_map {{ key: "{detections}" value: "{detections}" }}
      output_map {{ key: "{prototypes}" value: "{prototypes}" }}
    }},
    {{
      model_name: "fastsam_postprocess"
      model_version: -1
      input_map {{ key: "{detections}" value: "{detections}" }}
      input_map {{ key: "{prototypes}" value: "{prototypes}" }}
      input_map {{ key: "IMAGE_SIZE" value: "image_size" }}
      input_map {{ key: "PROMPT" value: "PROMPT" }}
{image_again}{indent(chr(10).join(f'output_map {{ key: "{name}" value: "{name}" }}' for name in outputs), " " * 6)}
    }}
  ]
}}
# The client reads what the network is from here.
{parameters_block(_shared(spec, serving))}"""


def _preprocess(spec: ModelSpec, serving: Serving) -> str:
    height, width = input_hw(spec, serving)
    images = (spec.input, TRITON_DTYPE[spec.input_dtype], f"3, {height}, {width}", False)
    return f"""\
backend: "python"
max_batch_size: {serving.max_batch}
{tensors_block("input", _QUESTION)}
{tensors_block("output", [images, *_SIZE])}
# Decoding is work of one core for each instance.
instance_group [ {{ count: 2 kind: KIND_CPU }} ]
{_queue(serving, 0)}
{parameters_block(_shared(spec, serving))}
{_warmup("fastsam_preprocess", spec, serving, [1])}"""


def _engine(spec: ModelSpec, serving: Serving) -> str:
    height, width = input_hw(spec, serving)
    dtype = TRITON_DTYPE[spec.input_dtype]
    images = [(spec.input, dtype, f"3, {height}, {width}", False)]
    # A plan runs on GPUs only: left to Triton, the file also loads with a stand-in on a CPU.
    kind = "" if serving.engine == "tensorrt" else f" kind: KIND_{serving.device.upper()}"
    threads = {"intra_op_thread_count": str(serving.threads)} if serving.engine == "onnxruntime" else {}
    lines = [
        'platform: "tensorrt_plan"' if serving.engine == "tensorrt" else 'backend: "onnxruntime"',
        f"max_batch_size: {serving.max_batch}",
        tensors_block("input", images),
        tensors_block("output", _raw(spec, serving)),
        "# Two instances let one copy while the other computes." if serving.instances > 1 else "",
        f"instance_group [ {{ count: {serving.instances}{kind} }} ]",
        "# Images of one shape share a batch; waiting longer than this for more of them gains nothing.",
        _queue(serving, 2000 if serving.device == "gpu" else 0),
        _cuda(spec, serving) if serving.engine == "tensorrt" else "",
        "# Prompts and thresholds are no inputs of the network: for the same image it has the same answer.\n"
        "response_cache { enable: true }"
        if serving.cache
        else "",
        "# The first is for clients that run the other stages themselves.",
        parameters_block({METADATA_KEY: spec.to_json(), **threads}),
        "# Every batch size once before the first client comes: memory, kernels and CUDA graphs are ready then."
        if serving.device == "gpu"
        else "",
        _warmup("fastsam_engine", spec, serving, range(1, serving.max_batch + 1) if serving.device == "gpu" else [1]),
    ]
    return "\n".join(line for line in lines if line)


def _postprocess(spec: ModelSpec, serving: Serving) -> str:
    inputs = [*_raw(spec, serving), *_SIZE, *_PROMPT_INPUT, *(_IMAGE_FORMS if serving.clip else [])]
    return f"""\
backend: "python"
max_batch_size: {serving.max_batch}
{tensors_block("input", inputs)}
{tensors_block("output", _ANSWER)}
instance_group [ {{ count: 2 kind: KIND_CPU }} ]
# No batches here: an answer leaves when it is ready.
{parameters_block({**_shared(spec, serving), **_clip(serving)})}
"""


def _device(spec: ModelSpec, serving: Serving) -> str:
    model = {"tensorrt": "model.plan", "tensorrt_rtx": "model.rtx"}.get(serving.engine, "model.onnx")
    file = {"model": model, "threads": str(serving.threads or "")}
    alone = _NO_BACKEND if serving.engine == "tensorrt_rtx" else ""
    kind = "KIND_CPU" if serving.device == "cpu" else "KIND_GPU"
    return f"""\
# The whole pipeline in one process: the network's tensors never leave it.
{alone}backend: "python"
max_batch_size: {serving.max_batch}
{tensors_block("input", _QUESTION)}
{tensors_block("output", _ANSWER)}
instance_group [ {{ count: {serving.instances} kind: {kind} }} ]
{_queue(serving, 2000 if serving.device == "gpu" else 0)}
{parameters_block({**_shared(spec, serving), **file, **_clip(serving)})}
{_warmup("fastsam_device", spec, serving, [1])}"""


_NO_BACKEND = """\
# Triton has no backend for plans of TensorRT for RTX, so there is no ensemble in this repository. The server's Python
# needs fastsam-deploy with the extra [rtx]; NVIDIA's licence does not allow its libraries in images that are passed on.
"""

_QUESTION = [tensor_of(tensor, optional=True) for tensor in QUESTION]
_IMAGE_FORMS = [tensor for tensor in _QUESTION if tensor[0] != PROMPT]
_PROMPT_INPUT = [tensor for tensor in _QUESTION if tensor[0] == PROMPT]
_ANSWER = [tensor_of(tensor) for tensor in ANSWER]
_SIZE = [tensor for tensor in _ANSWER if tensor[0] == IMAGE_SIZE]


def _raw(spec: ModelSpec, serving: Serving) -> list[Tensor]:
    height, width = input_hw(spec, serving)
    dtype = TRITON_DTYPE[serving.output_dtype]
    anchors = f"{spec.box_values + spec.class_count + spec.mask_dim}, -1"
    rows = f"-1, {6 + spec.mask_dim}" if spec.suppressed else anchors
    sides = ", ".join(str(side if side < 0 else side // PROTOTYPE_STRIDE) for side in (height, width))
    return [
        (spec.detections, dtype, rows, False),
        (spec.prototypes, dtype, f"{spec.mask_dim}, {sides}", False),
    ]


def _queue(serving: Serving, delay_us: int) -> str:
    return queue_block(serving.queue, serving.queue_ms, delay_us)


def _cuda(spec: ModelSpec, serving: Serving) -> str:
    height, width = input_hw(spec, serving)
    shape = f'input {{ key: "{spec.input}" value {{ dim: [ 3, {height}, {width} ] }} }}'
    graphs = "\n".join(f"    graph_spec {{ batch_size: {size} {shape} }}" for size in range(1, serving.max_batch + 1))
    return f"""\
optimization {{
  input_pinned_memory {{ enable: true }}
  output_pinned_memory {{ enable: true }}
  cuda {{
    # Only batch sizes that are listed get a graph.
    graphs: true
    busy_wait_events: true
    output_copy_stream: true
{graphs}
  }}
}}"""


def _warmup(model: str, spec: ModelSpec, serving: Serving, sizes: range | list[int]) -> str:
    """A photograph, which the builder writes; zeros for the network, which takes as long for them."""
    if model != "fastsam_engine":
        value = f'input_data_file: "{WARMUP_IMAGE}"'
        key, dtype, dims = "IMAGE", "TYPE_STRING", "1"
    else:
        height, width = _warmup_hw(spec, serving)
        value = "zero_data: true"
        key, dtype, dims = spec.input, TRITON_DTYPE[spec.input_dtype], f"3, {height}, {width}"
    blocks = [
        f'  {{ name: "batch of {size}" batch_size: {size} inputs {{ key: "{key}" value '
        f"{{ data_type: {dtype} dims: [ {dims} ] {value} }} }} }}"
        for size in sizes
    ]
    return "model_warmup [\n" + ",\n".join(blocks) + "\n]\n"


def _warmup_hw(spec: ModelSpec, serving: Serving) -> tuple[int, int]:
    """(H, W) of the network's input for the warm-up: of a photograph of 3:2 where it depends on the image."""
    if spec.fixed_hw is not None or not serving.rect:
        return input_hw(spec, serving)
    return -(-serving.imgsz * 2 // 3 // spec.stride) * spec.stride, serving.imgsz


def _clip(serving: Serving) -> dict[str, str]:
    return {"clip": serving.clip} if serving.clip else {}


def _shared(spec: ModelSpec, serving: Serving) -> dict[str, str]:
    """What preprocessing, postprocessing and client must agree on."""
    usual, given = asdict(Limits()), asdict(serving.limits)
    kept = {name: value for name, value in given.items() if name not in _NEWER_LIMITS or value != usual[name]}
    limits = {f"limit_{name}": str(value) for name, value in kept.items()}
    rect = "true" if serving.rect and spec.fixed_hw is None else "false"
    return {METADATA_KEY: spec.to_json(), "imgsz": str(serving.imgsz), "rect": rect, **limits}
