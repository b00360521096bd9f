"""A captured step is the plain step. On a GPU only."""

from __future__ import annotations

import gc
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from portrayal.config import BaseConfig, Config, LoraMethod, UnetMethod
from portrayal.models import lean
from portrayal.models.base import load_base
from portrayal.models.source import find_base
from portrayal.settings import load_config
from portrayal.training import trainer
from portrayal.training.graph import CapturedStep
from portrayal.training.optimizers import small_adamw
from portrayal.training.session import session
from portrayal.training.step import gradients, launch, train_step
from portrayal.training.task import Task

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="graphs are CUDA's"),
]
STEPS = 100
FEW = 12  # enough for two plain steps and a graph
UNET = UnetMethod(learning_rate=1e-4, max_train_steps=STEPS)
LORAS = [LoraMethod(rank=rank, learning_rate=1e-3, max_train_steps=STEPS) for rank in (4, 8, 16)]
CASES = {
    "unet": ([UNET], []),
    "unet+text, prior, accumulated": (
        [UNET.model_copy(update={"train_text_encoder": True})],
        ["training.gradient_accumulation_steps=2", "training.prior_loss_weight=0.5"],
    ),
    "lora": (LORAS[:1], []),
    "pack with text": ([one.model_copy(update={"train_text_encoder": True}) for one in LORAS], []),
    "pack, checkpointed": (LORAS, ["training.gradient_checkpointing=true", "training.snr_gamma=5"]),
    "unet, small": ([UNET.model_copy(update={"master_weights": False})], []),
    "unet, fp16": ([UNET], ["training.mixed_precision=fp16"]),
    "lora, fp16": (LORAS[:1], ["training.mixed_precision=fp16"]),
    "unet+text, fp16": ([UNET.model_copy(update={"train_text_encoder": True})], ["training.mixed_precision=fp16"]),
    "pack with text, fp16": (
        [one.model_copy(update={"train_text_encoder": True}) for one in LORAS],
        ["training.mixed_precision=fp16", "training.prior_loss_weight=0.5"],
    ),
    "unet, fp32": ([UNET], ["training.mixed_precision=no"]),
    "unet, adafactor": ([UNET], ["training.optimizer.name=adafactor"]),
    "lora, schedule": (LORAS[:1], ["training.lr_scheduler=cosine", "training.lr_warmup_steps=10"]),
    "lora, adafactor": (LORAS[:1], ["training.optimizer.name=adafactor"]),
}


def config_of(*settings: str) -> Config:
    return load_config(
        None,
        ["training.mixed_precision=bf16", "training.prior_loss_weight=0", "training.save_precision=fp32", *settings],
    )


@pytest.fixture(scope="module", autouse=True)
def bases() -> Iterator[None]:
    yield
    cuda_base.cache.clear()


def cuda_base(config: Config) -> Any:
    precision = config.training.mixed_precision
    if precision not in cuda_base.cache:
        dtype = {"bf16": torch.bfloat16, "fp16": torch.float16, "no": torch.float32}[precision]
        source = find_base(BaseConfig(name="pocket"))
        cuda_base.cache[precision] = load_base(source, device=torch.device("cuda"), dtype=dtype)
    return cuda_base.cache[precision]


cuda_base.cache = {}


def tasks_of(methods: list[Any], data: Any, folder: Path) -> list[Task]:
    return [Task(f"m{number}", method, data, folder / f"m{number}") for number, method in enumerate(methods)]


def losses_of(task: Task) -> Tensor:
    return torch.tensor(
        [json.loads(line)["loss"] for line in (task.folder / "training.jsonl").read_text().splitlines()]
    )


def weights_of(task: Task) -> dict[str, Tensor]:
    found: dict[str, Tensor] = {}
    for path in sorted(task.folder.rglob("*.safetensors")):
        if "kohya" not in path.name:
            found |= {f"{path.parent.name}/{name}": value for name, value in load_file(path).items()}
    return found


def apart(one: dict[str, Tensor], other: dict[str, Tensor], start: dict[str, Tensor]) -> float:
    """How far two trainings ended from one another, as a share of how far they went."""
    between = sum(float((one[name] - other[name]).square().sum()) for name in one)
    return (between / sum(float((one[name] - start[name]).square().sum()) for name in one)) ** 0.5


