"""`python -m benchmarks.suite.report` writes REPORT.md and its plots from the committed results."""

from ...photographs import RESULTS
from . import write

write(RESULTS, RESULTS.parent)
