"""The machine: its processors, and files that are written whole or not at all."""