def losses_with(graph: bool, case: str, steps: int, encoded: Any, folder: Path) -> list[Tensor]:
    """Losses of a case's models, captured or plain."""
    methods, settings = CASES[case]
    tasks = tasks_of([one.model_copy(update={"max_train_steps": steps}) for one in methods], encoded, folder)
    config = config_of(*settings, f"training.cuda_graph={str(graph).lower()}")
    trainer.train(cuda_base(config), tasks, config, folder / "work", lambda *_: None, pytest.fail)
    return [losses_of(task) for task in tasks]


@pytest.mark.parametrize("case", ["unet", "pack with text"])
def test_a_hundred_captured_steps_are_a_hundred_plain_ones(case: str, encoded, tmp_path: Path) -> None:
    """As near as two plain trainings are to one another: a GPU's sums run in any order."""
    found, expected, again = (
        losses_with(graph, case, STEPS, encoded, tmp_path / name)
        for name, graph in (("captured", True), ("plain", False), ("again", False))
    )
    for captured, plain, repeated in zip(found, expected, again, strict=True):
        noise = float((repeated / plain - 1).abs().mean())
        assert float((captured / plain - 1).abs().mean()) < max(3 * noise, 2e-3)


@pytest.mark.parametrize("case", CASES)
def test_every_way_of_training_can_be_captured(case: str, encoded, tmp_path: Path) -> None:
    found, expected = (losses_with(graph, case, FEW, encoded, tmp_path / str(graph)) for graph in (True, False))
    for captured, plain in zip(found, expected, strict=True):
        assert float((captured / plain - 1).abs().max()) < 2e-2
        assert not torch.equal(plain[0], plain[-1])


