"""Sound from speech units: ``vocoders``."""
