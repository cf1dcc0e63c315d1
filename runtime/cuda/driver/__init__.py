"""The CUDA driver: device, memory, streams, modules and graphs, over PyCUDA and cuda-bindings."""
