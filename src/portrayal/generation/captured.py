"""A denoising step as CUDA graphs: the UNet's pass, and the ControlNet's, recorded once and replayed.

A pass is hundreds of small launches. Here the models of a pipeline are called as ever; within :func:`captured` each is
a recording for each shape it meets. A ControlNet's outputs lie where its recording leaves them, and the UNet's
recording reads them there.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from portrayal.models.base import recording_stream


@contextmanager
def captured(*models: nn.Module) -> Iterator[None]:
    """Let models on CUDA run as graphs; on other devices nothing changes. Their weights stay in place until the end."""
    with ExitStack() as restored:
        on_gpu = [model for model in models if next(model.parameters()).is_cuda]
        recorder = Recorder() if on_gpu else None
        for model in on_gpu:
            assert recorder is not None
            restored.enter_context(calling(model, CapturedForward(model.forward, recorder)))
        yield


@contextmanager
def features_once(controlnet: Any) -> Iterator[None]:
    """Let a ControlNet compute the features of its control image when the image is new, and not in every step."""
    if controlnet.config.controlnet_conditioning_channel_order != "rgb":  # it reorders its input before
        yield
        return
    forward, embedding = controlnet.forward, controlnet.controlnet_cond_embedding
    features_of = embedding.forward
    known: tuple[Tensor | None, Any] = (None, None)

    def with_features(sample: Tensor, timestep: Tensor, *, controlnet_cond: Tensor, **options: Any) -> Any:
        nonlocal known
        if known[0] is not controlnet_cond:
            known = controlnet_cond, features_of(controlnet_cond)
        return forward(sample, timestep, controlnet_cond=known[1], **options)

    with calling(controlnet, with_features), calling(embedding, lambda features: features):
        yield


@contextmanager
def calling(module: Any, forward: Callable[..., Any]) -> Iterator[None]:
    """A module with another forward."""
    own = vars(module).get("forward")
    module.forward = forward
    try:
        yield
    finally:
        del module.forward
        if own is not None:
            module.forward = own


class Recorder:
    """What recordings share: memory, a stream, and the tensors that one leaves and another may read."""

    def __init__(self) -> None:
        self.pool = torch.cuda.graph_pool_handle()
        self.stream = recording_stream()
        self.left: set[int] = set()  # ids of tensors that recordings keep alive


class Recording:
    """A pass over fixed buffers."""

    def __init__(self, forward: Callable[..., Any], arguments: Any, recorder: Recorder) -> None:
        given = tensors_of(arguments)
        self.buffers = [one if id(one) in recorder.left else one.cuda(non_blocking=True).clone() for one in given]
        args, kwargs = with_tensors(arguments, iter(self.buffers))
        self.graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self.graph, pool=recorder.pool, stream=recorder.stream):
            self.outputs = forward(*args, **kwargs)
        recorder.left |= {id(one) for one in tensors_of(self.outputs)}

    def replay(self, arguments: Any) -> Any:
        """The pass with other numbers; the outputs are overwritten by the next one."""
        for buffer, one in zip(self.buffers, tensors_of(arguments), strict=True):
            if one is not buffer:
                buffer.copy_(one, non_blocking=True)
        self.graph.replay()
        return self.outputs


class CapturedForward:
    """A model's forward: plainly at first, when libraries choose their kernels, then as a graph for each shape."""

    def __init__(self, forward: Callable[..., Any], recorder: Recorder) -> None:
        self.forward, self.recorder = forward, recorder
        self.seen: dict[Any, Recording | None] = {}
        self.failed = False

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """As the model is called."""
        arguments = (args, kwargs)
        key = shape_of(arguments)
        if self.failed or key not in self.seen:
            self.seen[key] = None
            return self._plainly(*args, **kwargs)
        recording = self.seen[key]
        if recording is None:
            try:
                recording = self.seen[key] = Recording(self.forward, arguments, self.recorder)
            except torch.OutOfMemoryError:
                raise
            except RuntimeError as error:
                self.failed = True
                said = "Pictures are painted one launch at a time, which is slower: %s"
                logging.getLogger(__name__).warning(said, str(error).splitlines()[0])
                return self._plainly(*args, **kwargs)
        return recording.replay(arguments)

    def _plainly(self, *args: Any, **kwargs: Any) -> Any:
        """On the stream of the recordings, whose libraries have to be warm there."""
        self.recorder.stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self.recorder.stream):
            outputs = self.forward(*args, **kwargs)
        torch.cuda.current_stream().wait_stream(self.recorder.stream)
        return outputs


def tensors_of(value: Any) -> list[Tensor]:
    """The tensors in arguments or results, in order."""
    if isinstance(value, Tensor):
        return [value]
    if isinstance(value, Mapping):
        value = list(value.values())
    return [tensor for one in value for tensor in tensors_of(one)] if isinstance(value, list | tuple) else []


def with_tensors(value: Any, tensors: Iterator[Tensor]) -> Any:
    """The same arguments with other tensors in the places of their own."""
    if isinstance(value, Tensor):
        return next(tensors)
    if isinstance(value, Mapping):
        return {key: with_tensors(one, tensors) for key, one in value.items()}
    return type(value)(with_tensors(one, tensors) for one in value) if type(value) in (list, tuple) else value


def shape_of(value: Any) -> Any:
    """What of arguments a recording depends on: shapes and formats, and all that is no tensor."""
    if isinstance(value, Tensor):
        return value.shape, value.dtype
    if isinstance(value, Mapping):
        return tuple((key, shape_of(one)) for key, one in value.items())
    return tuple(shape_of(one) for one in value) if isinstance(value, list | tuple) else value
