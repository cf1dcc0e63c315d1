#!/usr/bin/env bash
# Starts Triton with the settings of production. Further flags are added: entrypoint.sh --model-repository=/models
#
#   FASTSAM_ADMIN_KEY   opens the administrative endpoints to requests whose header `fastsam-admin` (in gRPC
#                       `triton-grpc-protocol-fastsam-admin`) has this value. Without it they stay closed.
#   FASTSAM_DRAIN_S     on SIGTERM, how long requests under way may take before Triton is stopped; 20 unless set.
set -euo pipefail

# Registering shared memory, loading models, statistics, traces and logging settings. Health, metadata and inference are
# open to whoever reaches the ports, and so is the models' configuration: clients read the network's spec in it.
closed=shared-memory,model-repository,statistics,trace,logging
# A value that nobody knows closes them: Triton has no switch for that.
key=${FASTSAM_ADMIN_KEY:-$(od -An -N32 -tx1 /dev/urandom | tr -d ' \n')}
unset FASTSAM_ADMIN_KEY

flags=(
  # Models are loaded once, at the start. Whoever can load a model can run Python code here.
  --model-control-mode=none
  --exit-on-error=true
  --disable-auto-complete-config
  # Ready means that every model is.
  --strict-readiness=true
  # Under the grace periods of compose.yaml and of the Kubernetes Deployment.
  --exit-timeout-secs=30
  --log-format=ISO8601
  --log-verbose=0
  --log-info=true
  --log-warning=true
  --log-error=true
  --http-port=8000
  # Each thread reads and writes one connection at a time; an answer with masks takes a while to write.
  --http-thread-count=16
  --grpc-port=8001
  # After 20 s (in ms) a client opens its connection anew, and asks the name again who serves: clients find new pods, and
  # leave one that is going within its preStop and drain. Requests under way finish on the old connection.
  --grpc-max-connection-age=20000
  --allow-metrics=true
  --metrics-port=8002
  --metrics-interval-ms=2000
  # Quantiles of the latency; the counters alone give means.
  --metrics-config=summary_latencies=true
  "--http-restricted-api=$closed:fastsam-admin=$key"
  "--grpc-restricted-protocol=$closed:fastsam-admin=$key"
)

# NVIDIA's entrypoint selects the CUDA compatibility libraries, then replaces itself with what it is given; so does
# this shell. drain.py is process 1 and gets SIGTERM; Triton gets it once the requests under way are finished.
start=()
if [ -x /opt/nvidia/nvidia_entrypoint.sh ]; then
  start=(/opt/nvidia/nvidia_entrypoint.sh)
fi
exec "${start[@]}" python3 "$(dirname "$0")/drain.py" tritonserver "${flags[@]}" "$@"
