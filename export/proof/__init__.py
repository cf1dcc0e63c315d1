"""Comparison of an exported file with the network that it was made from."""
