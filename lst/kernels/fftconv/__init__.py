"""Long causal convolution with gates: ``y = post · (kernel ∗ (pre · u) + skip · (pre · u))``, a kernel a channel.

The mixing step of H3 (Dao et al. 2023, arXiv 2212.14052) and of other models with kernels as long as the sequence. One
operator, ``torch.ops.lst.fft_convolution``, that ``torch.compile`` sees as a whole; its paths:

=============  =====================================================================================================
``cpu``        FFTs of a few channels at a time, so that nothing large is made beside inputs and outputs
``blocked``    the same with larger blocks, on other devices: CUDA beyond 4096, without Triton, or float64
``triton``     CUDA up to 4096 (forced, up to 8192): gates, FFT, product, inverse FFT and gates in one kernel, the
               paper's FlashConv
``reference``  one plain FFT with PyTorch's own gradients: the measure of tests and benchmarks
=============  =====================================================================================================

``fftconv_path`` says which one a device and a length get. All compute in float32 (float64 where u is): a half-precision
FFT overflows at its zero frequency, which is the sum of the whole sequence.
"""

from lst.kernels.fftconv.op import fft_convolution, fftconv_path, forced_path

__all__ = ["fft_convolution", "fftconv_path", "forced_path"]
