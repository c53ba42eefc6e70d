"""Measures speed and memory of data, model, kernels and GPU. Run by ``make bench-…``; no other room imports them."""
