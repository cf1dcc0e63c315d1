"""CLIP without PyTorch: encoders, crops of masks, and their features."""
