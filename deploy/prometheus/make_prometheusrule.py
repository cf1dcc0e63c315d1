"""Writes alerts.yaml as a PrometheusRule of the Prometheus operator: the alerts have one source.

python deploy/prometheus/make_prometheusrule.py
"""

from __future__ import annotations

import textwrap
from pathlib import Path

ALERTS = Path(__file__).with_name("alerts.yaml")
MANIFEST = ALERTS.parents[1] / "kubernetes/prometheusrule.yaml"

HEADER = """\
# Made by deploy/prometheus/make_prometheusrule.py from deploy/prometheus/alerts.yaml. Edit that file.
apiVersion: monitoring.coreos.com/v1
kind: PrometheusRule
metadata:
  name: fastsam
  labels:
    app.kubernetes.io/name: fastsam
spec:
"""


def manifest() -> str:
    """The manifest: the groups as they stand in alerts.yaml, comments and all, under `spec`."""
    text = ALERTS.read_text(encoding="utf-8")
    return HEADER + textwrap.indent(text[text.index("groups:") :], "  ")


def main() -> None:
    """Write the manifest whole or not at all. Not by runtime/system/atomic.py: no package is needed here."""
    unfinished = MANIFEST.with_suffix(".part")
    unfinished.write_text(manifest(), encoding="utf-8")
    unfinished.replace(MANIFEST)


if __name__ == "__main__":
    main()
