"""One gateway process: uvicorn with the inference routes in its protocol and the app behind it, on one event loop."""

import asyncio
import contextlib
import gc
import logging
import signal
import socket
from collections.abc import Collection
from functools import partial

import uvicorn
import uvloop

from adapters.gateway import Gateway, open_gateway
from adapters.settings import Settings
from adapters.wiring import build, catalog_problems
from api import app as web
from api.attempts import Attempts
from api.caller import caller_of
from api.fast_http import beat_for_ever, protocol_for
from api.inference import Inference

logger = logging.getLogger("bharatrouter.server")

KEEP_ALIVE_SECONDS = 75
BACKLOG = 4096
PARTING_SECONDS = 1.0
YOUNG_OBJECTS_MAX = 20_000
"""Calls in flight hold some thousands of objects and leave no cycles: looking for those more often finds nothing."""


def serve(settings: Settings, *, fd: int | None = None) -> None:
    """Serves until SIGTERM or SIGINT, then finishes the calls in flight for `stop_seconds` at most.

    `fd` is a listening socket to share with other processes; without it, HOST and PORT are bound.
    """
    uvloop.run(_serve(settings, fd))


async def _serve(settings: Settings, fd: int | None) -> None:
    app = build(settings)
    for problem in catalog_problems(settings):
        logger.error("left out of the catalog: %s %s %s", problem.file, problem.field, problem.message)
    app.directory.start()
    try:
        async with open_gateway(app) as gateway:
            application = web.build(app, gateway=gateway)
            inference = inference_of(gateway, application.state.wrong_keys)
            protocol = protocol_for(inference.answers())
            config = uvicorn.Config(
                application,
                host=settings.host,
                port=settings.port,
                http=protocol,
                loop="none",
                lifespan="off",
                log_config=None,
                access_log=False,
                server_header=False,
                proxy_headers=False,
                backlog=BACKLOG,
                timeout_keep_alive=KEEP_ALIVE_SECONDS,
                timeout_graceful_shutdown=int(settings.stop_seconds),
            )
            gc.collect()
            gc.freeze()  # what was made so far lives as long as the process: never look at it again
            gc.set_threshold(YOUNG_OBJECTS_MAX)
            heartbeat = asyncio.create_task(beat_for_ever(protocol))
            sockets = None if fd is None else [socket.socket(fileno=fd)]
            server = uvicorn.Server(config)
            _outlive_signals()
            await server.serve(sockets=sockets)
            await _end_of(server.server_state.tasks)
            heartbeat.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await heartbeat
    finally:
        app.close()


def _outlive_signals() -> None:
    """uvicorn stops at either signal and then raises it once more, which would end this process before its books are
    closed: let that find a handler."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)


async def _end_of(calls: Collection[asyncio.Task[None]]) -> None:
    """Lets calls that were cancelled tell their clients and give their credit back while there still is a ledger."""
    if calls:
        await asyncio.wait(calls, timeout=PARTING_SECONDS)


def inference_of(gateway: Gateway, wrong_keys: Attempts) -> Inference:
    settings = gateway.app.settings
    return Inference(
        services=gateway.services,
        rates=gateway.rates,
        identify=partial(caller_of, gateway.app, wrong_keys),
        read_stream=gateway.read_stream,
        gateway_rpm=settings.gateway_rpm,
        body_bytes_max=settings.body_bytes_max,
        in_flight_max=settings.in_flight_max,
        trial_models=frozenset(settings.trial_models),
    )
