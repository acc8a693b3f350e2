"""What a job is, and which there are: a file in this folder that has a `JOB` is thereby registered."""

import importlib
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass

import workers
from adapters.wiring import App

TIMEOUT_SECONDS = 60


@dataclass(frozen=True)
class Job:
    """`run` is harmless when repeated, since a queue may deliver twice; it answers how much there was to do. It is due
    every `every_seconds`."""

    name: str
    every_seconds: float
    run: Callable[[App], int]


def find_jobs() -> dict[str, Job]:
    """Every job of this folder by name."""
    modules = [importlib.import_module(found.name) for found in pkgutil.iter_modules(workers.__path__, "workers.")]
    jobs = [module.JOB for module in modules if isinstance(getattr(module, "JOB", None), Job)]
    return {job.name: job for job in jobs}
