"""Checkpoints, loaded without running code that they contain."""
