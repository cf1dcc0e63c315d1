"""The benchmark suite: ours against ultralytics on a CPU. `python -m benchmarks.suite` runs it."""
