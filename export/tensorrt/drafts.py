"""A plan and its JSON, which appear together or not at all."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from ...runtime.engines.tensorrt.record import PlanRecord, record_path
from ...runtime.spec import ModelSpec
from ...runtime.system.atomic import drafts_of
from ..errors import ExportError
from .profiles import spec_for
from .request import Request

if TYPE_CHECKING:
    from ...runtime.cuda.driver.device import Device


def record_of(
    request: Request, spec: ModelSpec, plan: bytes, content: bytes, version: str | None, device: Device | None
) -> PlanRecord:
    """What is known of a plan when it is built.

    Args:
        request: for the plan.
        spec: of the ONNX file in the precision of the plan.
        plan, content: of the plan and of that file.
        version: of the library that built it.
        device: that it was built on; None: on none, or not known.

    Example:
        >>> record = record_of(request, spec, plan, content, "11.4.0.106", None)  # doctest: +SKIP
    """
    tools = {**spec.tools, **({request.library.engine: version} if version else {})}
    return PlanRecord(
        spec=replace(spec_for(spec, request.profiles), tools=tools),
        profiles=request.profiles,
        plan_sha256=hashlib.sha256(plan).hexdigest(),
        plan_bytes=len(plan),
        tensorrt=version,
        gpu=device.name if device else None,
        compute_capability=".".join(map(str, device.compute_capability)) if device else None,
        gpus=request.settings.gpus,
        version_compatible=request.settings.version_compatible,
        hardware_compatible="ampere_plus" if request.settings.hardware_compatible else "none",
        onnx_sha256=hashlib.sha256(content).hexdigest(),
        command=request.command,
    )


def write_pair(plan_path: Path, plan: bytes, record: PlanRecord) -> None:
    """Write a plan and its JSON, as drafts.

    Example:
        >>> write_pair(draft, plan, record)  # doctest: +SKIP
    """
    plan_path.write_bytes(plan)
    write_record(plan_path, record)


def write_record(plan_path: Path, record: PlanRecord) -> None:
    """Write the JSON of a plan, as a draft.

    Example:
        >>> write_record(draft, replace(record, compared=("scores 1e-4",)))  # doctest: +SKIP
    """
    record_path(plan_path).write_text(record.to_json(), encoding="utf-8")


@contextmanager
def plan_draft(plan: Path) -> Iterator[Path]:
    """A draft of the plan, with one of its JSON beside it.

    The JSON is renamed first: between the two renames the old plan does not match the new JSON, and is refused.

    Example:
        >>> with plan_draft(Path("fastsam.plan")) as draft:  # doctest: +SKIP
        ...     write_pair(draft, plan, record)
    """
    with drafts_of(record_path(plan), plan, parents=True, error=ExportError) as (_, draft):
        yield draft
