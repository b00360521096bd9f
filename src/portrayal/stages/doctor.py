"""Look over this machine: what would stop a run, or slow it, and the command that mends it."""

from __future__ import annotations

import os
import platform
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from importlib.metadata import packages_distributions, version
from importlib.util import cache_from_source, find_spec
from pathlib import Path
from typing import Any, Literal

from portrayal.errors import WeightsError
from portrayal.planning import machine_memory
from portrayal.run import cache_folder

GIB = 2**30
STUDIO_PORT = 7860
ROOM_GIB, LITTLE_ROOM_GIB = 10.0, 1.0
MEMORY_GIB, LITTLE_MEMORY_GIB = 6.0, 2.0
PATIENCE = 300
"""Seconds until an import is taken to hang."""

State = Literal["ok", "warn", "fail"]


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        name: Such as `torch`.
        state: `ok`, `warn` (it works, but less well) or `fail` (it will not).
        said: What was found.
        fix: The command that mends it; nothing where nothing is wrong.
    """

    name: str
    state: State
    said: str
    fix: str = ""

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


def doctor(folder: Path = Path("runs")) -> list[Finding]:
    """Look over this machine.

    Args:
        folder: Where runs are to go: its disk is looked at, and whether it can be written.

    Returns:
        What was found, in order; a run needs that nothing has failed.
    """
    looks: list[Callable[[], Finding]] = [
        look_python,
        look_torch,
        look_precision,
        look_torchvision,
        look_libraries,
        look_opencv,
        look_memory,
        lambda: look_disk(folder),
        lambda: look_writing(folder),
        look_models,
        look_network,
        look_port,
    ]
    folder.exists()  # raises for a name that no disk can hold: at once, not after all that takes seconds
    with ThreadPoolExecutor(4) as threads:  # most of the time goes to other processes and to waiting
        return list(threads.map(lambda look: look(), looks))


def look_python() -> Finding:
    """Python's own version."""
    said = f"{platform.python_version()}, {platform.system()} {platform.machine()}"
    if sys.maxsize < 2**32:
        return Finding("Python", "fail", f"{said}, of 32 bits: torch has no build for it", "Install a 64-bit Python.")
    return Finding("Python", "ok", said)


def look_torch() -> Finding:
    """torch against the graphics driver."""
    import torch

    said, driver = f"{torch.__version__}", nvidia_driver()
    if torch.cuda.is_available():
        return Finding("torch", "ok", f"{said} on {torch.cuda.get_device_name()}, driver {driver or 'unknown'}")
    if torch.backends.mps.is_available():
        return Finding("torch", "ok", f"{said} on Apple's GPU")
    if driver and torch.version.cuda is None:
        fix = "pip install --force-reinstall torch --index-url https://download.pytorch.org/whl/cu126"
        return Finding("torch", "fail", f"{said} was built without CUDA, and there is an NVIDIA GPU", fix)
    if driver:
        cause = f"{said} wants CUDA {torch.version.cuda}, and driver {driver} does not give it"
        return Finding("torch", "fail", cause, "Update the driver, or install torch for an older CUDA.")
    return Finding("torch", "ok", f"{said}; no GPU: the embedded base trains in minutes, Stable Diffusion in days")


def nvidia_driver() -> str:
    """Version of NVIDIA's driver; nothing where there is none."""
    if shutil.which("nvidia-smi") is None:
        return ""
    command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        told = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return ""
    return told.stdout.strip().splitlines()[0] if told.stdout.strip() else ""


def look_precision() -> Finding:
    """In which number format trainings compute."""
    from portrayal.models.base import choose_device, resolve_precision

    device = choose_device()
    precision = resolve_precision("auto", device)
    if precision == "fp16":
        return Finding("precision", "warn", "fp16: this GPU has no bf16; losses are scaled, and some steps skipped")
    return Finding("precision", "ok", "fp32" if precision == "no" else precision)


def look_torchvision() -> Finding:
    """torchvision is not needed, and breaks what is when it does not fit torch."""
    if find_spec("torchvision") is None:
        return Finding("torchvision", "ok", "not installed, and not needed")
    fault = imported("import torchvision")
    if fault:
        return Finding(
            "torchvision", "fail", f"does not fit torch, and keeps diffusers from loading: {fault}",
            "pip uninstall -y torchvision",
        )  # fmt: skip
    return Finding("torchvision", "ok", f"{version('torchvision')} fits torch, and is not needed")


def look_libraries() -> Finding:
    """Whether what paints and trains can be imported, in a process of its own."""
    fault = imported("from diffusers import StableDiffusionPipeline; import transformers, peft, accelerate")
    if fault:
        return Finding("libraries", "fail", fault, "pip install --force-reinstall portrayal")
    names = ("diffusers", "transformers", "peft", "accelerate", "safetensors")
    said = ", ".join(f"{name} {version(name)}" for name in names)
    if source := never_compiled("diffusers"):
        said += "; Python compiles them anew at each start, which takes seconds: it keeps no bytecode"
        return Finding("libraries", "warn", said, f'python -m compileall -q "{source.parents[1]}"')
    return Finding("libraries", "ok", said)


