"""The queue between the scheduler and the workers: dramatiq on Valkey, one queue, one message per asked-for run.

The queue is a convenience. It may be lost or stand still at any time, and nothing that matters may depend on it.
"""

from collections.abc import Mapping

import dramatiq
from dramatiq.brokers.redis import RedisBroker
from dramatiq.middleware import AgeLimit, Callbacks, ShutdownNotifications

from adapters.wiring import App
from workers.jobs import TIMEOUT_SECONDS, Job

QUEUE = "jobs"


def make_broker(url: str) -> RedisBroker:
    """A broker that forgets messages older than a minute: the scheduler asks again anyway."""
    return RedisBroker(  # type: ignore[no-untyped-call]
        url=url,
        middleware=[AgeLimit(max_age=TIMEOUT_SECONDS * 1000), ShutdownNotifications(), Callbacks()],
        socket_timeout=5,
        socket_connect_timeout=1,
    )


def declare(broker: RedisBroker, jobs: Mapping[str, Job], app: App) -> dict[str, dramatiq.Actor[[], None]]:
    """An actor for each job; those that only send need them too."""
    return {job.name: _actor(broker, job, app) for job in jobs.values()}


def _actor(broker: RedisBroker, job: Job, app: App) -> dramatiq.Actor[[], None]:
    @dramatiq.actor(broker=broker, actor_name=job.name, queue_name=QUEUE)
    def run() -> None:
        job.run(app)

    return run
