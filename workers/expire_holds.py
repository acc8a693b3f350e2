"""Gives credit back that nobody has ended in time: what a gateway held when it died."""

from adapters.wiring import App
from workers.jobs import Job

BATCH = 500


def run(app: App) -> int:
    """Ends every hold whose deadline has passed and answers how many there were."""
    ended = 0
    while (batch := app.expire_due(limit=BATCH)) == BATCH:
        ended += batch
    return ended + batch


JOB = Job("expire_holds", 2, run)
