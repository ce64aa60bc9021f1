"""Gristmill as a task of other programs: operators for Airflow, assets for Dagster.

They start `gristmill` as a process, so that it may live in an environment of its own.
"""
