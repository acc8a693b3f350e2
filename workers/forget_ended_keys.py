"""Clears away what ephemeral keys were allowed that ended a day ago: there may be thousands an hour."""

from adapters.wiring import App
from workers.jobs import Job


def run(app: App) -> int:
    """Answers how many it were."""
    return app.forget_ended_keys()


JOB = Job("forget_ended_keys", 3_600, run)
