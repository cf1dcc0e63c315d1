"""Alerts, autoscaling metric and dashboard: every expression parses, and asks for what Triton really publishes."""

from __future__ import annotations

import importlib.util
import json
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest

promql_parser = pytest.importorskip("promql_parser", reason="needs the extra [dev]")
yaml = pytest.importorskip("yaml", reason="needs the extra [dev]")

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"
PROMETHEUS = DEPLOY / "prometheus"
KNOWN_METRICS = {
    line
    for line in Path(__file__).with_name("tritonserver_metrics.txt").read_text(encoding="utf-8").splitlines()
    if line[:1] != "#"
} | {"up"}
PUBLIC_MODELS = {"fastsam", "fastsam_device"}
REASONS = {"REJECTED", "CANCELED", "BACKEND", "OTHER"}

RULES = yaml.safe_load((PROMETHEUS / "alerts.yaml").read_text(encoding="utf-8"))["groups"][0]["rules"]
DASHBOARD = json.loads((DEPLOY / "grafana/fastsam.json").read_text(encoding="utf-8"))
ADAPTER = yaml.safe_load((PROMETHEUS / "adapter-values.yaml").read_text(encoding="utf-8"))["rules"]["custom"][0]


def _expressions() -> Iterator[tuple[str, str]]:
    """Where each one is, and the expression with the placeholders of Grafana and of the adapter filled in."""
    for rule in RULES:
        yield rule["alert"], rule["expr"]
    query = ADAPTER["metricsQuery"].replace("<<.GroupBy>>", "pod")
    yield "adapter: metricsQuery", query.replace("<<.LabelMatchers>>", 'namespace="fastsam",pod=~"fastsam-.*"')
    yield "adapter: seriesQuery", ADAPTER["seriesQuery"]
    for panel in DASHBOARD["panels"]:
        for target in panel["targets"]:
            filled = target["expr"].replace("$__rate_interval", "1m").replace("$instance", ".*")
            yield f"dashboard: {panel['title']} {target['refId']}", filled


EXPRESSIONS = dict(_expressions())


def selectors(expression: str) -> list[Any]:
    """Every series that the expression reads. Raises ValueError where it is not PromQL."""
    found = []

    def visit(node: Any) -> None:
        if isinstance(node, promql_parser.VectorSelector):
            found.append(node)

    promql_parser.walk(promql_parser.parse(expression), visit)
    return found


