"""Known faults and licences of what is installed.

    python -m scripts.audit

Licences are read from the packages themselves, without a network: nothing that the base install draws in may be under
the GPL, forbid commercial use, or say nothing. Known faults are asked for with pip-audit; where its service cannot be
reached, that is said, and is no failure.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, distribution
from typing import Any

from packaging.requirements import Requirement

REFUSED = re.compile(
    r"(?<!L)(?<!Lesser )\b(A?GPL|GNU (Affero )?General Public)|non-?commercial|CC-BY-NC|proprietary", re.I
)
KNOWN = {"portrayal", "pi_heif", "pi-heif"}
"""Ours; and an extra whose wheel carries libraries under the LGPL, which docs/dependencies.md tells."""
PATIENCE = 120
UNREACHED = (
    "ConnectionError",
    "Max retries",
    "Failed to resolve",
    "Temporary failure",
    "timed out",
    "ProxyError",
    "HTTPError",
)


def base_packages(root: str = "portrayal") -> set[str]:
    """What the base install draws in on this system, itself left out."""
    found, waiting = set[str](), [root]
    while waiting:
        name = waiting.pop()
        try:
            requires = distribution(name).requires or []
        except PackageNotFoundError:
            continue
        for text in requires:
            wanted = Requirement(text)
            plain = wanted.name.lower().replace("_", "-")
            if plain not in found and (wanted.marker is None or wanted.marker.evaluate({"extra": ""})):
                found.add(plain)
                waiting.append(plain)
    return found


def installed_licences(names: Iterable[str] = ()) -> dict[str, str]:
    """Licence of each installed package, or of some, as pip-licenses reads it."""
    command = [sys.executable, "-m", "piplicenses", "--format=json", "--from=mixed"]
    wanted = sorted(names)
    told = subprocess.run([*command, *(["--packages", *wanted] if wanted else [])], capture_output=True, check=True)
    rows: list[dict[str, str]] = json.loads(told.stdout)
    return {row["Name"].lower().replace("_", "-"): row["License"] for row in rows}


def refused_licences(licences: dict[str, str]) -> dict[str, str]:
    """Those under which nothing of the base install may be."""
    wrong = {name: text for name, text in licences.items() if REFUSED.search(text) or text in ("", "UNKNOWN")}
    return {name: text for name, text in wrong.items() if name not in KNOWN}


def known_faults() -> tuple[list[str], str]:
    """Faults that pip-audit knows of what is installed; and why it could not be asked, if it could not."""
    command = [sys.executable, "-m", "pip_audit", "--progress-spinner", "off", "--format", "json", "--skip-editable"]
    try:
        told = subprocess.run([*command, "--timeout", "10"], capture_output=True, text=True, timeout=PATIENCE)
    except subprocess.TimeoutExpired:
        return [], f"it did not answer within {PATIENCE} s"
    try:
        packages: list[dict[str, Any]] = json.loads(told.stdout)["dependencies"]
    except (ValueError, KeyError):
        last = (told.stderr.strip().splitlines() or ["nothing was said"])[-1]
        if any(word in told.stderr for word in UNREACHED):
            return [], "its service cannot be reached"
        return [f"pip-audit: {last[:300]}"], ""
    return [
        f"{package['name']} {package.get('version', '')}: {fault['id']}, fixed in {fault['fix_versions'] or 'none'}"
        for package in packages
        for fault in package.get("vulns", [])
    ], ""


def main() -> int:
    """Print what is wrong; 1 if something is."""
    names = base_packages()
    wrong = refused_licences(installed_licences(names))
    for name, text in wrong.items():
        print(f"✗ {name} is under {text!r}, and the base install draws it in")
    print(f"licences: {len(names)} packages of the base install, {len(wrong)} refused")
    faults, unasked = known_faults()
    for fault in faults:
        print(f"✗ {fault}")
    print(f"known faults: not asked, {unasked}" if unasked else f"known faults: {len(faults)}")
    return 1 if wrong or faults else 0


if __name__ == "__main__":
    sys.exit(main())
