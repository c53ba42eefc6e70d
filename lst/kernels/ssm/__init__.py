"""The diagonal state space model (SSM) of H3: x_t = Ā ⊙ x_{t−1} + u_t, y_t = 2·Re Σ C̄·x_t + D·u_t for each channel.

It runs over documents that are joined without padding, and no state passes from one document to the next. Dao, Fu et
al. 2023 ("Hungry Hungry Hippos", https://arxiv.org/abs/2212.14052), section 4, compute it by chunks of T tokens. This
state passing is exact and takes any length::

    state before a chunk ──┬──► Ā^T ⊙ ──►(+)──► state before the next
                           │              ▲
                     out_of_state    into_state
                           ▼              │
    outputs ◄────────────(+)◄── within ◄──┴── T inputs

Paths: ``native`` (the products above in C++: on the CPU, if a compiler was there when the package was installed),
``matrix`` (in PyTorch: on the CPU otherwise, on devices without Triton, and for float64), ``triton`` (on CUDA),
``convolution`` (the whole kernel by FFT, the paper's baseline) and ``reference`` (the recurrence, token by token, for
tests). ``ssm_path`` tells which path a device takes.

State passing: a document cut in two gives the same outputs, if the state is handed on.

>>> import torch
>>> decay, readout = torch.full((1, 1), 0.5 + 0j), torch.full((1, 1), 0.5 + 0j)
>>> u = torch.tensor([[1.0], [2.0], [4.0]])
>>> diagonal_ssm(u, decay, readout, starts=torch.tensor([0, 3])).flatten().tolist()
[1.0, 2.5, 5.25]
>>> y, state = diagonal_ssm(
...     u[:2], decay, readout, starts=torch.tensor([0, 2]), state_lengths=torch.tensor([2])
... )
>>> diagonal_ssm(u[2:], decay, readout, starts=torch.tensor([0, 1]), initial_state=state).flatten().tolist()
[5.25]
"""

from lst.kernels.ssm.op import diagonal_ssm, forced_path, ssm_path
from lst.kernels.ssm.step import ssm_step

__all__ = ["diagonal_ssm", "forced_path", "ssm_path", "ssm_step"]
