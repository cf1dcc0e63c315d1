"""A libcuda.so.1 of our own, in C++: device memory is host memory, and streams and graphs keep the order of work."""
