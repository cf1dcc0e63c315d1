"""How good the segments are, measured and committed."""
