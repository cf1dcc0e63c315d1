"""Compiled code for what takes longest around the network, each function with a NumPy twin that defines "correct"."""
