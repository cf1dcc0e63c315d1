"""The command `fastsam`."""
