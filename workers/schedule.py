"""`bharatrouter schedule`: asks for each job when it is due. While the queue is down it runs the jobs itself, since
credit that is to come back must not wait for it."""

import logging
import threading
import time
from collections.abc import Callable, Mapping

from adapters.settings import Settings
from adapters.wiring import App, build
from workers.jobs import Job, find_jobs
from workers.queue import QUEUE, declare, make_broker

BACKLOG_MAX = 20
"""When more messages than this lie in the queue, nobody works: jobs are run here until they are gone."""

_log = logging.getLogger(__name__)


def main(settings: Settings, stop: threading.Event) -> None:
    """Returns when `stop` is set."""
    from redis import RedisError

    app = build(settings)
    broker = make_broker(app.redis_url)
    jobs = find_jobs()
    actors = declare(broker, jobs, app)

    def ask(job: Job) -> bool:
        """Whether the queue took the message."""
        try:
            if broker.client.llen(f"{broker.namespace}:{QUEUE}") > BACKLOG_MAX:
                return False
            actors[job.name].send()
        except (RedisError, OSError, ConnectionError):
            return False
        return True

    try:
        keep_asking(jobs, ask=ask, app=app, stop=stop)
    finally:
        broker.close()
        app.close()


def keep_asking(jobs: Mapping[str, Job], *, ask: Callable[[Job], bool], app: App, stop: threading.Event) -> None:
    """Asks for every job when it is due, and runs it here if that fails, until `stop` is set."""
    due = dict.fromkeys(jobs, 0.0)
    while not stop.is_set():
        now = time.monotonic()
        for name, job in jobs.items():
            if due[name] <= now:
                due[name] = now + job.every_seconds
                if not ask(job):
                    _run_here(job, app)
        stop.wait(max(0.05, min(due.values()) - time.monotonic()))


def _run_here(job: Job, app: App) -> None:
    try:
        job.run(app)
    except Exception:  # the next run is a moment away, and the other jobs must go on
        _log.exception("job %s failed", job.name)
