"""The book's own commands: ``python -m tools build``, ``pair``, ``check`` and the others that ``--help`` lists."""
