"""The processes that train one model together, as torchrun or Ray Train starts them; without these there is one.

Both set RANK, LOCAL_RANK and WORLD_SIZE. Processes talk by gloo on CPUs and by NCCL on GPUs. Ray Train joins its own itself.
"""

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn

from mambarec.base.bounded import first_line
from mambarec.base.errors import RunError

PATIENCE = timedelta(hours=2)  # for a process that searches neighbours or writes while the others wait
_ENDED = (
    "another process of this training has ended, so this one ends too. What is saved stays: the same command with --resume "
    "goes on, with any number of processes"
)

T = TypeVar("T")


class Processes:
    """This process among those of a training: number `rank` of `size`. Alone, each method returns what it is given."""

    def __init__(self, rank: int = 0, size: int = 1):
        self.rank, self.size = rank, size

    @property
    def is_first(self) -> bool:
        """Whether this is the one that writes the run and speaks to the user."""
        return self.rank == 0

    def part(self, batch: Tensor) -> Tensor:
        """The columns of a batch (..., B) that this process computes; all, where there are fewer columns than processes."""
        return batch if batch.shape[-1] < self.size else batch[..., self.rank :: self.size]

    def weight(self, share: float) -> float:
        """How much the loss of a share of a batch weighs, so that the mean over the processes is that over the batch."""
        return share * self.size if share < 1 else 1.0  # all of them compute a whole batch

    def mine(self, values: Iterable[T]) -> Iterator[tuple[int, T]]:
        """Those of the values that this process computes, with their numbers."""
        return ((number, value) for number, value in enumerate(values) if number % self.size == self.rank)

    def sum(self, values: Tensor) -> Tensor:
        """The sum over the processes of a tensor of one shape, written into it."""
        if self.size > 1:
            _together(dist.all_reduce, values)
        return values

    def mean(self, values: Tensor) -> Tensor:
        """The mean over the processes of a float tensor of one shape, written into it."""
        return values if self.size == 1 else self.sum(values).div_(self.size)

    def from_first(self, value: Any) -> Any:
        """What the first process gives; from the others any value is taken."""
        if self.size == 1:
            return value
        box = [value]
        _together(dist.broadcast_object_list, box, src=0)
        return box[0]

    def wait(self) -> None:
        """Wait until every process is here."""
        if self.size > 1:
            _together(dist.barrier)

    def average_gradients(self, model: nn.Module) -> None:
        """Replace each gradient by its mean over the processes: one message for dense ones, one for the rows of sparse ones."""
        if self.size == 1:
            return
        gradients = [(parameter, parameter.grad) for parameter in model.parameters() if parameter.grad is not None]
        dense = [gradient for _, gradient in gradients if not gradient.is_sparse]
        tables = [(table, gradient) for table, gradient in gradients if gradient.is_sparse]

        counts = torch.zeros(self.size, len(tables), device=gradients[0][1].device)  # of rows; exact below 2^24
        for number, (_, gradient) in enumerate(tables):
            counts[self.rank, number] = gradient._nnz()
        total = self.sum(torch.cat([counts.flatten(), *(gradient.flatten() for gradient in dense)]))
        counts, *sums = total.split([counts.numel(), *(gradient.numel() for gradient in dense)])
        for gradient, of_all in zip(dense, sums, strict=True):
            torch.div(of_all.view_as(gradient), self.size, out=gradient)
        if not tables:
            return
        parts = self._rows_of_all([gradient for _, gradient in tables], counts.view(self.size, -1).long().tolist())
        for (table, _), (ids, values) in zip(tables, parts, strict=True):
            ids, places = ids.unique(return_inverse=True)
            mean = values.new_zeros(len(ids), values.shape[1]).index_add_(0, places, values).div_(self.size)
            table.grad = torch.sparse_coo_tensor(ids[None], mean, table.shape, check_invariants=False)

    def _rows_of_all(self, gradients: list[Tensor], counts: list[list[int]]) -> Iterator[tuple[Tensor, Tensor]]:
        """Of sparse (N, D) gradients: the ids of the rows that each process has, and the rows, those of one behind another's.

        counts: how many rows each process has of each gradient. One message has the bytes of all ids, then of all rows.
        """
        ids, rows = zip(*((gradient._indices()[0], gradient._values()) for gradient in gradients), strict=True)
        widths = [8] * len(ids) + [part.shape[1] * part.element_size() for part in rows]  # bytes
        lengths = [[n * width for n, width in zip(of * 2, widths, strict=True)] for of in counts]
        message = torch.cat([part.flatten().view(torch.uint8) for part in (*ids, *rows)])
        longest = max(map(sum, lengths))
        messages = [message.new_empty(longest) for _ in lengths]
        _together(dist.all_gather, messages, F.pad(message, (0, longest - len(message))))
        parts = [whole[: sum(of)].split(of) for whole, of in zip(messages, lengths, strict=True)]
        for number, own in enumerate(rows):
            yield (
                torch.cat([of[number].view(torch.int64) for of in parts]),
                torch.cat([of[len(ids) + number].view(own.dtype).view(-1, own.shape[1]) for of in parts]),
            )

    def agree(self, model: nn.Module, average: bool) -> None:
        """Give all processes one model: that of the first. average: statistics such as BatchNorm's become their mean instead.

        Parameters are nearly the same already. On a GPU the order of a sum may change their last digits.
        """
        if self.size == 1:
            return
        parameters = dict(model.named_parameters())
        for name, value in model.state_dict().items():
            if not average or name in parameters:
                _together(dist.broadcast, value, src=0)
            elif value.is_floating_point():
                self.mean(value)


_current = Processes()


def current_processes() -> Processes:
    """This process among those of the training that runs."""
    return _current


def started_by_torchrun() -> bool:
    """Whether this process is one of several that torchrun has started."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1 and "RANK" in os.environ


def local_gpu() -> dict[str, int]:
    """The key gpu_id of a process that torchrun has started: its number on this machine, where there are GPUs."""
    return {"gpu_id": int(os.environ.get("LOCAL_RANK", "0"))} if torch.cuda.is_available() else {}


@contextmanager
def joined_processes(device: torch.device) -> Iterator[Processes]:
    """While open, the processes that torchrun has started are joined; this one alone, where there are no others."""
    global _current
    if not started_by_torchrun():
        yield _current
        return
    joined_before = dist.is_initialized()
    if device.type == "cuda" and device.index is not None:
        torch.cuda.set_device(device)  # what NCCL sends of itself goes by this GPU
    if not joined_before:
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=PATIENCE)
    before, _current = _current, Processes(dist.get_rank(), dist.get_world_size())
    try:
        yield _current
        _current.wait()  # so that none leaves while another still speaks to it
    finally:
        _current = before
        if not joined_before:
            dist.destroy_process_group()


def _together(collective: Callable, *arguments: Any, **options: Any) -> None:
    """A collective call; RunError where another process is gone."""
    try:
        collective(*arguments, **options)
    except (RuntimeError, ValueError) as error:
        raise RunError(f"{_ENDED} ({first_line(error)})") from error
