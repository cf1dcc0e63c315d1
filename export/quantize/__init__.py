"""INT8 files: ranges, graph, sweep and judgement."""
