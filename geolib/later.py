"""Packages whose names are imported on first use, so that nobody waits for torch who does not need it."""

import importlib


def later(package, homes, *here):
    """Make what a package is to define as ``__getattr__``, ``__dir__`` and ``__all__``.

    Parameters
    ----------
    package : str
    homes : dict of str to str
        Names, with spaces between them, by the module that holds them, as `importlib.import_module` takes it.
    *here : class or function
        What the package has already.
    """
    home = {name: module for module, names in homes.items() for name in names.split()}
    everything = sorted([*(one.__name__ for one in here), *home])

    def find(name):
        if name not in home:
            raise AttributeError(f"module '{package}' has no attribute '{name}'")
        return getattr(importlib.import_module(home[name], package), name)

    return find, lambda: everything, everything
