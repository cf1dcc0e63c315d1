"""Runs over many images or the frames of a video, and the files that they write."""
