"""The command `fastsam-export`."""
