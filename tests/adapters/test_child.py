"""A process that is told to stop hears it, whatever it is doing at that moment."""

import signal
import subprocess
import sys

import pytest

WAITS = """
from adapters.child import told_to_stop
stop = told_to_stop()
print("ready", flush=True)
stop.wait()
"""
# What `wait` holds for a moment whenever it begins and ends, which is when a busy process is hit.
HIT_WHILE_LOCKED = """
import signal
from adapters.child import told_to_stop
stop = told_to_stop()
with stop._cond:
    signal.raise_signal(signal.SIGTERM)
stop.wait()
"""


def start(program: str) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
def test_who_waits_for_the_wish_to_stop_hears_it(how: signal.Signals) -> None:
    with start(WAITS) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(how)
        assert process.wait(30) == 0


def test_a_signal_that_comes_while_the_event_is_locked_is_heard_too() -> None:
    with start(HIT_WHILE_LOCKED) as process:
        try:
            assert process.wait(30) == 0
        finally:
            process.kill()
