"""The default configuration of ``lst scale fit`` and ``lst scale plot``."""
