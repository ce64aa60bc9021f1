"""Runs as jobs on a Ray cluster, over its Jobs API; nothing of Ray is needed where one submits.

>>> from pipeline import jobs
>>> jobs.Cluster.at("head:8265")
Cluster(address='http://head:8265')

``parcel`` names and sends a job (``package`` is what it takes along, ``secrets`` what nobody may see), after
the ``preflight`` has looked at the cluster through the ``probe``; ``job`` follows it, and ``client`` talks to
the cluster. ``driver`` is what runs there.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pipeline.jobs.client import Cluster as Cluster
    from pipeline.jobs.client import Record as Record
    from pipeline.jobs.job import Job as Job
    from pipeline.jobs.parcel import Options as Options
    from pipeline.jobs.parcel import check as check
    from pipeline.jobs.parcel import submit as submit
    from pipeline.jobs.preflight import PreflightError as PreflightError

_HOME = {
    "Cluster": "pipeline.jobs.client",
    "Job": "pipeline.jobs.job",
    "Options": "pipeline.jobs.parcel",
    "PreflightError": "pipeline.jobs.preflight",
    "Record": "pipeline.jobs.client",
    "check": "pipeline.jobs.parcel",
    "submit": "pipeline.jobs.parcel",
}

__all__ = ["Cluster", "Job", "Options", "PreflightError", "Record", "check", "submit"]


def __getattr__(name: str) -> object:
    if name in _HOME:
        return getattr(import_module(_HOME[name]), name)
    msg = f"module 'pipeline.jobs' has no attribute {name!r}"
    raise AttributeError(msg)
