"""Pictures of segments: tints, contours, boxes and labels over an image, and how a notebook shows an answer."""
