"""schemathesis sends what the OpenAPI document allows, and what it forbids: the server does as the document says."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.runtime.http_server.served import Served

for _name in ("fastapi", "uvicorn", "python_multipart", "prometheus_client"):
    pytest.importorskip(_name, reason="needs the extra [serve]")
schemathesis = pytest.importorskip("schemathesis", reason="needs the extra [dev]")
hypothesis = pytest.importorskip("hypothesis")


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    with Served("--max-image-mb", "1") as server:
        yield server


@pytest.fixture(scope="module")
def api(served: Served) -> Any:
    return schemathesis.openapi.from_url(f"http://127.0.0.1:{served.port}/openapi.json")


OPERATIONS = ("POST /v1/segment", "POST /v1/select", "GET /v1/model", "GET /health/live", "GET /health/ready")
MODES = ("positive", "negative")
"""Requests that the document allows, and requests that it forbids."""


def _examine(api: Any, operation: str, mode: str, **settings: Any) -> None:
    from schemathesis.checks import not_a_server_error
    from schemathesis.specs.openapi import checks

    method, path = operation.split()
    strategy = api[path][method].as_strategy(generation_mode=schemathesis.GenerationMode(mode))
    wanted = [not_a_server_error, checks.status_code_conformance, checks.content_type_conformance]

    @hypothesis.given(case=strategy)
    @hypothesis.settings(deadline=None, database=None, suppress_health_check=list(hypothesis.HealthCheck), **settings)
    def run(case: Any) -> None:
        case.call_and_validate(checks=[*wanted, checks.response_schema_conformance])

    run()


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("operation", OPERATIONS[:2])
def test_some_requests(operation: str, mode: str, api: Any):
    _examine(api, operation, mode, max_examples=40, derandomize=True)


@pytest.mark.parametrize("operation", OPERATIONS[2:])
def test_questions_without_a_body(operation: str, api: Any):
    _examine(api, operation, "positive", max_examples=1)


@pytest.mark.slow
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("operation", OPERATIONS[:2])
def test_many_requests(operation: str, mode: str, api: Any):
    _examine(api, operation, mode, max_examples=300)


def test_the_document_has_every_operation(api: Any):
    assert {f"{method.upper()} {path}" for path, item in api.raw_schema["paths"].items() for method in item} == set(
        OPERATIONS
    )


def test_the_server_still_works(served: Served):
    assert served.get("/health/ready").status == 200
    assert served.process.poll() is None and not any("Traceback" in line for line in served.lines)


def test_the_example_of_the_document_is_answered(served: Served, api: Any):
    body = api.raw_schema["paths"]["/v1/segment"]["post"]["requestBody"]["content"]["application/json"]
    answer = served.post("/v1/segment", **body["example"])
    assert answer.status == 200, answer.body
