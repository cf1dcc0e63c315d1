"""Photographs included in the package, on which an export is compared with its checkpoint."""
