"""Adam, and lazy Adam for tables of which a step reads few rows."""

from typing import Any

import numpy as np
import torch
from torch import Tensor


def _undecorated(method: Any) -> Any:
    return getattr(method, "__wrapped__", method)


class Adam(torch.optim.Adam):
    """torch's Adam without the decorators of its methods, which import torch's compiler: a second of every start.

    They keep the optimiser out of compiled graphs, and there are none here.
    """

    add_param_group = _undecorated(torch.optim.Adam.add_param_group)
    zero_grad = _undecorated(torch.optim.Adam.zero_grad)
    state_dict = _undecorated(torch.optim.Adam.state_dict)
    load_state_dict = _undecorated(torch.optim.Adam.load_state_dict)
    step = torch.no_grad()(_undecorated(torch.optim.Adam.step))


class LazyAdam(Adam):
    """Adam that visits only the rows of a sparse gradient, by the rule of torch.optim.SparseAdam; dense ones as Adam does.

    Adam also decays the moments of the rows without a gradient, and moves them on by what is left of their momentum. Here
    both wait until the row has a gradient again. The correction of the moments' bias goes by the steps of the whole table.
    """

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """Update every parameter that has a gradient. closure: not used; without weight decay."""
        sparse = [
            (group, table, table.grad)
            for group in self.param_groups
            for table in group["params"]
            if table.grad is not None and table.grad.is_sparse
        ]
        for _, table, _ in sparse:
            table.grad = None
        super().step()
        for group, table, grad in sparse:
            table.grad = grad
            self._update_rows(group, table, grad)

    def _update_rows(self, group: dict[str, Any], table: Tensor, grad: Tensor) -> None:
        rows, values = grad._indices()[0], grad._values()
        if len(rows.unique()) < len(rows):
            grad = grad.coalesce()
            rows, values = grad.indices()[0], grad.values()
        state = self.state[table]
        if not state:
            state.update(step=torch.zeros(()), exp_avg=_untouched(table), exp_avg_sq=_untouched(table))
        state["step"] += 1
        step, (beta1, beta2) = state["step"].item(), group["betas"]
        first = state["exp_avg"].index_select(0, rows).lerp_(values, 1 - beta1)
        second = state["exp_avg_sq"].index_select(0, rows).mul_(beta2).addcmul_(values, values, value=1 - beta2)
        state["exp_avg"].index_copy_(0, rows, first)
        state["exp_avg_sq"].index_copy_(0, rows, second)
        factor = group["lr"] * (1 - beta2**step) ** 0.5 / (1 - beta1**step)
        table.index_add_(0, rows, first.div_(second.sqrt_().add_(group["eps"])), alpha=-factor)


def _untouched(table: Tensor) -> Tensor:
    """Zeros of a table's form. On the CPU the system gives a page of them its memory when it is first written."""
    if table.is_cuda:
        return torch.zeros_like(table, memory_format=torch.preserve_format)
    return torch.from_numpy(np.zeros(table.shape, np.float32))
