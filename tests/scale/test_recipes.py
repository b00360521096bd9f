"""The recipes for Slurm and Kubernetes, as far as they can be checked without either."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

from portrayal.cli import app

FOLDER = Path(__file__).parents[2] / "docs" / "scale"
SBATCH = {
    "job-name", "nodes", "ntasks", "ntasks-per-node", "gpus-per-node", "cpus-per-task", "time", "requeue", "signal",
}  # fmt: skip
"""Options that sbatch(1) documents, as far as the recipes use them."""


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.sbatch")), ids=lambda path: path.name)
def test_slurm_scripts_are_bash_and_ask_for_what_there_is(path: Path) -> None:
    bash = shutil.which("bash")
    if bash is None:
        pytest.skip("there is no bash")
    assert subprocess.run([bash, "-n", path], capture_output=True, text=True, check=False).stderr == ""
    text = path.read_text(encoding="utf-8")
    options = re.findall(r"^#SBATCH --([a-z-]+)", text, re.MULTILINE)
    assert set(options) <= SBATCH
    assert {"requeue", "signal"} <= set(options)
    assert text.index("#SBATCH") < text.index("set -euo pipefail")


def documents(name: str) -> dict[str, Any]:
    (found,) = yaml.safe_load_all((FOLDER / name).read_text(encoding="utf-8"))
    return found


def test_the_cluster_is_one_of_kuberay() -> None:
    cluster = documents("raycluster.yaml")
    assert (cluster["apiVersion"], cluster["kind"]) == ("ray.io/v1", "RayCluster")
    spec = cluster["spec"]
    assert spec.keys() == {"rayVersion", "headGroupSpec", "workerGroupSpecs"}
    assert spec["headGroupSpec"].keys() == {"rayStartParams", "template"}
    (workers,) = spec["workerGroupSpecs"]
    assert workers.keys() == {"groupName", "replicas", "minReplicas", "maxReplicas", "rayStartParams", "template"}
    for template in (spec["headGroupSpec"]["template"], workers["template"]):
        pod = template["spec"]
        (container,) = pod["containers"]
        assert {mount["name"] for mount in container["volumeMounts"]} == {volume["name"] for volume in pod["volumes"]}
        assert container["resources"]["limits"] == container["resources"]["requests"]
    assert workers["template"]["spec"]["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] == "1"


def test_the_job_is_a_batch_on_that_cluster() -> None:
    job, cluster = documents("rayjob.yaml"), documents("raycluster.yaml")
    assert (job["apiVersion"], job["kind"]) == ("ray.io/v1", "RayJob")
    assert job["spec"]["clusterSelector"] == {"ray.io/cluster": cluster["metadata"]["name"]}
    assert_command(job["spec"]["entrypoint"])


def test_the_commands_are_ours() -> None:
    texts = [path.read_text(encoding="utf-8") for path in [*FOLDER.glob("*.sbatch"), FOLDER.with_suffix(".md")]]
    found = [line for text in texts for line in re.findall(r"^portrayal (?:batch|run) .*$", text, re.MULTILINE)]
    assert len(found) >= 3
    for command in found:
        assert_command(command)


def assert_command(line: str) -> None:
    """A command of ours with flags that it has."""
    _, name, *words = line.removesuffix("&").split()
    command = typer.main.get_command(app).commands[name]
    known = {option for parameter in command.params for option in parameter.opts}
    assert {word for word in words if word.startswith("--")} <= known
