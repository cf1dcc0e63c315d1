"""Train the demo model: YOLOv8n-seg, one class `object`, on painted scenes and self-labelled photographs.

    python -m scripts.demo_model.train --out demo.pt --pool pool --scenes 8000 --minutes 60 --init scratch

The learning rate follows the clock, not the step count: on a slow or shared machine the run takes fewer steps but
still anneals by its end.
"""

# ruff: noqa: TID251 - training and scoring need torch and ultralytics; the runtime imports neither
from __future__ import annotations

import argparse
import copy
import datetime
import math
import os
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path

# On a shared machine a spinning thread starves the one it waits for (measured: a quarter of the speed).
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import torch
import ultralytics
from ultralytics.cfg import get_cfg
from ultralytics.nn.tasks import SegmentationModel

from fastsam_deploy.runtime.system.atomic import draft_of

from .loss import RegionLoss
from .parallel import Team, ThreadTuner, run_together
from .scenes.pool import BatchMaker, Size, fill_pool

LICENSE = "AGPL-3.0 (https://ultralytics.com/license)"
NAMES = {0: "object"}
HELD_OUT_SEED = 900_000_000  # scenes from here on are for evaluation and are never trained on
WARM_UP = 0.03


@dataclass(frozen=True)
class Stage:
    """View size in use until a share of the run is over."""

    size: Size
    until: float


def parse_stages(text: str) -> list[Stage]:
    """Read "320x448:0.5,448x640:1": height x width, and the share of the run at which each stage ends."""
    stages = []
    for item in text.split(","):
        try:
            size, until = item.split(":")
            height, width = (int(v) for v in size.split("x"))
            stages.append(Stage((height, width), float(until)))
        except ValueError as error:
            raise SystemExit(f"--stages: found {item!r}, expected HEIGHTxWIDTH:SHARE as in 448x640:1") from error
        if height % 32 or width % 32:
            raise SystemExit(f"--stages: found {height}x{width}, expected multiples of 32 (the largest stride)")
    if not stages or stages[-1].until < 1:
        raise SystemExit("--stages: the last stage must end at share 1")
    return stages


def build_model(init: str, device: torch.device) -> SegmentationModel:
    """Build the network with random weights ("scratch") or those of a checkpoint of this architecture (a path)."""
    model = SegmentationModel("yolov8n-seg.yaml", nc=len(NAMES), verbose=False)
    if init != "scratch":
        path = Path(init)
        if not path.is_file():
            raise SystemExit(f"--init: found no file {path}; expected `scratch` or an ultralytics .pt checkpoint")
        # The file holds a pickled network, as every ultralytics checkpoint does: load only files that you trust.
        stored = torch.load(path, map_location="cpu", weights_only=False)
        weights = (stored.get("ema") or stored["model"]).float().state_dict()
        missing = set(model.state_dict()) ^ set(weights)
        if missing:
            raise SystemExit(f"--init: {path} differs in {len(missing)} tensors from YOLOv8n-seg with one class; "
                             "pass a checkpoint of that architecture")  # fmt: skip
        model.load_state_dict(weights)
    model.names = dict(NAMES)
    model.args = get_cfg(overrides={"task": "segment", "overlap_mask": False, "mask_ratio": 4})
    return model.to(device, memory_format=torch.channels_last)


def build_optimizer(model: SegmentationModel, decay: float) -> torch.optim.AdamW:
    """AdamW that spares norms and biases from weight decay."""
    matrices = [p for p in model.parameters() if p.ndim > 1 and p.requires_grad]
    vectors = [p for p in model.parameters() if p.ndim <= 1 and p.requires_grad]
    groups = [{"params": matrices, "weight_decay": decay}, {"params": vectors, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=0.0, betas=(0.9, 0.99))


def learning_rate(progress: float, peak: float) -> float:
    """Linear warm-up, then half a cosine down to a hundredth of `peak`; `progress` runs from 0 to 1."""
    if progress < WARM_UP:
        return peak * (0.05 + 0.95 * progress / WARM_UP)
    share = min((progress - WARM_UP) / (1 - WARM_UP), 1.0)
    return peak * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * share)))


