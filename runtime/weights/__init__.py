"""Published weights: which there are, where they are kept on this machine, and how they are fetched."""
