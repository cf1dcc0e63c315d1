"""The machine: processors, signals, and files that are written whole or not at all."""
