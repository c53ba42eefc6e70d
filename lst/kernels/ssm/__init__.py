"""The diagonal state space model of H3: x_t = Ā ⊙ x_{t−1} + u_t, y_t = 2·Re Σ C̄·x_t + D·u_t, a channel at a time.

It runs over documents that are joined without padding, and no state passes from one to the next. Dao, Fu et al. 2023
("Hungry Hungry Hippos", https://arxiv.org/abs/2212.14052), section 4, compute it by chunks of T tokens, which is exact
and has no limit on the length::

    state before a chunk ──┬──► Ā^T ⊙ ──►(+)──► state before the next
                           │              ▲
                     out_of_state    into_state
                           ▼              │
    outputs ◄────────────(+)◄── within ◄──┴── T inputs

Paths: ``native`` (the products above in C++: the CPU, where a compiler was at hand when the package was installed),
``matrix`` (in PyTorch: the CPU otherwise, devices without another, and float64), ``triton`` (on CUDA), ``convolution``
(the whole kernel through an FFT, as the paper's baseline) and ``reference`` (the recurrence, token by token: the tests'
measure). ``ssm_path`` says which one a device gets.
"""

from lst.kernels.ssm.op import diagonal_ssm, forced_path, ssm_path
from lst.kernels.ssm.step import ssm_step

__all__ = ["diagonal_ssm", "forced_path", "ssm_path", "ssm_step"]
