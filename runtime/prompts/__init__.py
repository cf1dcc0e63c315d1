"""Prompts: what picks among the segments of one image."""
