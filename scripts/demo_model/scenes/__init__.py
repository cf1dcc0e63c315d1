"""Synthetic scenes with their masks, on which the demo model was trained."""
