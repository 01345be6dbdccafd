"""Training steps recorded as a CUDA graph: a GPU gets all of a step's small kernels at once, with no Python between them."""

from collections.abc import Callable

import torch
from torch import Tensor

from mambarec.base.equality import identical
from mambarec.base.errors import ModelError
from mambarec.training.generators import host_generators, restore_host_generators

Step = Callable[[Tensor], Tensor]
WARM_UP = 2  # steps that come before the recording, in which the libraries and the optimiser set up what it must find


class RecordedSteps:
    """The steps of one epoch, called with one batch each: `step` is recorded once and replayed on the batches that follow.

    Batches of another shape, such as the last of an epoch, run as they are. A replay repeats the operations on tensors and
    nothing else: what `step` decides in Python, or draws from a generator of its own there, stays as it was when it was
    recorded. Where a step draws from the host's global generators, or cannot be recorded, `refusal` says so, and it runs as
    it is from then on.
    """

    def __init__(self, step: Step, stream: torch.cuda.Stream):
        """step: one update on an int64 batch on a GPU; returns its loss, a scalar. stream: of that GPU, to record on."""
        self.step, self.stream = step, stream
        self.warm_up = WARM_UP
        self.refusal: str | None = None
        self._replay: Step | None = None
        self._shape: torch.Size | None = None

    def __call__(self, batch: Tensor) -> Tensor:
        """The step on `batch`; its loss is overwritten by the next call."""
        if self.warm_up:
            self.warm_up -= 1
            return run_on(self.stream, self.step, batch)
        if self._replay is None and self.refusal is None:
            self._record(batch)
        if self._replay is None or batch.shape != self._shape:
            return self.step(batch)
        return self._replay(batch)

    def _record(self, batch: Tensor) -> None:
        before = host_generators()
        try:
            self._replay, self._shape = capture(self.stream, self.step, batch.clone()), batch.shape
        except Exception as error:  # the end of a recording that broke raises too, and hides what broke it
            cause = error if isinstance(error, ModelError) else error.__context__ or error
            self.refusal = str(cause).partition("\n")[0]
        if not identical(host_generators(), before):
            self._replay, self.refusal = None, self.refusal or "a step draws random numbers on the host"
            restore_host_generators(before)  # as if it had not been tried


def run_on(stream: torch.cuda.Stream, step: Step, batch: Tensor) -> Tensor:
    """step(batch) on a stream of its own: on the one that will record, libraries find what they set up for it."""
    current = torch.cuda.current_stream(batch.device)
    stream.wait_stream(current)
    with torch.cuda.stream(stream):
        loss = step(batch)
    current.wait_stream(stream)
    return loss


def capture(stream: torch.cuda.Stream, step: Step, batch: Tensor) -> Step:
    """Record `step` on the memory of `batch` without running it; what is returned runs it on another batch of that shape."""
    graph, device = torch.cuda.CUDAGraph(), batch.device
    current = torch.cuda.current_stream(device)  # put back here, since a recording that breaks does not
    with torch.cuda.device(device), torch.cuda.stream(current), torch.cuda.graph(graph, stream=stream):
        loss = step(batch)

    def replay(other: Tensor) -> Tensor:
        batch.copy_(other)
        graph.replay()
        return loss

    return replay
