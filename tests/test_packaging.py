"""What a wheel built from this checkout carries, so that it runs without the checkout."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from email import message_from_bytes
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src" / "portrayal"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    pytest.importorskip("hatchling", reason="hatchling builds the wheel; it is in the dev extra")
    pytest.importorskip("build", reason="build runs hatchling; it is in the dev extra")
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return zipfile.ZipFile(next(folder.glob("*.whl")))


def _sources(folder: Path, *endings: str) -> set[Path]:
    return {path for path in folder.rglob("*") if path.is_file() and path.suffix in endings}


def test_every_source_template_and_weight_is_in_it_unchanged(wheel: zipfile.ZipFile) -> None:
    expected = _sources(PACKAGE, ".py", ".typed")
    expected |= {path for path in (PACKAGE / "report" / "templates").iterdir() if path.is_file()}
    expected |= _sources(PACKAGE / "studio", ".j2", ".css", ".js", ".toml")
    expected |= {path for path in (PACKAGE / "pocket" / "weights").rglob("*") if path.is_file()}
    assert {"py.typed", "report.html.j2", "model_index.json", "model.safetensors"} <= {path.name for path in expected}
    for path in expected:
        assert wheel.read(f"portrayal/{path.relative_to(PACKAGE).as_posix()}") == path.read_bytes(), path


def test_recipes_lie_where_an_installed_package_looks_for_them(wheel: zipfile.ZipFile) -> None:
    recipes = list((ROOT / "recipes").glob("*.toml"))
    assert ROOT / "recipes" / "pocket-demo.toml" in recipes
    for recipe in recipes:
        assert wheel.read(f"portrayal/recipes/{recipe.name}") == recipe.read_bytes()


def test_it_carries_nothing_else(wheel: zipfile.ZipFile) -> None:
    tops = {name.split("/")[0] for name in wheel.namelist()}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"portrayal"}
    assert not [name for name in wheel.namelist() if "__pycache__" in name or name.endswith((".pyc", ".pt", ".bin"))]


def test_metadata_names_the_licence_and_pins_no_torch(wheel: zipfile.ZipFile) -> None:
    info = next(name for name in wheel.namelist() if name.endswith(".dist-info/METADATA"))
    metadata = message_from_bytes(wheel.read(info))
    assert metadata["License-Expression"] == "Apache-2.0"
    for name in ("LICENSE", "NOTICE"):
        assert wheel.read(info.replace("METADATA", f"licenses/{name}")) == (ROOT / name).read_bytes()
    required = [line for line in metadata.get_all("Requires-Dist", []) if line.startswith("torch")]
    assert len(required) == 1
    assert "==" not in required[0]
    assert not any(line.startswith("torchvision") for line in metadata.get_all("Requires-Dist", []))


def test_constraints_pin_torch_and_refuse_torchvision() -> None:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = [line for line in lines if line and not line.startswith("#")]
    assert "torchvision<0" in pins
    assert any(line.startswith("torch==") for line in pins)
    assert all("==" in line for line in pins if line != "torchvision<0")
    assert not any(mark in line for line in pins for mark in ("/", "@", "+"))
