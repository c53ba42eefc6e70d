"""The prepared corpus in numbers: ``counts`` and ``documents`` measure it, ``page`` and ``plots`` show it."""
