"""The parts of the suite: one file for each thing that is measured."""
