"""Short causal convolution along time, one filter of K taps for each channel: the shift SSM of H3.

The state of a shift SSM is the last K inputs, so its output is a finite impulse response (Dao, Fu et al. 2023, "Hungry
Hungry Hippos", https://arxiv.org/abs/2212.14052, section 3): y_t = Σ_j taps_j·u_{t−j}. With about 64 taps a direct sum
needs no FFT. Documents are joined without padding, and no input of one document reaches the next.

Paths: ``blocked`` (PyTorch's direct convolution, some channels at a time: on the CPU, and on devices without Triton),
``triton`` (CUDA) and ``reference`` (token by token, for tests). ``fir_path`` tells which path a device takes.
"""

from lst.kernels.fir.op import fir_path, forced_path, short_convolution

__all__ = ["fir_path", "forced_path", "short_convolution"]
