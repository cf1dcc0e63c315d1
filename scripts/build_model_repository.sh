#!/usr/bin/env bash
# Makes a model repository for Triton Inference Server from a .plan or .onnx file.
#
#   bash scripts/build_model_repository.sh FastSAM-s.plan --output model_repository
#   bash scripts/build_model_repository.sh models/fastsam-demo.onnx --output model_repository --device cpu
#
# The options are those of `fastsam-export triton --help`. PYTHON: a Python that has the package; default python3.
set -euo pipefail
exec "${PYTHON:-python3}" -m fastsam_deploy.export.cli triton "$@"
