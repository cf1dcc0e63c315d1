"""Large images in overlapping tiles, whose segments are merged across their borders."""