@torch.no_grad()
def update_average(average: SegmentationModel, model: SegmentationModel, step: int) -> None:
    """Move the running average of all weights and statistics towards `model`; slower once many steps are in."""
    keep = min(0.998, (1 + step) / (20 + step))
    targets, sources = average.state_dict(), model.state_dict()
    floats = [name for name, value in targets.items() if value.is_floating_point()]
    torch._foreach_lerp_([targets[n] for n in floats], [sources[n] for n in floats], 1 - keep)


def save_checkpoint(average: SegmentationModel, path: Path, record: dict[str, object]) -> None:
    """Write an ultralytics checkpoint (half precision, no optimizer) under a temporary name, then rename it."""
    model = copy.deepcopy(average).half().to("cpu", memory_format=torch.contiguous_format)
    model.criterion = None
    arguments = {"task": "segment", "mode": "train", "model": "yolov8n-seg.yaml", "imgsz": 640, "single_cls": True,
                 "overlap_mask": False, "mask_ratio": 4, "data": None}  # fmt: skip
    model.args = arguments
    for parameter in model.parameters():
        parameter.requires_grad = False
    stored = {
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(),
        "version": ultralytics.__version__,
        "license": LICENSE,
        "docs": "https://docs.ultralytics.com",
        "epoch": -1,
        "best_fitness": None,
        "model": model,
        "ema": None,
        "updates": None,
        "optimizer": None,
        "train_args": arguments,
        "train_metrics": {},
        "recipe": record,
    }
    with draft_of(path, parents=True) as draft:
        torch.save(stored, draft)


def wait_while_paused(pause: Path | None) -> None:
    """Sleep while the file `pause` exists, so that others can measure on this machine undisturbed."""
    while pause is not None and pause.exists():
        time.sleep(2)


def gradients(model: SegmentationModel, loss: RegionLoss, optimizer: torch.optim.Optimizer,
              batch: dict[str, torch.Tensor], device: torch.device) -> torch.Tensor:  # fmt: skip
    """Set the gradients of a batch; returns the loss terms (box, mask, class, dfl) per image, float (4,)."""
    batch = {name: value.to(device, non_blocking=True) for name, value in batch.items()}
    images = batch["img"].float().div_(255).contiguous(memory_format=torch.channels_last)
    with torch.autocast(device.type, torch.bfloat16):
        found = model(images)
    found = {name: value.float() if torch.is_tensor(value) else value for name, value in found.items()}
    loss.complete = batch.pop("complete")
    terms, _ = loss(found, batch)
    optimizer.zero_grad(set_to_none=True)
    terms.sum().backward()
    return terms.detach()[:4] / len(images)


def take_step(model: SegmentationModel, optimizer: torch.optim.Optimizer) -> None:
    """Follow the gradients, clipped."""
    torch.nn.utils.clip_grad_norm_(model.parameters(), 10.0)
    optimizer.step()


def train(team: Team, args: argparse.Namespace, paths: list[Path]) -> None:
    """Train until the time is up, and write the checkpoint; every process of the team calls it."""
    device = torch.device(args.device)
    stages = parse_stages(args.stages)
    torch.manual_seed(args.seed + team.rank)
    model = build_model(args.init, device).train()
    maker = BatchMaker(paths, args.batch, args.seed + team.rank, stages[0].size, threads=args.threads)
    loss, optimizer = RegionLoss(model, args.positive_weight), build_optimizer(model, args.decay)
    average = copy.deepcopy(model).eval()
    record = {name: str(value) for name, value in vars(args).items() if name not in ("out", "pool", "pause")}
    record["init"] = Path(args.init).name
    start = saved = logged = time.monotonic()
    step, progress, smooth = 0, 0.0, torch.zeros(4, device=device)
    batches, tuner = iter(maker), ThreadTuner(torch.get_num_threads())
    while progress < 1:
        wait_while_paused(args.pause)
        maker.target = next(stage.size for stage in stages if progress < stage.until or stage is stages[-1])
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(progress, args.lr)
        batch = next(batches)
        threads, begun = tuner.choose(), time.monotonic()
        torch.set_num_threads(threads)
        terms = gradients(model, loss, optimizer, batch, device)
        progress = team.average(model, min((time.monotonic() - start) / (args.minutes * 60), 1.0))
        take_step(model, optimizer)
        tuner.report(threads, time.monotonic() - begun)
        step += 1
        if not team.leads:
            continue
        update_average(average, model, step)
        smooth = terms if step == 1 else smooth.lerp(terms, 0.03)
        now = time.monotonic()
        if now - logged > 30:
            logged = now
            shown = " ".join(f"{v:.3f}" for v in smooth.tolist())
            speed = step * args.batch * team.size / (now - start)
            print(f"{progress:6.1%} step {step} {speed:.1f} img/s {threads} threads  loss {shown}", flush=True)
        if now - saved > args.save_minutes * 60:
            saved = now
            save_checkpoint(average, args.out, {**record, "steps": step, "finished": False})
    if team.leads:
        views = step * args.batch * team.size
        save_checkpoint(average, args.out, {**record, "steps": step, "images": views, "finished": True})
        print(f"done: {step} steps, {views} views")


