"""How good the segments are: the protocols of BSDS500, COCO and LVIS that the FastSAM paper reports.

Each protocol is a module or two; `docs/accuracy.md` tells what they measure. They need SciPy, scikit-image and
the evaluators of COCO and LVIS: the extra `[accuracy]`.
"""
