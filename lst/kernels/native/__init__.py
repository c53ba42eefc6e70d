"""The compiled CPU kernels: C++ without torch headers, built with the package, called through ctypes."""