def never_compiled(package: str) -> Path | None:
    """The source of a package that was just imported elsewhere, if no bytecode of it was kept; images for containers
    often say PYTHONDONTWRITEBYTECODE."""
    spec = find_spec(package)
    if spec is None or spec.origin is None or sys.implementation.cache_tag is None:
        return None
    return None if Path(cache_from_source(spec.origin)).is_file() else Path(spec.origin)


def imported(code: str) -> str:
    """What goes wrong when something is imported; nothing if it can be."""
    try:
        told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=PATIENCE)
    except subprocess.TimeoutExpired:
        return f"importing takes longer than {PATIENCE} s"
    lines = [line for line in told.stderr.splitlines() if line.strip()]
    return "" if told.returncode == 0 else lines[-1] if lines else f"it ended with {told.returncode}"


def look_opencv() -> Finding:
    """One package must provide cv2, and one that has Haar cascades and YuNet."""
    owners = sorted(set(packages_distributions().get("cv2", [])))
    if len(owners) > 1:
        others = " ".join(name for name in owners if name != "opencv-python-headless")
        fix = f"pip uninstall -y {others} && pip install --force-reinstall 'opencv-python-headless<5'"
        return Finding("OpenCV", "fail", f"{' and '.join(owners)} overwrite each other", fix)
    fault = imported("import cv2; cv2.CascadeClassifier; cv2.FaceDetectorYN")
    if fault:
        return Finding("OpenCV", "fail", fault, "pip install --force-reinstall 'opencv-python-headless<5'")
    return Finding("OpenCV", "ok", f"{owners[0]} {version(owners[0])}" if owners else "there")


def look_memory() -> Finding:
    """Memory of the machine and of the GPU."""
    import torch

    total, free = machine_memory()
    said = f"{free:.1f} of {total:.1f} GiB free"
    if torch.cuda.is_available():
        gpu_free, gpu_total = torch.cuda.mem_get_info()
        said += f"; GPU: {gpu_free / GIB:.1f} of {gpu_total / GIB:.1f} GiB free"
        if gpu_free < 0.5 * gpu_total:
            return Finding("memory", "warn", f"{said}: other programs are on it", "nvidia-smi shows which.")
    if free < LITTLE_MEMORY_GIB:
        return Finding("memory", "fail", said, "Close other programs: a run needs 2 GiB at the least.")
    if free < MEMORY_GIB:
        return Finding("memory", "warn", f"{said}; Stable Diffusion needs more", "Close other programs.")
    return Finding("memory", "ok", said)


def look_disk(folder: Path) -> Finding:
    """Room where runs go."""
    there = next(path for path in [folder.absolute(), *folder.absolute().parents] if path.exists())
    free = shutil.disk_usage(there).free / GIB
    said = f"{free:.1f} GiB free in {there}"
    if free < LITTLE_ROOM_GIB:
        return Finding("disk", "fail", said, "Free some space, or choose another folder with --out.")
    if free < ROOM_GIB:
        said += ": enough for the embedded base only"
        return Finding("disk", "warn", said, "portrayal plan says what is needed.")
    return Finding("disk", "ok", said)


def look_writing(folder: Path) -> Finding:
    """Whether runs, and what outlives them, can be written."""
    places = [folder, cache_folder()]
    for place in places:
        there = next(path for path in [place.absolute(), *place.absolute().parents] if path.exists())
        try:
            with tempfile.TemporaryFile(dir=there) as file:
                file.write(b"x")
        except OSError as error:
            fix = "Choose another folder with --out." if place == folder else "export PORTRAYAL_CACHE=/another/folder"
            return Finding("writing", "fail", f"{there}: {error.strerror or error}", fix)
    return Finding("writing", "ok", f"{places[0]} and {places[1]}")


def look_models() -> Finding:
    """Which models are on this machine."""
    import torch

    from portrayal.models.catalog import CATALOG
    from portrayal.models.checkpoints import check_files
    from portrayal.models.source import pocket_source, weight_files
    from portrayal.models.store import look_for

    try:
        check_files(weight_files(pocket_source("").path))
    except WeightsError as error:
        return Finding("models", "fail", error.cause, "pip install --force-reinstall portrayal")
    here = [model.name for model in CATALOG if look_for(model).state == "here"]
    said = f"pocket, {', '.join(here)}" if here else "pocket, the embedded base"
    if torch.cuda.is_available() and "sd15" not in here:
        return Finding("models", "warn", f"{said}; not Stable Diffusion 1.5", "portrayal models fetch sd15")
    return Finding("models", "ok", said)


def look_network() -> Finding:
    """Whether the hub answers within two seconds. Without it everything works that is here."""
    from portrayal.models.store import HUB_HOST, online

    told_not_to = os.environ.get("HF_HUB_OFFLINE")
    if online():
        return Finding("network", "ok", f"{HUB_HOST[0]} answers")
    if told_not_to not in (None, "", "0"):
        return Finding("network", "ok", "HF_HUB_OFFLINE is set: nobody is asked")
    return Finding("network", "warn", f"{HUB_HOST[0]} does not answer: what is here is used", "Check the connection.")


def look_port() -> Finding:
    """Whether the studio's port is free."""
    with socket.socket() as asking:
        try:
            asking.bind(("127.0.0.1", STUDIO_PORT))
        except OSError:
            return Finding("port", "warn", f"{STUDIO_PORT} is taken; the studio needs another")
    return Finding("port", "ok", f"{STUDIO_PORT} is free for the studio")
