"""A run in a process of its own, to be killed: victim.py CONFIG LAKE (local | ray)."""

from __future__ import annotations

import sys

from pipeline import Pipeline, engine


def main(config: str, lake: str, where: str) -> None:
    runner = engine.local(2) if where == "local" else engine.ray(workers=2)
    try:
        report = Pipeline.load(config, [f"lake={lake}"]).run(runner=runner)
    finally:
        runner.close()
    sys.stdout.write(f"{report.status}\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
