"""The compiled CPU kernels: C++ without PyTorch's headers, built with the package and called through ctypes."""
