"""Renders one chat template: {"source", "context"} as JSON on stdin -> {"text"} or {"error"} on stdout.

A program of its own, run by chat_templates.py; it imports nothing of tinylm. The environment is that of transformers'
apply_chat_template.
"""

import datetime
import json
import resource
import signal
import sys
from typing import Any

import jinja2
from jinja2 import nodes
from jinja2.ext import Extension, loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment

SECONDS, MEGABYTES, CHARACTERS = 0.5, 256, 1 << 22


class Generation(Extension):
    """{% generation %} ... {% endgeneration %} marks the assistant's words for training; here it stands for its contents."""

    tags = {"generation"}  # noqa: RUF012 (Jinja's own way)

    def parse(self, parser: Any) -> Any:
        number = next(parser.stream).lineno
        return nodes.Scope(parser.parse_statements(["name:endgeneration"], drop_needle=True)).set_lineno(number)


def raise_exception(message: str) -> None:
    raise jinja2.TemplateError(message)


def tojson(value: Any, ensure_ascii: bool = False, indent: int | None = None, separators: Any = None, sort_keys: bool = False) -> str:
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def rendered(source: str, context: dict[str, Any]) -> str:
    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[Generation, loopcontrols])
    environment.filters["tojson"] = tojson
    environment.globals["raise_exception"] = raise_exception
    environment.globals["strftime_now"] = lambda format: datetime.datetime.now().strftime(format)
    text = environment.from_string(source).render(**context)
    if len(text) > CHARACTERS:
        raise jinja2.TemplateError(f"it wrote {len(text)} characters, expected at most {CHARACTERS}")
    return text


def main() -> None:
    asked = json.load(sys.stdin)
    signal.setitimer(signal.ITIMER_PROF, SECONDS)  # its signal ends the process
    resource.setrlimit(resource.RLIMIT_AS, (MEGABYTES << 20, MEGABYTES << 20))
    try:
        answer = {"text": rendered(asked["source"], asked["context"])}
    except MemoryError:
        answer = {"error": f"it took more than {MEGABYTES} MB"}
    except Exception as error:
        answer = {"error": " ".join(f"{error}".split())[:300] or type(error).__name__}
    print(json.dumps(answer))


if __name__ == "__main__":
    main()
