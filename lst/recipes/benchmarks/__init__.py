"""Speed and memory, a line a figure: data, model, kernels, GPU. Run by ``make bench-…``; nothing imports them."""
