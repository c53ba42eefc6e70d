"""The default configuration of ``lst runs`` and ``lst compare``."""
