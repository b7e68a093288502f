"""Datasets of pixel experience: HDF5 files of layout version 1."""

if __name__ != "latentwrap.datasets":
    raise ImportError("Import this package as latentwrap.datasets.")
