"""What is made of other files for Kubernetes: the chart's configurations and its table of values,
and the alerts as an object.
"""

from __future__ import annotations

import json
import re
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped] # it has no stubs

ROOT = Path(__file__).parents[1]
CHART = ROOT / "deploy" / "helm" / "authsvc"
CONFIG = ROOT / "deploy" / "config"
ALERTS = ROOT / "deploy" / "monitoring" / "alerts.yaml"
RULE = ROOT / "deploy" / "kubernetes" / "monitoring" / "rules.yaml"

RULE_HEAD = """\
# Made of ../../monitoring/alerts.yaml by `make reference`.
apiVersion: monitoring.coreos.com/v1
kind: PrometheusRule
metadata:
  name: authsvc
  namespace: authsvc
spec:
"""

BEGIN = "<!-- Made of values.yaml by `make reference`. -->\n"
END = "<!-- End. -->\n"

_KEY = re.compile(r"^( *)([A-Za-z]\w*):")


def pages() -> Iterator[tuple[Path, str]]:
    """Each made file, and its text.

    Helm reads no file outside of a chart, so that the configurations are copies.
    """
    for name in ("authsvc.toml", "adapter.toml", "console.toml", "valkey.conf"):
        yield CHART / "config" / name, (CONFIG / name).read_text(encoding="utf-8")
    alerts = ALERTS.read_text(encoding="utf-8")
    yield CHART / "config" / "alerts.yaml", alerts
    yield RULE, RULE_HEAD + textwrap.indent(alerts, "  ")
    readme = CHART / "README.md"
    before, _, rest = readme.read_text(encoding="utf-8").partition(BEGIN)
    _, _, after = rest.partition(END)
    yield readme, f"{before}{BEGIN}\n{values()}\n{END}{after}"


def values() -> str:
    """The table of values: each key of values.yaml that a comment describes."""
    text = (CHART / "values.yaml").read_text(encoding="utf-8")
    defaults = yaml.safe_load(text)
    rows = ["| value | default | what it is |", "|---|---|---|"]
    for key, description in described(text):
        default = json.dumps(value_of(defaults, key))
        rows.append(f"| `{key}` | `{default}` | {description} |")
    return "\n".join(rows) + "\n"


def described(text: str) -> Iterator[tuple[str, str]]:
    """Each key with a comment right above it, such as ``image.tag``, and the comment.

    Args:
        text: a YAML file that indents by two spaces.
    """
    path: list[str] = []
    comment: list[str] = []
    for line in text.splitlines():
        if line.lstrip().startswith("# "):
            comment.append(line.strip().removeprefix("# "))
            continue
        if match := _KEY.match(line):
            path[len(match[1]) // 2 :] = [match[2]]
            if comment:
                yield ".".join(path), " ".join(comment)
        comment = []


def value_of(defaults: Any, key: str) -> Any:  # noqa: ANN401 - any value of YAML
    """The value at a key such as ``image.tag``.

    Raises:
        KeyError: there is none.
    """
    for part in key.split("."):
        defaults = defaults[part]
    return defaults
