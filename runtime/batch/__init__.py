"""Many images, one after the other, and where their answers go."""
