"""Segments as values of other libraries, and as plain ones: the `to_…` and `from_…` of `Segments`."""
