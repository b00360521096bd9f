"""The one training loop of every stage: a deadline instead of a step count, and a log.

The learning rate follows the share of the stage's time that has passed, so a stage always ends annealed, whatever
the machine's speed. On a GPU a whole step (batch, forward, backward, clipping, optimizer, average) is captured once as
a CUDA graph and replayed: these models are so small that launching their kernels one by one takes longer than running
them. The loop waits for the GPU only to log, to save and not to run ahead of it.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

Metrics = dict[str, Tensor]
Loss = tuple[Tensor, Metrics]

WARM_STEPS = 3
"""Taken before a step is compiled for good or captured."""

AHEAD = 16
"""Steps that may be queued on the GPU; without a bound the clock would count steps not yet taken."""


class Paused(Exception):  # noqa: N818
    """This call's time is over; the same command goes on from the saved state."""


@dataclass
class Clock:
    """Seconds spent on the whole run, over all calls, and when this call has to stop."""

    previous: float = 0.0
    call_seconds: float | None = None
    log_file: Path | None = None
    stages: dict[str, dict[str, float]] = field(default_factory=dict)
    """Steps, seconds and batch size of every finished stage; trained again, the steps and seconds add up."""
    started: float = field(default_factory=time.perf_counter)

    @property
    def elapsed(self) -> float:
        """Seconds of all calls so far."""
        return self.previous + time.perf_counter() - self.started

    @property
    def call_is_over(self) -> bool:
        """Whether this call should save and stop."""
        return self.call_seconds is not None and time.perf_counter() - self.started > self.call_seconds

    def log(self, text: str) -> None:
        """Print a line with the run's elapsed seconds, and keep it."""
        line = f"[{self.elapsed:7.1f}s] {text}"
        print(line, flush=True)
        if self.log_file is not None:
            with self.log_file.open("a", encoding="utf-8") as file:
                file.write(line + "\n")


@dataclass(frozen=True)
class Plan:
    """How one stage trains."""

    name: str
    seconds: float
    """Training time, compiling apart; with ``until``, ignored."""
    learning_rate: float
    batch_size: int
    weight_decay: float = 0.01
    warmup_steps: int = 100
    decay_from: float = 0.0
    """Share of the time after which the learning rate falls linearly to 1 % of its peak."""
    max_steps: int | None = None
    until: float | None = None
    """The run's elapsed seconds at which the stage ends, whatever came before it took."""
    ema: bool = False
    compile: bool = True
    graph: bool = False
    """Capture the step as a CUDA graph; ignored on a CPU. Its random numbers must all be drawn on the GPU."""
    log_every: int = 200
    save_every_seconds: float = 60.0
    state_file: Path | None = None
    """Where the stage is kept while it runs: what makes it resumable."""


def rate_at(plan: Plan, step: int, share: float) -> float:
    """Learning rate after ``step`` steps and a ``share`` in [0, 1] of the time."""
    fall = min(1.0, (1 - share) / (1 - plan.decay_from))
    return plan.learning_rate * min(1.0, (step + 1) / plan.warmup_steps) * max(0.01, fall)