def promtool(*arguments: str | Path) -> str:
    program = shutil.which("promtool")
    if program is None:
        pytest.skip("promtool is not installed; Debian has it in the package prometheus")
    done = subprocess.run([program, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_promtool_accepts_the_configuration_and_the_rules() -> None:
    assert f"{len(RULES)} rules found" in promtool("check", "config", PROMETHEUS / "prometheus.yaml")


def test_the_alerts_fire_when_they_should_and_only_then() -> None:
    assert "SUCCESS" in promtool("test", "rules", PROMETHEUS / "alerts.test.yaml")


def test_every_alert_has_a_test() -> None:
    tests = (PROMETHEUS / "alerts.test.yaml").read_text(encoding="utf-8")
    assert {rule["alert"] for rule in RULES} == set(re.findall(r"\bFastSAM\w+", tests))


def test_the_operator_gets_the_same_alerts() -> None:
    spec = importlib.util.spec_from_file_location("make_prometheusrule", PROMETHEUS / "make_prometheusrule.py")
    assert spec is not None and spec.loader is not None
    maker = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(maker)
    written = (DEPLOY / "kubernetes/prometheusrule.yaml").read_text(encoding="utf-8")
    assert written == maker.manifest(), "run: python deploy/prometheus/make_prometheusrule.py"
    assert yaml.safe_load(written)["spec"]["groups"][0]["rules"] == RULES


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["alert"])
def test_an_alert_says_what_it_means_and_what_to_do(rule: dict[str, Any]) -> None:
    assert set(rule["annotations"]) == {"summary", "description", "runbook"}
    assert rule["labels"]["severity"] in {"critical", "warning", "info"}
    assert "for" in rule
    # A label that the expression sums away would be empty in the text.
    used = set(re.findall(r"\$labels\.(\w+)", " ".join(rule["annotations"].values())))
    kept = re.findall(r"\bby \(([^)]*)\)", rule["expr"])
    for labels in kept:
        assert used <= {label.strip() for label in labels.split(",")}
    named = " ".join(rule["annotations"].values())
    assert set(re.findall(r"\bFastSAM\w+", named)) <= {other["alert"] for other in RULES}


@pytest.mark.parametrize("where", EXPRESSIONS)
def test_an_expression_reads_what_triton_publishes(where: str) -> None:
    read = selectors(EXPRESSIONS[where])
    assert read
    for selector in read:
        assert selector.name in KNOWN_METRICS, f"{selector.name} is not in tests/deploy/tritonserver_metrics.txt"
        matchers = {matcher.name: matcher.value for matcher in selector.matchers.matchers}
        assert matchers.get("reason", "BACKEND") in REASONS
        assert set(matchers.get("model", "fastsam").split("|")) <= PUBLIC_MODELS
        if not where.startswith("adapter: metricsQuery"):
            assert matchers["job"] == "fastsam"


@pytest.mark.parametrize("broken", ["sum by (", "rate(up)", "up{job=fastsam}", "up / "])
def test_what_is_not_promql_is_refused(broken: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 (the parser has no class of its own)
        selectors(broken)


def test_the_job_is_that_of_the_scrape_configuration() -> None:
    configuration = yaml.safe_load((PROMETHEUS / "prometheus.yaml").read_text(encoding="utf-8"))
    assert [job["job_name"] for job in configuration["scrape_configs"]] == ["fastsam"]
    assert configuration["rule_files"] == ["alerts.yaml"]


def test_the_autoscaler_reads_what_the_adapter_makes(manifest: Callable[[str], dict[str, Any]]) -> None:
    metric = manifest("HorizontalPodAutoscaler")["spec"]["metrics"][0]["pods"]
    assert metric["metric"]["name"] == ADAPTER["name"]["as"]
    assert re.search(ADAPTER["name"]["matches"], selectors(ADAPTER["seriesQuery"])[0].name)
    assert set(ADAPTER["resources"]["overrides"]) == {"namespace", "pod"}
    # It scales before the alert fires: milliseconds here, seconds there.
    assert metric["target"]["averageValue"] == "30m"
    slow = next(rule["expr"] for rule in RULES if rule["alert"] == "FastSAMQueueSlow")
    assert float(slow.rsplit(">", maxsplit=1)[1]) > 0.03


def test_the_alert_on_long_queues_follows_the_queue() -> None:
    configs = pytest.importorskip("fastsam_deploy.export.triton.configs", reason="needs the extra [export]")
    queue = configs.Serving(engine="tensorrt", device="gpu", imgsz=1024, rect=False).queue
    rule = next(rule for rule in RULES if rule["alert"] == "FastSAMQueueLong")
    assert float(rule["expr"].rsplit(">", maxsplit=1)[1]) == 0.75 * queue
    assert f"({queue})" in rule["annotations"]["description"]


def test_the_panels_have_ids_and_places_of_their_own() -> None:
    panels = DASHBOARD["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels) >= 15
    assert len({panel["title"] for panel in panels}) == len(panels)
    for panel in panels:
        place = panel["gridPos"]
        assert place["x"] >= 0 and place["y"] >= 0 and place["w"] > 0 and place["h"] > 0
        assert place["x"] + place["w"] <= 24
    for one, other in combinations((panel["gridPos"] for panel in panels), 2):
        beside = one["x"] + one["w"] <= other["x"] or other["x"] + other["w"] <= one["x"]
        above = one["y"] + one["h"] <= other["y"] or other["y"] + other["h"] <= one["y"]
        assert beside or above, (one, other)


def test_every_panel_has_a_description_and_its_own_queries() -> None:
    for panel in DASHBOARD["panels"]:
        assert panel["description"] and panel["fieldConfig"]["defaults"]["unit"]
        letters = [target["refId"] for target in panel["targets"]]
        assert letters and len(set(letters)) == len(letters)
        for target in panel["targets"]:
            # The labels of the legend are among those that the expression keeps.
            legend = set(re.findall(r"{{(\w+)}}", target["legendFormat"]))
            kept = re.findall(r"\bby \(([^)]*)\)", target["expr"])
            assert legend <= {label.strip() for label in ",".join(kept).split(",")}


def test_the_dashboard_is_for_any_data_source_and_server() -> None:
    variables = {variable["name"]: variable for variable in DASHBOARD["templating"]["list"]}
    assert variables["datasource"]["query"] == "prometheus"
    assert selectors(re.fullmatch(r"label_values\((.+), instance\)", variables["instance"]["definition"]).group(1))
    sources = {panel["datasource"]["uid"] for panel in DASHBOARD["panels"]}
    assert sources == {"${datasource}"}
    assert "id" not in DASHBOARD, "the id belongs to one Grafana"


def test_grafana_finds_its_data_source_and_its_dashboard(compose: dict[str, Any]) -> None:
    folder = DEPLOY / "grafana/provisioning"
    source = yaml.safe_load((folder / "datasources/prometheus.yaml").read_text(encoding="utf-8"))["datasources"][0]
    provider = yaml.safe_load((folder / "dashboards/fastsam.yaml").read_text(encoding="utf-8"))["providers"][0]
    assert source["type"] == "prometheus"
    assert source["url"] == "http://prometheus:9090"
    assert "prometheus" in compose["services"]
    targets = [volume.split(":")[1] for volume in compose["services"]["grafana"]["volumes"]]
    assert "/etc/grafana/provisioning" in targets
    assert any(target.startswith(provider["options"]["path"] + "/") for target in targets)
