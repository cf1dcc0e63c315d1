"""Photographs that come with the package: an export is compared with its checkpoint on them."""
