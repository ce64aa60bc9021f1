"""Carrying a policy out: draws, compiled programs, and who executes them on the CPU and on a GPU."""
