"""`bharatrouter work`: runs jobs from the queue in threads of this process until it is told to stop."""

import threading

from dramatiq.worker import Worker

from adapters.settings import Settings
from adapters.wiring import build
from workers.jobs import find_jobs
from workers.queue import declare, make_broker

THREADS = 4
POLL_MILLISECONDS = 100
"""How long a worker sleeps when the queue is empty; dramatiq's own second would delay every job by half of it."""


def main(settings: Settings, stop: threading.Event) -> None:
    """Returns when `stop` is set and the jobs in hand are done. A queue that is down is waited for."""
    app = build(settings)
    broker = make_broker(app.redis_url)
    declare(broker, find_jobs(), app)
    worker = Worker(broker, worker_threads=THREADS, worker_timeout=POLL_MILLISECONDS)
    worker.start()
    try:
        stop.wait()
    finally:
        worker.stop(timeout=10_000)
        broker.close()
        app.close()