@pytest.mark.parametrize("case", ["unet", "pack with text", "unet, fp16"])
def test_what_cannot_be_captured_is_trained_plainly_and_said_once(
    case: str, encoded, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Forced: a question to the GPU in the middle of each recording."""

    def asks(state: Any, inputs: Any) -> Any:
        outputs = gradients(state, inputs)
        outputs.losses.sum().item()
        return outputs

    monkeypatch.setattr("portrayal.training.graph.gradients", asks)
    methods, settings = CASES[case]
    tasks = tasks_of([one.model_copy(update={"max_train_steps": FEW}) for one in methods], encoded, tmp_path / "ours")
    said, config = list[str](), config_of(*settings)
    trainer.train(cuda_base(config), tasks, config, tmp_path / "work", lambda *_: None, said.append)
    assert len(said) == 1
    assert "one launch at a time" in said[0]
    for found, expected in zip(map(losses_of, tasks), losses_with(False, case, FEW, encoded, tmp_path), strict=True):
        assert float((found / expected - 1).abs().max()) < 2e-2


@pytest.mark.parametrize("method", [UNET, UNET.model_copy(update={"master_weights": False})], ids=["masters", "small"])
def test_without_a_compiler_a_training_goes_on_with_plain_kernels(
    method: UnetMethod, encoded, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Forced: Triton finds nothing to build with, and nothing that was built before."""
    lean.kernels_run.cache_clear()
    monkeypatch.setattr("portrayal.models.kernels._geglu.run", refuse_to_build)
    try:
        base = load_base(find_base(BaseConfig(name="pocket")), device=torch.device("cuda"), dtype=torch.bfloat16)
        (task,) = tasks_of([method.model_copy(update={"max_train_steps": FEW})], encoded, tmp_path / "plain")
        trainer.train(base, [task], config_of(), tmp_path / "work", lambda *_: None)
        assert caplog.text.count("no C compiler") == 1
        assert not any("forward" in vars(part) for part in base.unet.modules())
    finally:
        lean.kernels_run.cache_clear()
    (built,) = tasks_of([method.model_copy(update={"max_train_steps": FEW})], encoded, tmp_path / "built")
    monkeypatch.undo()
    trainer.train(cuda_base(config_of()), [built], config_of(), tmp_path / "work", lambda *_: None)
    assert float((losses_of(task) / losses_of(built) - 1).abs().mean()) < 2e-2


def refuse_to_build(*_: Any, **__: Any) -> None:
    raise RuntimeError("Failed to find a C compiler: no C compiler")


@pytest.mark.parametrize("graph", [True, False])
@pytest.mark.parametrize("case", ["unet, fp16", "unet, adafactor", "unet+text, fp16", "pack with text, fp16"])
def test_gradients_of_half_weights_are_as_long_as_those_of_full_ones(
    case: str, graph: bool, encoded, tmp_path: Path
) -> None:
    """What one step leaves behind would make the next ones' longer."""
    methods, settings = CASES[case]
    methods = [one.model_copy(update={"max_train_steps": FEW, "learning_rate": 1e-7}) for one in methods]
    norms = {}
    for precision in (settings, [*settings, "training.mixed_precision=no"]):
        config = config_of(*precision, f"training.cuda_graph={str(graph).lower()}")
        tasks = tasks_of(methods, encoded, tmp_path / str(len(precision)))
        trainer.train(cuda_base(config), tasks, config, tmp_path / f"work-{len(precision)}", lambda *_: None)
        lines = [json.loads(line) for line in (tasks[-1].folder / "training.jsonl").read_text().splitlines()]
        assert not any(line["skipped"] for line in lines)
        norms[len(precision)] = torch.tensor([line["grad_norm"] for line in lines])
    halves, full = norms.values()
    assert float((halves / full - 1).abs().mean()) < 0.05


def test_what_leaves_a_pack_leaves_the_others_as_they_were(encoded, tmp_path: Path) -> None:
    config = config_of()
    methods = [LORAS[0], LORAS[1].model_copy(update={"max_train_steps": 6})]
    methods = [methods[0].model_copy(update={"max_train_steps": FEW}), methods[1]]
    packed, alone = (tasks_of(methods, encoded, tmp_path / name) for name in ("packed", "alone"))
    trainer.train(cuda_base(config), packed, config, tmp_path / "work", lambda *_: None)
    trainer.train(cuda_base(config), alone[:1], config, tmp_path / "work", lambda *_: None)
    assert len(losses_of(packed[1])) == 6
    assert float((losses_of(packed[0]) / losses_of(alone[0]) - 1).abs().mean()) < 2e-2


@pytest.mark.parametrize(
    "method", [UNET, LORAS[1], UNET.model_copy(update={"master_weights": False})], ids=["unet", "lora", "small"]
)
@pytest.mark.parametrize("first", [True, False])
def test_a_training_goes_on_in_the_other_mode(method: Any, first: bool, encoded, tmp_path: Path) -> None:
    def interrupted(done: int, total: int) -> None:
        if done == 7:
            raise KeyboardInterrupt

    configs = [
        config_of("training.checkpointing_steps=6", f"training.cuda_graph={str(on).lower()}")
        for on in (first, not first)
    ]
    short = method.model_copy(update={"max_train_steps": FEW})
    (task,), (whole,) = (tasks_of([short], encoded, tmp_path / name) for name in ("resumed", "whole"))
    base = cuda_base(configs[0])
    with pytest.raises(KeyboardInterrupt):
        trainer.train(base, [task], configs[0], tmp_path / "work", interrupted)
    trainer.train(base, [task], configs[1], tmp_path / "work", lambda *_: None)
    trainer.train(base, [whole], configs[0], tmp_path / "other", lambda *_: None)
    assert float((losses_of(task) / losses_of(whole) - 1).abs().max()) < 2e-2
    assert weights_of(task).keys() == weights_of(whole).keys()


@pytest.mark.parametrize("method", [UNET, LORAS[0]], ids=["unet", "lora"])
def test_a_loss_that_is_not_finite_leaves_the_weights_alone(method: Any, encoded, tmp_path: Path) -> None:
    config = config_of()
    with session(cuda_base(config), tasks_of([method], encoded, tmp_path), config, tmp_path / "work") as state:
        run = CapturedStep(pytest.fail)
        for _ in range(5):
            launch(state, run).records()
        before = {name: weight.detach().clone() for name, weight in state.attached.named_parameters().items()}
        source = state.learners[0].batches.at(5)
        source.latents[0, 0, 0, 0] = float("inf")
        state.learners[0].batches = type("Bad", (), {"at": lambda self, position: source})()
        (record,) = launch(state, run).records()
        assert record.skipped
        assert state.learners[0].health.skipped == 1
        assert all(torch.equal(weight, before[name]) for name, weight in state.attached.named_parameters().items())


@pytest.mark.parametrize("method", [UNET, LORAS[0]], ids=["unet", "lora"])
def test_a_training_gives_its_memory_back_at_once(method: Any, encoded, tmp_path: Path) -> None:
    config = config_of()
    base = cuda_base(config)
    short = method.model_copy(update={"max_train_steps": 5})
    gc.collect()
    gc.disable()  # what is tied in knots would wait for it, and the next training would find less room
    try:
        kept = []
        for name in ("first", "second"):  # libraries keep workspaces from the first
            trainer.train(base, tasks_of([short], encoded, tmp_path / name), config, tmp_path / "w", lambda *_: None)
            kept.append(torch.cuda.memory_allocated())
    finally:
        gc.enable()
    assert kept[1] - kept[0] < 2**20


def test_masters_move_as_torch_moves_fp32_weights(encoded, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same gradients, given to both."""
    config = config_of("training.max_grad_norm=0.05", "training.optimizer.weight_decay=0.1")
    with session(cuda_base(config), tasks_of([UNET], encoded, tmp_path), config, tmp_path / "work") as state:
        optimizer = state.optimizer
        assert type(optimizer).__name__ == "MasterAdamW"
        masters = [master for group in optimizer.param_groups for master in group["params"]]
        twins = [torch.nn.Parameter(master.detach().double()) for master in masters]
        reference = torch.optim.AdamW(twins, lr=UNET.learning_rate, weight_decay=0.1, eps=config.training.optimizer.eps)
        step = optimizer.step

        def both() -> None:
            for twin, gradient in zip(twins, optimizer.gradients(), strict=True):
                twin.grad = gradient.double() * optimizer.clip.double()
            reference.step()
            step()

        monkeypatch.setattr(optimizer, "step", both)
        start = [master.detach().clone() for master in masters]
        for _ in range(5):
            (record,) = train_step(state)
            assert record.grad_norm > 0.05
        for master, twin, first in zip(masters, twins, start, strict=True):
            master, twin = master.detach(), twin.detach()
            moved = float((twin - first).norm())
            assert float((master - twin).norm()) < 1e-4 * moved + 1e-6 * float(first.norm())
        halves = [weight for group in optimizer.param_groups for weight in group["weights"]]
        assert all(torch.equal(half, master.to(half.dtype)) for half, master in zip(halves, masters, strict=True))


@pytest.mark.parametrize("kernel", [True, False])
def test_eight_bit_averages_move_weights_as_torch_moves_them_on_average(kernel: bool) -> None:
    """The rounding is by chance: a weight ends beside where fp32 would, their mean where fp32 would."""

    torch.manual_seed(0)
    start = torch.randn(64, 64, 3, 3, device="cuda").mul(0.05).to(torch.bfloat16)
    start = start.contiguous(memory_format=torch.channels_last)
    scale = torch.logspace(-6, -2, 64, device="cuda")[:, None, None, None]  # rows whose gradients are far apart
    gradients = [torch.randn(start.shape, device="cuda") * scale + 0.5 * scale for _ in range(40)]
    gradients = [one.to(torch.bfloat16).contiguous(memory_format=torch.channels_last) for one in gradients]
    weight, twin = torch.nn.Parameter(start.clone()), torch.nn.Parameter(start.double())
    groups = [{"params": [weight], "lr": 1e-3}]
    ours: Any = small_adamw(groups, kernels=kernel, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.01)
    theirs = torch.optim.AdamW([twin], lr=1e-3, weight_decay=0.01)
    for gradient in gradients:
        weight.grad, twin.grad = gradient.clone(), gradient.double()
        ours.step()
        theirs.step()
    moved, expected = (weight.double() - start.double()).detach(), (twin - start.double()).detach()
    assert float((moved - expected).norm() / expected.norm()) < 0.1
    rows = (moved.mean((1, 2, 3)) / expected.mean((1, 2, 3)) - 1).abs()
    assert float(rows.max()) < 0.05


@pytest.mark.parametrize("kernel", [True, False])
def test_a_step_that_is_skipped_moves_no_small_weight(kernel: bool) -> None:
    weight = torch.nn.Parameter(torch.randn(300, device="cuda", dtype=torch.bfloat16))
    before = weight.detach().clone()
    groups = [{"params": [weight], "lr": 1e-2}]
    optimizer: Any = small_adamw(groups, kernels=kernel, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0)
    weight.grad = torch.ones_like(weight)
    optimizer.found_inf = torch.ones((), device="cuda")
    optimizer.step()
    assert torch.equal(weight, before)
    optimizer.found_inf = torch.zeros((), device="cuda")
    optimizer.step()
    assert float((before - weight.detach()).mean()) == pytest.approx(1e-2, rel=0.05)
    state = optimizer.state_dict()
    optimizer.load_state_dict(state)
    assert optimizer.state[weight]["mean"].dtype == torch.int8
