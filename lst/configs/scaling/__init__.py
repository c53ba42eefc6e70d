"""The default configuration of ``lst scale`` and its grids of models."""
