"""Short causal convolution along time, one filter of K taps a channel: the shift SSM of H3.

The state of a shift SSM is the last K inputs, so its output is a finite impulse response (Dao, Fu et al. 2023, "Hungry
Hungry Hippos", https://arxiv.org/abs/2212.14052, section 3): y_t = Σ_j taps_j·u_{t−j}. With some 64 taps it is computed
directly; no FFT is needed. Documents are joined without padding, and nothing reaches from one into the next.

Paths: ``blocked`` (PyTorch's direct convolution, some channels at a time: CPU, and devices without another), ``triton``
(CUDA) and ``reference`` (token by token: the tests' measure). ``fir_path`` says which one a device gets.
"""

from lst.kernels.fir.op import fir_path, forced_path, short_convolution

__all__ = ["fir_path", "forced_path", "short_convolution"]
