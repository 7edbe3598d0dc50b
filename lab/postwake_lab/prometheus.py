"""A private Prometheus with contrib's scrape jobs and rules, only quicker."""

from __future__ import annotations

import json
import re
import subprocess
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any

from postwake_lab.ports import free_ports, wait_for_port

CONTRIB = Path(__file__).parents[2] / "contrib/prometheus"


class Prometheus:
    """Scrapes every *every_s* seconds; a ``with`` block."""

    def __init__(self, directory: Path, metrics_ports: tuple[int, int, int], *, host: str, every_s: int = 2) -> None:
        """Write the configuration from contrib's."""
        directory.mkdir(parents=True, exist_ok=True)
        self.directory = directory
        self.port = free_ports(1)[0]
        self._process: subprocess.Popen[bytes] | None = None
        text = (CONTRIB / "prometheus.yml").read_text(encoding="utf-8")
        for port, own in zip((9861, 9862, 9863), metrics_ports, strict=True):
            text = text.replace(f"127.0.0.1:{port}", f"127.0.0.1:{own}")
        text = re.sub(r"_interval: \w+", f"_interval: {every_s}s", text).replace("mail.example.com", host)
        (directory / "prometheus.yml").write_text(text, encoding="utf-8")
        for name in ("postwake-rules.yml", "postwake-alerts.yml"):
            rules = (CONTRIB / name).read_text(encoding="utf-8")
            (directory / name).write_text(re.sub(r"\n    interval: \w+", "", rules), encoding="utf-8")

    def __enter__(self) -> Prometheus:
        output = (self.directory / "prometheus.log").open("ab")
        command = [
            "prometheus",
            f"--config.file={self.directory}/prometheus.yml",
            f"--storage.tsdb.path={self.directory}/data",
            f"--web.listen-address=127.0.0.1:{self.port}",
        ]
        self._process = subprocess.Popen(command, stdout=output, stderr=output)
        wait_for_port(self.port)
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait()

    def _get(self, path: str, **parameters: Any) -> list[dict[str, Any]]:
        url = f"http://127.0.0.1:{self.port}/api/v1/{path}?{urllib.parse.urlencode(parameters)}"
        with urllib.request.urlopen(url, timeout=30) as answer:
            result: list[dict[str, Any]] = json.load(answer)["data"]["result"]
        return result

    def query(self, expression: str, at_s: float) -> list[dict[str, Any]]:
        """Return what *expression* is at that time."""
        return self._get("query", query=expression, time=at_s)

    def query_range(self, expression: str, start_s: float, end_s: float, step_s: float) -> list[dict[str, Any]]:
        """Return what *expression* was from *start_s* to *end_s*."""
        return self._get("query_range", query=expression, start=start_s, end=end_s, step=step_s)
