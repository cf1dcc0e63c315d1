"""Shapes that a plan is built for."""

from __future__ import annotations

from dataclasses import replace

import pytest

from fastsam_deploy.export.tensorrt.profiles import profiles_for, spec_for
from fastsam_deploy.runtime.engines.tensorrt.record import ShapeRange
from fastsam_deploy.runtime.errors import ModelError, ParameterError
from fastsam_deploy.runtime.spec import ModelSpec
from fastsam_deploy.runtime.stages.letterbox import fit_rectangle

DYNAMIC = ModelSpec(imgsz=1024)
FIXED = ModelSpec(imgsz=1024, batch=1, size_hw=(768, 1024))
BATCHES = ModelSpec(imgsz=640, size_hw=(640, 640))


def test_a_fixed_model_gets_its_shape() -> None:
    shape = (1, 3, 768, 1024)
    assert profiles_for(FIXED) == (ShapeRange(shape, shape, shape),)


def test_a_model_of_fixed_size_gets_batches() -> None:
    assert profiles_for(BATCHES) == (ShapeRange((1, 3, 640, 640), (8, 3, 640, 640), (8, 3, 640, 640)),)
    assert profiles_for(BATCHES, max_batch=2)[0].max == (2, 3, 640, 640)


def test_a_dynamic_model_gets_the_usual_rectangles() -> None:
    whole, photos, videos = profiles_for(DYNAMIC)
    assert whole == ShapeRange((1, 3, 32, 32), (8, 3, 1024, 1024), (8, 3, 1024, 1024))
    assert photos == ShapeRange((1, 3, 32, 32), (1, 3, 768, 1024), (8, 3, 768, 1024))
    assert videos == ShapeRange((1, 3, 32, 32), (1, 3, 576, 1024), (8, 3, 576, 1024))
    assert [r.opt[2:] for r in profiles_for(DYNAMIC, imgsz=640)] == [(640, 640), (480, 640), (384, 640)]


@pytest.mark.parametrize("imgsz", [320, 640, 1024, 1280])
@pytest.mark.parametrize("image_hw", [(1080, 1920), (1920, 1080), (3000, 4000), (321, 481), (200, 4000), (7, 1)])
def test_every_images_rectangle_is_taken(imgsz: int, image_hw: tuple[int, int]) -> None:
    rectangle = fit_rectangle(image_hw, imgsz).input_hw
    profiles = profiles_for(DYNAMIC, imgsz=imgsz, max_batch=4)
    assert profiles[0].holds((4, 3, *rectangle))
    if image_hw == (1080, 1920):
        assert profiles[2].opt[2:] == rectangle
    if image_hw == (3000, 4000):
        assert profiles[1].opt[2:] == rectangle


def test_shapes_are_read() -> None:
    given = ["1x3x576x1024, 1x576x1024,2x576X1024", "1x640x640,4x1024x1024,8x1024x1024"]
    large, wide = profiles_for(DYNAMIC, given)
    assert large == ShapeRange((1, 3, 640, 640), (4, 3, 1024, 1024), (8, 3, 1024, 1024))  # the largest comes first
    assert wide == ShapeRange((1, 3, 576, 1024), (1, 3, 576, 1024), (2, 3, 576, 1024))
    assert profiles_for(BATCHES, ["1,4,8"]) == (ShapeRange((1, 3, 640, 640), (4, 3, 640, 640), (8, 3, 640, 640)),)


@pytest.mark.parametrize(
    ("spec", "shapes", "settings", "message"),
    [
        (DYNAMIC, ["1x640x640"], {}, "expected min,opt,max"),
        (DYNAMIC, ["1,2,x"], {}, "expected min,opt,max"),
        (DYNAMIC, ["1x4x640x640,1x640x640,1x640x640"], {}, "expected min,opt,max"),
        (DYNAMIC, ["1x640x640,1x640x650,1x640x672"], {}, "640x650, expected multiples of the stride 32"),
        (DYNAMIC, ["4x640x640,1x640x640,8x640x640"], {}, "min <= opt <= max"),
        (DYNAMIC, ["0x640x640,1x640x640,8x640x640"], {}, "all 1 or more"),
        (DYNAMIC, ["1,2,4"], {"max_batch": 4}, "leave one out"),
        (DYNAMIC, [], {"max_batch": 0}, "expected 1 or more"),
        (DYNAMIC, [], {"imgsz": 1000}, "multiple of the network's stride"),
        (BATCHES, ["1x640x640,1x640x672,1x640x672"], {}, "width 672, the model takes 640 only"),
        (BATCHES, [], {"imgsz": 1024}, "takes only inputs of 640 x 640"),
        (FIXED, ["1,1,2"], {}, "batch 2, the model takes 1 only"),
        (FIXED, [], {"max_batch": 4}, "takes batches of 1 only"),
    ],
)
def test_what_does_not_fit_is_refused(
    spec: ModelSpec, shapes: list[str], settings: dict[str, int], message: str
) -> None:
    with pytest.raises(ParameterError, match=message):
        profiles_for(spec, shapes, **settings)


def test_the_plans_spec_has_what_its_profiles_fix() -> None:
    made = spec_for(DYNAMIC, profiles_for(DYNAMIC, ["1x576x1024,2x576x1024,4x576x1024"]))
    assert made == replace(DYNAMIC, batch=None, size_hw=(576, 1024), imgsz=1024)
    assert spec_for(DYNAMIC, profiles_for(DYNAMIC, imgsz=640)) == replace(DYNAMIC, imgsz=640)
    assert spec_for(FIXED, profiles_for(FIXED)) == FIXED


def test_a_range_holds_its_ends() -> None:
    shapes = ShapeRange((1, 3, 32, 32), (1, 3, 64, 64), (2, 3, 64, 96))
    assert shapes.holds((1, 3, 32, 32)) and shapes.holds((2, 3, 64, 96))
    for shape in [(0, 3, 32, 32), (3, 3, 32, 32), (1, 3, 65, 64), (1, 3, 64), (1, 1, 64, 64)]:
        assert not shapes.holds(shape)
    with pytest.raises(ModelError, match="min <= opt <= max"):
        ShapeRange((1, 3), (1, 3, 4), (1, 3, 4))
