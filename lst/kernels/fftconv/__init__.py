"""Long causal convolution between gates, ``y = post · (kernel ∗ (pre · u) + skip · (pre · u))``, by channel.

It is the mixing step of H3 (Dao et al. 2023, arXiv 2212.14052) and of other models with kernels as long as the
sequence. It is one operator to ``torch.compile``, ``torch.ops.lst.fft_convolution``, with these paths:

=============  =====================================================================================================
``cpu``        FFTs of a few channels at a time, so that all temporaries are small
``blocked``    the same with larger blocks, on other devices: CUDA beyond 4096, without Triton, or float64
``triton``     CUDA up to 4096 (forced, up to 8192): gates, FFT, product, inverse FFT and gates in one kernel, the
               paper's FlashConv
``reference``  one plain FFT with PyTorch's own gradients, for tests and benchmarks
=============  =====================================================================================================

``fftconv_path`` tells which path a device and a length take. All compute in float32 (float64 for float64): in half
precision an FFT overflows at frequency zero, which is the sum of the whole sequence.
"""

from lst.kernels.fftconv.op import fft_convolution, fftconv_path, forced_path

__all__ = ["fft_convolution", "fftconv_path", "forced_path"]
