"""Licences of what is installed, and the page of promises: each names tests that exist."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from scripts import audit

ROOT = Path(__file__).parents[1]
NAMED = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")


def test_every_promise_names_tests_that_exist() -> None:
    page = (ROOT / "docs" / "promises.md").read_text(encoding="utf-8").partition("## What was measured")[0]
    rows = [line for line in page.splitlines() if line.startswith("| ") and not line.startswith(("| promise", "|--"))]
    assert len(rows) >= 20
    for row in rows:
        named = NAMED.findall(row)
        assert named, row
        for file, test in named:
            assert re.search(rf"^(async )?def {test}\(", (ROOT / file).read_text(encoding="utf-8"), re.M), test


def test_every_benchmark_that_a_promise_names_exists() -> None:
    for page in (ROOT / "docs" / "promises.md", ROOT / "SECURITY.md"):
        for name in re.findall(r"python -m benchmarks\.(\w+)", page.read_text(encoding="utf-8")):
            assert (ROOT / "benchmarks" / f"{name}.py").is_file()


def test_nothing_of_the_base_install_is_refused() -> None:
    names = audit.base_packages()
    assert {"torch", "diffusers", "pillow", "numpy"} <= names
    assert "gradio" not in names
    licences = audit.installed_licences(names)
    assert len(licences) > 40
    assert audit.refused_licences(licences) == {}


@pytest.mark.parametrize(
    ("text", "refused"),
    [
        ("MIT", False), ("Apache-2.0 OR BSD-2-Clause", False), ("MPL-2.0", False), ("LGPL-3.0", False),
        ("GNU Lesser General Public License v3 (LGPLv3)", False), ("GPL-3.0-only", True), ("AGPL-3.0", True),
        ("GNU General Public License v2", True), ("CC-BY-NC-4.0", True), ("UNKNOWN", True), ("", True),
        ("Free for non-commercial use", True),
    ],
)  # fmt: skip
def test_licences_that_bind_are_refused(text: str, refused: bool) -> None:
    assert bool(audit.refused_licences({"a": text})) is refused


@pytest.mark.parametrize(
    ("stdout", "stderr", "code"),
    [
        ('{"dependencies": [{"name": "a", "version": "1", "vulns": []}]}', "", 0),
        ('{"dependencies": [{"name": "a", "version": "1", "vulns": [{"id": "X", "fix_versions": ["2"]}]}]}', "", 1),
        ("", "requests.exceptions.ConnectionError: HTTPSConnectionPool: Max retries exceeded", 0),
        ("", "ERROR: something else", 1),
    ],
)
def test_a_service_that_cannot_be_reached_is_no_failure(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], stdout: str, stderr: str, code: int
) -> None:
    def answer(*_: Any, **__: Any) -> subprocess.CompletedProcess[str]:
        return subprocess.CompletedProcess([], 1 if stderr else 0, stdout, stderr)

    monkeypatch.setattr(audit, "installed_licences", lambda names: {"a": "MIT"})
    monkeypatch.setattr(subprocess, "run", answer)
    assert audit.main() == code
    said = capsys.readouterr().out
    assert ("not asked" in said) is ("Connection" in stderr)
