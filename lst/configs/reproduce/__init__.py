"""The default configuration of ``lst reproduce`` and its plans."""
