"""Segmenters, which turn images into segments: on the host, on a CUDA device, on a server; and streams of images."""
