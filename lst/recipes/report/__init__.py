"""One HTML page of a run: ``record`` reads the folder, ``plots`` and ``audio`` draw it, ``page`` puts it together."""
