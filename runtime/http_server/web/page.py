"""The page of the API: plain HTML, made of the OpenAPI document. It loads nothing from anywhere."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from html import escape
from typing import Any

_STYLE = """
:root { color-scheme: light dark; font: 16px/1.5 system-ui, sans-serif; }
body { max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
code, pre { font: 0.875rem/1.5 ui-monospace, monospace; }
pre { overflow-x: auto; padding: 0.75rem; border: 1px solid #8884; border-radius: 0.25rem; }
h2 code { font-size: 1.1rem; } summary { cursor: pointer; }
table { border-collapse: collapse; } td { padding: 0.125rem 1rem 0.125rem 0; vertical-align: top; }
"""


def page_of(document: Mapping[str, Any]) -> str:
    """The page of an OpenAPI document.

    Example:
        >>> page = page_of({"info": {"title": "a server", "version": "1"}, "paths": {}})
        >>> "<h1>a server 1</h1>" in page, "http" in page
        (True, False)
    """
    info = document["info"]
    title = escape(f"{info['title']} {info['version']}")
    parts = [f"<h1>{title}</h1>", f"<p>{escape(info.get('description', ''))}</p>"]
    parts.append('<p>For programs: <a href="openapi.json">openapi.json</a></p>')
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            parts += _operation(path, method, operation)
    head = f'<meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>{title}</title>'
    return (
        f'<!doctype html><html lang="en"><head>{head}<style>{_STYLE}</style></head><body>{"".join(parts)}</body></html>'
    )


def _operation(path: str, method: str, operation: Mapping[str, Any]) -> Iterator[str]:
    yield f"<h2><code>{escape(method.upper())} {escape(path)}</code></h2>"
    for text in (operation.get("summary", ""), *operation.get("description", "").split("\n\n")):
        if text:
            yield f"<p>{escape(text)}</p>"
    if "requestBody" in operation:
        yield "<h3>Body</h3>"
        for kind, content in operation["requestBody"]["content"].items():
            yield _shown(f"{kind}: values", content["schema"])
            if "example" in content:
                yield _shown(f"{kind}: example", content["example"])
    rows = "".join(
        f"<tr><td>{escape(str(status))}</td><td>{escape(answer.get('description', ''))}</td>"
        f"<td><code>{escape(', '.join(answer.get('content', {})))}</code></td></tr>"
        for status, answer in sorted(operation["responses"].items())
    )
    yield f"<h3>Answers</h3><table>{rows}</table>"


def _shown(title: str, value: Any) -> str:
    text = json.dumps(value, indent=2, ensure_ascii=False)
    return f"<details><summary>{escape(title)}</summary><pre>{escape(text)}</pre></details>"
