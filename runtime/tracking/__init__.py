"""Objects of a video: the same number in every frame."""
