"""CLIP without PyTorch: its encoders, the crops of masks, and their features."""
