"""Kernels of the ops that are carried out by a function of their own, one file per family."""
