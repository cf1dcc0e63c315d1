"""Images in, segments out: on the host, on a CUDA device, on a server, and as a stream."""
