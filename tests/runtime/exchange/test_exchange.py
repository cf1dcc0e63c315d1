"""Segments as values of supervision and pandas, and back."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from fastsam_deploy.runtime import FastSAM, MissingDependencyError, ParameterError, Points, Segments
from tests.data.segments import make


@pytest.fixture(scope="module")
def everything(coffee: Path) -> Segments:
    with FastSAM(conf=0.25) as model:
        return model.segment(coffee)


@pytest.mark.parametrize("compact", [False, True])
def test_supervision_there_and_back(everything: Segments, compact: bool):
    pytest.importorskip("supervision.detection.compact_mask" if compact else "supervision")
    for segments in (everything, everything.select(Points([[300, 200], [90, 60]], mode="each")), make.segments()):
        detections = segments.to_supervision(compact=compact)
        assert Segments.from_supervision(detections) == segments
        assert Segments.from_supervision(detections[::-1]) == segments[::-1]
    assert Segments.from_supervision(Segments.empty((4, 5)).to_supervision(compact=compact), (4, 5)).image_hw == (4, 5)


def test_supervision_draws_and_counts_what_it_gets(everything: Segments, coffee: Path):
    supervision = pytest.importorskip("supervision")
    from fastsam_deploy.runtime import load_image

    image = load_image(coffee)
    dense, compact = everything.to_supervision(), everything.to_supervision(compact=True)
    drawn = [supervision.MaskAnnotator().annotate(image.copy(), detections) for detections in (dense, compact)]
    np.testing.assert_array_equal(*drawn)
    assert (drawn[0] != image).any(2).sum() > 0.5 * image.shape[0] * image.shape[1]
    np.testing.assert_array_equal(compact.mask.area, everything.areas)
    merged = supervision.Detections.merge([everything.select(Points([[300, 200]])).to_supervision(), dense])
    assert len(Segments.from_supervision(merged)) == len(everything) + 1


def test_detections_of_other_models():
    supervision = pytest.importorskip("supervision")
    dense = make.segments().masks.dense()[:2]
    boxes = make.segments().boxes_xyxy[:2]
    plain = Segments.from_supervision(supervision.Detections(xyxy=boxes, mask=dense))
    assert plain.scores.tolist() == [1, 1] and plain.classes.tolist() == [0, 0] and plain.class_names == ("object",)
    named = supervision.Detections(
        xyxy=boxes, mask=dense, class_id=np.array([2, 0]), data={"class_name": np.array(["cat", "dog"])}
    )
    assert Segments.from_supervision(named).class_names == ("dog", "class1", "cat")
    assert Segments.from_supervision(named, class_names=("a", "b", "c")).class_names == ("a", "b", "c")
    with pytest.raises(ParameterError, match="no masks; expected those of a segmentation model"):
        Segments.from_supervision(supervision.Detections(xyxy=boxes))
    with pytest.raises(ParameterError, match=r"masks of 37 × 53, expected image_hw \(53, 37\)"):
        Segments.from_supervision(named, image_hw=(53, 37))
    with pytest.raises(ParameterError, match="expected masks or image_hw"):
        Segments.from_supervision(supervision.Detections.empty())


def test_a_data_frame_has_its_types_with_and_without_prompts(everything: Segments):
    pandas = pytest.importorskip("pandas")
    prompted = everything.select(Points([[300, 200], [90, 60]], mode="each"))
    for segments in (everything, prompted, Segments.empty((4, 5)), make.segments()):
        frame = segments.to_dataframe()
        assert len(frame) == len(segments)
        assert {name: str(kind) for name, kind in frame.dtypes.items() if name not in ("class_name", "score")} == {
            **dict.fromkeys(("x1", "y1", "x2", "y2", "fit", "probability"), "float64"),
            **dict.fromkeys(("segment", "class", "area"), "int64"),
            "prompt": "Int64",
        }
    assert prompted.to_dataframe()["prompt"].tolist() == [0, 1]
    assert everything.to_dataframe()["prompt"].isna().all() and pandas.isna(make.segments().to_dataframe()["prompt"][1])


@pytest.mark.parametrize(("library", "method"), [("pandas", "to_dataframe"), ("supervision", "to_supervision")])
def test_an_absent_library_is_an_error_that_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, library: str, method: str
):
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(MissingDependencyError, match=rf"{method}: .*pip install 'fastsam-deploy\[{library}\]'"):
        getattr(replace(make.segments()), method)()
