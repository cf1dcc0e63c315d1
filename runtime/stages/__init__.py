"""What happens to an image before and after the network, in order, in NumPy and OpenCV."""
