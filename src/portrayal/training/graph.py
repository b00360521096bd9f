"""A training step as one CUDA graph: recorded once, then replayed with new numbers in the same buffers.

A plain step is thousands of small launches, and at small batches the GPU waits for the CPU to make them. A graph is one
launch. It is the same step, `step.gradients` and `step.descend`, recorded as it runs.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor

from portrayal.models.base import recording_stream
from portrayal.training.state import TrainingState
from portrayal.training.step import Inputs, Outputs, descend, forget_gradients, gradients, to_device, update

PLAIN_STEPS = 2
"""Steps of a shape taken plainly before it is recorded: libraries choose kernels and make their workspaces in them."""


class Recording(NamedTuple):
    """A graph with the buffers it reads and writes.

    Attributes:
        graph: The step, or its gradients alone.
        inputs: What it reads.
        outputs: What it says.
        gradients: Weights and where it leaves their gradients, for an optimizer that cannot be recorded.
    """

    graph: torch.cuda.CUDAGraph
    inputs: list[Inputs]
    outputs: Outputs
    gradients: list[tuple[Tensor, Tensor]]


class CapturedStep:
    """Runs steps of one training: plainly at first, then as graphs, one for each shape of a batch.

    Where the optimizer cannot be recorded (it counts its steps on the CPU), the gradients are, and it follows plainly.
    A step that cannot be recorded is taken plainly, and so are those after it.

    Args:
        note: Told why, if a step cannot be recorded.
    """

    def __init__(self, note: Callable[[str], None]) -> None:
        self.note = note
        self.failed = False
        self.recordings: dict[object, Recording] = {}
        self.plain_steps: dict[object, int] = {}
        self.pool = torch.cuda.graph_pool_handle()
        self.stream = recording_stream()

    def __call__(self, state: TrainingState, inputs: Sequence[Inputs]) -> Outputs:
        """Take a step."""
        key = tuple((one.latents.shape, one.place_weights is None) for one in inputs)
        recording = self.recordings.get(key)
        if recording is None and self.plain_steps.get(key, 0) >= PLAIN_STEPS and not self.failed:
            recording = self._record(state, inputs, key)
        if recording is None:
            self.plain_steps[key] = self.plain_steps.get(key, 0) + 1
            return self._plainly(state, inputs)
        for buffer, one in zip(recording.inputs, inputs, strict=True):
            buffer.fill(one)
        recording.graph.replay()
        if recording.gradients:
            for weight, gradient in recording.gradients:
                weight.grad = gradient  # where the graph left it
            descend(state, recording.outputs)
            forget_gradients(state)
        return recording.outputs

    def _plainly(self, state: TrainingState, inputs: Sequence[Inputs]) -> Outputs:
        """On the stream of the recordings, whose libraries have to be warm there."""
        self.stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self.stream):
            outputs = update(state, inputs)
        torch.cuda.current_stream().wait_stream(self.stream)
        return outputs

    def _record(self, state: TrainingState, inputs: Sequence[Inputs], key: object) -> Recording | None:
        buffers = [one.map(lambda tensor: to_device(tensor, state.base.device)) for one in inputs]
        graph = torch.cuda.CUDAGraph()
        torch.cuda.empty_cache()  # what plain steps used; a graph has memory of its own
        try:
            # Of this thread alone: NCCL's own looks after its work meanwhile.
            mode = "thread_local" if state.processes.count > 1 else "global"
            recording = torch.cuda.graph(graph, pool=self.pool, stream=self.stream, capture_error_mode=mode)
            with empty_graphs_allowed(), recording:
                outputs = gradients(state, buffers)
                if records_optimizer(state):
                    descend(state, outputs)
                    forget_gradients(state)
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:
            self.failed = True
            forget_gradients(state)
            state.scaler = state.scaler and unused(state.scaler)
            self.note(f"Steps are taken one launch at a time, which is slower: {str(error).splitlines()[0]}")
            return None
        weights = [] if records_optimizer(state) else state.trainable()
        gradients_of = [(weight, weight.grad) for weight in weights if weight.grad is not None]
        forget_gradients(state)
        self.recordings[key] = Recording(graph, buffers, outputs, gradients_of)
        return self.recordings[key]


@contextmanager
def empty_graphs_allowed() -> Iterator[None]:
    """Do not warn of a graph without work: memory ran out at its first allocation, and that error follows."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The CUDA Graph is empty")
        yield


def unused(scaler: torch.amp.GradScaler) -> torch.amp.GradScaler:
    """The same loss scale without what the scaler knows of a step that was broken off."""
    fresh = torch.amp.GradScaler("cuda")
    fresh.load_state_dict(scaler.state_dict())
    return fresh


def records_optimizer(state: TrainingState) -> bool:
    """Whether the optimizer can be part of a graph."""
    return bool(state.optimizer.param_groups[0].get("capturable"))


def why_plain(state: TrainingState) -> str | None:
    """Why a training's steps are not captured, or nothing."""
    if state.base.device.type != "cuda":
        return "there is no CUDA GPU"
    if not state.config.cuda_graph:
        return "training.cuda_graph is off"
    if any(getattr(learner.method, "dropout", 0) for learner in state.learners):
        return "LoRA dropout draws from a generator that a graph cannot reseed"
    if state.scaler and not records_optimizer(state):
        return "this optimizer cannot follow fp16's loss scale inside a graph"
    return None
