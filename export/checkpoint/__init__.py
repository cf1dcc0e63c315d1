"""Checkpoints: how they are loaded without running what is in them."""