def pool_of(args: argparse.Namespace) -> list[Path]:
    """Paint the scenes that are missing; the files of scenes and photographs, the latter more than once if told so."""
    paths = fill_pool(args.pool, args.first_seed, args.scenes, args.workers)
    if args.photographs:
        paths += sorted(args.photographs.glob("*.npz")) * args.photograph_weight
    return paths


def parse_arguments(words: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="checkpoint to write (.pt)")
    parser.add_argument("--pool", type=Path, required=True, help="folder of painted scenes, filled as needed")
    parser.add_argument("--photographs", type=Path, help="folder of labelled photographs (scripts.demo_model.guess)")
    parser.add_argument("--photograph-weight", type=int, default=1, help="how often a photograph is in the pool")
    parser.add_argument("--scenes", type=int, default=8000, help="number of scenes")
    parser.add_argument("--first-seed", type=int, default=0, help="seed of the first scene")
    parser.add_argument("--minutes", type=float, default=60, help="training time, painting not counted")
    parser.add_argument("--init", default="scratch", help="`scratch` or a checkpoint to start from")
    parser.add_argument("--stages", default="320x448:0.5,448x640:1", help="view sizes and when each ends")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--lr", type=float, default=1.2e-3, help="peak learning rate")
    parser.add_argument("--decay", type=float, default=0.01, help="weight decay")
    parser.add_argument("--positive-weight", type=float, default=3.0, help="weight of positives in the class loss")
    parser.add_argument("--seed", type=int, default=0, help="seed of weights and views")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="processes that paint")
    parser.add_argument("--threads", type=int, default=1, help="threads that cut views")
    parser.add_argument("--processes", type=int, default=1, help="processes that train, each with batches of its own")
    parser.add_argument("--save-minutes", type=float, default=3)
    parser.add_argument("--pause", type=Path, default=None, help="training sleeps while this file exists")
    args = parser.parse_args(words)
    if args.device.startswith("cuda") and not torch.cuda.is_available():
        raise SystemExit("--device cuda: found no CUDA device; install a CUDA build of torch or pass --device cpu")
    if min(args.scenes, args.batch, args.processes, args.photograph_weight) < 1 or args.minutes <= 0:
        raise SystemExit(f"found --scenes {args.scenes} --batch {args.batch} --processes {args.processes} "
                         f"--photograph-weight {args.photograph_weight} --minutes {args.minutes}; "
                         "expected positive numbers")  # fmt: skip
    if args.processes > 1 and args.device != "cpu":
        raise SystemExit(f"--processes {args.processes}: found --device {args.device}, expected cpu")
    if args.first_seed + args.scenes > HELD_OUT_SEED:
        raise SystemExit(f"--first-seed: scenes from {HELD_OUT_SEED} on are held out for evaluation; pass a lower seed")
    return args


def main() -> None:
    """Train from the command line."""
    args = parse_arguments()
    run_together(partial(train, args=args, paths=pool_of(args)), args.processes)


if __name__ == "__main__":
    main()
