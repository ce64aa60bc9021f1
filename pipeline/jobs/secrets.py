"""Variables for a job (keys of a storage, say) that stand in no log and in no description of the job.

Ray writes ``runtime_env.env_vars`` into the log of every node and shows them to whoever may list jobs. So
values named by ``--env`` travel as a package that no environment unpacks: it stays in the memory of the head,
under a random name. The driver and each worker fetch it when they start. The name alone is in the environment;
reading it needs access to the cluster, which already means power over it.
"""

from __future__ import annotations

import json
import logging
import os
import secrets
from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import Any

from lake.errors import ConfigError, EngineError

__all__ = ["HOOK", "NAMED", "adopt", "arrive", "collect", "forget", "packed"]

HOOK = "pipeline.jobs.secrets.adopt"
"""Called by Ray in each worker of the job when it starts."""
NAMED = "GRISTMILL_SECRETS"
"""The variable that holds the name of the package."""
_SPACE = "gristmill"


def collect(names: Iterable[str], environment: Mapping[str, str] = os.environ) -> dict[str, str]:
    """The values of variables, by name.

    Raises:
        ConfigError: one is not set here.
    """
    wanted = list(dict.fromkeys(names))
    if missing := [name for name in wanted if name not in environment]:
        raise ConfigError(
            f"the variable {missing[0]!r} is not set here", where="--env", hint="export it, or leave it out"
        )
    return {name: environment[name] for name in wanted}


def packed(values: Mapping[str, str]) -> tuple[str, bytes]:
    """A name that cannot be guessed, and what to keep under it."""
    return f"_ray_pkg_{secrets.token_hex(16)}.zip", json.dumps(dict(values)).encode()


def adopt() -> None:
    """Take the job's variables into this process's environment.

    Raises:
        EngineError: they are gone; Ray then fails the job, and says so in its log.
    """
    from ray.experimental import internal_kv

    kv: Any = internal_kv  # typed as if a key were always there
    get, put = kv._internal_kv_get, kv._internal_kv_put  # noqa: SLF001  (Ray has no other way in)
    name = os.environ.get(NAMED)
    if name is None:
        return
    kept = get(name.encode(), namespace=_SPACE)
    if kept is None:
        # We are the first of the job. Ray removes a package that nobody refers to after ten minutes.
        kept = get(f"gcs://{name}".encode())
        if kept is None:
            raise EngineError("the variables of this job are gone", hint="submit it again")
        put(name.encode(), kept, namespace=_SPACE)
    os.environ.update(json.loads(kept))


def arrive() -> None:
    """The same in the driver, which no worker is: it joins the cluster first, and the run then uses that."""
    if os.environ.get(NAMED) is not None:
        _join()
        adopt()


def forget() -> None:
    """Remove the job's variables from the cluster. Where that fails they go with the cluster."""
    name = os.environ.get(NAMED)
    if name is None:
        return
    with suppress(Exception):  # the run is over, and its outcome must not depend on this
        from ray.experimental.internal_kv import _internal_kv_del

        _join()
        _internal_kv_del(name.encode(), namespace=_SPACE)


def _join() -> None:
    import ray

    if not ray.is_initialized():
        ray.init(address="auto", log_to_driver=False, logging_level=logging.ERROR)