class Training:
    """One stage's optimisation: ``forward`` is compiled, ``loss(forward)`` draws a batch and judges it.

    The plan's state file makes it resumable: weights, averaged weights, optimizer and seconds used, in safetensors.
    """

    def __init__(self, plan: Plan, model: nn.Module, clock: Clock) -> None:
        self.plan, self.model, self.clock, self.state_file = plan, model, clock, plan.state_file
        self.average = deepcopy(model).requires_grad_(False).eval() if plan.ema else model
        self.parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
        self.averages: list[Tensor] = list(self.average.parameters())
        self.sources: list[Tensor] = list(model.parameters())
        decayed = [parameter for parameter in self.parameters if parameter.ndim > 1]
        rest = [parameter for parameter in self.parameters if parameter.ndim <= 1]
        groups = [{"params": decayed, "weight_decay": plan.weight_decay}, {"params": rest, "weight_decay": 0.0}]
        self.device = self.parameters[0].device
        self.rate = torch.tensor(plan.learning_rate, device=self.device)
        self.follow = torch.tensor(0.0, device=self.device)
        on_gpu = self.device.type == "cuda"
        self.optimizer = torch.optim.AdamW(groups, plan.learning_rate, betas=(0.9, 0.99), fused=True, capturable=on_gpu)
        self.queued: deque[torch.cuda.Event] = deque()
        self.step, self.used, self.total = 0, 0.0, plan.seconds
        if self.state_file is not None and self.state_file.exists():
            self._load()
        for group in self.optimizer.param_groups:
            group["lr"] = self.rate

    def run(self, forward: Callable[..., Any], loss: Callable[[Callable[..., Any]], Loss]) -> nn.Module:
        """Train until the plan's time is used; returns the (averaged) model.

        Raises:
            Paused: If this call must stop first; the state is saved.
        """
        plan = self.plan
        self.model.train()
        forward = self._compiled(forward, loss) if plan.compile else forward
        take = self._captured(forward, loss) if plan.graph and self.device.type == "cuda" else None
        if plan.until is not None:
            self.total = self.used + max(plan.until - self.clock.elapsed, 1.0)
        start, saved = time.perf_counter(), time.perf_counter()
        used_before, step_before = self.used, self.step
        metrics: Metrics = {}
        while self.used < self.total and (plan.max_steps is None or self.step < plan.max_steps):
            self._set_rates(self.used / self.total)
            metrics = self._update(loss(forward)) if take is None else take()
            self.step += 1
            self._wait_for_the_queue()
            self.used = used_before + time.perf_counter() - start
            if self.step % plan.log_every == 0:
                self._report(metrics, (self.step - step_before) / (self.used - used_before))
            if self.clock.call_is_over and self.state_file is not None:
                self._save()
                raise Paused(plan.name)
            if self.state_file is not None and time.perf_counter() - saved > plan.save_every_seconds:
                self._save()
                saved = time.perf_counter()
        self._report(metrics, self.step / max(self.used, 1e-9))
        if self.state_file is not None:
            self._save()
        before = self.clock.stages.get(plan.name, {"steps": 0, "seconds": 0.0})
        self.clock.stages[plan.name] = {
            "steps": before["steps"] + self.step,
            "seconds": before["seconds"] + self.used,
            "batch_size": plan.batch_size,
        }
        return self.average.eval()

    def _compiled(self, forward: Callable[..., Any], loss: Callable[[Callable[..., Any]], Loss]) -> Callable[..., Any]:
        """Compile ``forward`` by taking real steps with it, outside the stage's time; else run it as it is."""
        began = time.perf_counter()
        fast = torch.compile(forward, dynamic=False)
        try:
            self._set_rates(self.used / self.total)
            for _ in range(WARM_STEPS):
                self._update(loss(fast))
                self.step += 1
            _wait()
        except Exception as error:  # the compiler's failures have no common class; eager is always right
            self.clock.log(f"{self.plan.name}: not compiled, {type(error).__name__}: {str(error)[:500]}")
            self.optimizer.zero_grad(set_to_none=True)
            return forward
        self.clock.log(f"{self.plan.name}: compiled in {time.perf_counter() - began:.1f} s")
        return fast

    def _captured(
        self, forward: Callable[..., Any], loss: Callable[[Callable[..., Any]], Loss]
    ) -> Callable[[], Metrics] | None:
        """A whole step as one CUDA graph, which draws new random numbers at each replay; nothing if it cannot be."""
        began, graph = time.perf_counter(), torch.cuda.CUDAGraph()
        try:
            aside = torch.cuda.Stream()
            aside.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(aside):  # allocations of the optimizer and of libraries come before the capture
                self._set_rates(self.used / self.total)
                for _ in range(WARM_STEPS):
                    self._update(loss(forward))
                    self.step += 1
            torch.cuda.current_stream().wait_stream(aside)
            _wait()
            with torch.cuda.graph(graph):
                metrics = self._update(loss(forward), keep_gradients=True)
        except Exception as error:  # whatever cannot be captured runs as it is
            self.clock.log(f"{self.plan.name}: not captured, {type(error).__name__}: {str(error)[:500]}")
            self.optimizer.zero_grad(set_to_none=True)
            return None
        self.clock.log(f"{self.plan.name}: captured in {time.perf_counter() - began:.1f} s")

        def replay() -> Metrics:
            graph.replay()
            return metrics

        return replay

    def _set_rates(self, share: float) -> None:
        """Learning rate and decay of the average for the next step, where a captured step reads them."""
        self.rate.fill_(rate_at(self.plan, self.step, share))
        self.follow.fill_(1 - min(0.9995, (1 + self.step) / (10 + self.step)))

    def _wait_for_the_queue(self) -> None:
        if self.device.type == "cuda":
            event = torch.cuda.Event()
            event.record()
            self.queued.append(event)
            if len(self.queued) > AHEAD:
                self.queued.popleft().synchronize()

    def _update(self, judged: Loss, *, keep_gradients: bool = False) -> Metrics:
        """One optimizer step; a gradient that is not finite leaves the weights as they are.

        Args:
            judged: The loss and what to log.
            keep_gradients: Leave them in place, as a captured step must: each replay writes them anew.
        """
        loss, metrics = judged
        loss.backward()
        norm = nn.utils.clip_grad_norm_(self.parameters, 1.0)
        found = (~torch.isfinite(norm)).float()
        self.optimizer.found_inf = found  # type: ignore[attr-defined]  # read by the fused step, on the GPU
        self.optimizer.step()
        if not keep_gradients:
            self.optimizer.zero_grad(set_to_none=True)
        if self.plan.ema:
            with torch.no_grad():
                steps = torch._foreach_sub(self.sources, self.averages)
                torch._foreach_mul_(steps, self.follow)
                torch._foreach_add_(self.averages, steps)
        return {"loss": loss.detach(), **metrics}

    def _report(self, metrics: Metrics, steps_per_second: float) -> None:
        values = " ".join(f"{name} {value.item():.4f}" for name, value in metrics.items())
        speed = f"{steps_per_second:.2f} steps/s, {steps_per_second * self.plan.batch_size:.0f} images/s"
        self.clock.log(f"{self.plan.name} step {self.step} ({self.used:.0f}/{self.total:.0f} s): {values}; {speed}")

    def _save(self) -> None:
        assert self.state_file is not None
        tensors = {"progress": torch.tensor([self.step, self.used], dtype=torch.float64)}
        tensors |= {f"model.{name}": value for name, value in self.model.state_dict().items()}
        tensors |= {f"average.{name}": value for name, value in self.average.state_dict().items()}
        for index, state in self.optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{index}.{name}": value for name, value in state.items()}
        save_tensors(tensors, self.state_file)

    def _load(self) -> None:
        assert self.state_file is not None
        tensors = load_file(self.state_file)
        self.model.load_state_dict(_under("model.", tensors))
        self.average.load_state_dict(_under("average.", tensors))
        state: dict[int, dict[str, Tensor]] = {}
        for name, value in _under("optimizer.", tensors).items():
            index, key = name.split(".")
            state.setdefault(int(index), {})[key] = value
        groups = self.optimizer.state_dict()["param_groups"]
        self.optimizer.load_state_dict({"state": state, "param_groups": groups})
        for parameter, values in self.optimizer.state.items():  # the fused step wants the weights' memory order
            for key in ("exp_avg", "exp_avg_sq"):
                values[key] = torch.empty_like(parameter).copy_(values[key])
        self.step, self.used = int(tensors["progress"][0]), float(tensors["progress"][1])
        self.clock.log(f"{self.plan.name}: goes on at step {self.step}, {self.used:.0f} s used")


def save_tensors(tensors: dict[str, Tensor], path: Path) -> None:
    """Write safetensors whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_suffix(".partial")
    save_file({name: value.detach().cpu().contiguous().clone() for name, value in tensors.items()}, beside)
    beside.replace(path)


def _under(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


def _wait() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
