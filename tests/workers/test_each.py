"""One thing that cannot be done keeps no other from being done, unless what all of them need is away."""

import pytest

from domain.kernel.errors import Refusal, Unavailable
from domain.kernel.mail import MailDelayed, MailUnreachable
from workers.each import each

AWAY = Unavailable("payments_unavailable", "nobody there")


def play(*ends: int | Exception, **rules: object) -> tuple[int, int]:
    """What things that end so add up to, and how many of them were tried."""
    tried: list[int] = []

    def act(number: int) -> int:
        tried.append(number)
        end = ends[number]
        if isinstance(end, Exception):
            raise end
        return end

    done = each(range(len(ends)), act, named="thing {}".format, **rules)
    return done, len(tried)


def test_what_is_done_adds_up_and_what_fails_is_passed_over(caplog: pytest.LogCaptureFixture) -> None:
    assert play(1, ValueError("a fault"), MailDelayed("later"), Refusal("invalid_request", "no"), 2) == (3, 5)
    said = [
        (record.levelname, record.getMessage().partition(" ")[2], bool(record.exc_info)) for record in caplog.records
    ]
    assert said == [
        ("ERROR", "1 is not done, the others go on", True),
        ("WARNING", "2 is not done now: later", False),
        ("ERROR", "3 is not done, the others go on", True),
    ]


def test_the_rest_waits_once_what_all_need_is_silent_too_often_in_a_row() -> None:
    rules = {"away": Unavailable, "silences_max": 2}
    assert play(AWAY, 1, AWAY, AWAY, 1, **rules) == (1, 4)
    assert play(AWAY, ValueError(), AWAY, 1, **rules) == (1, 4)
    assert play(MailDelayed(""), MailUnreachable(""), 1, away=MailUnreachable) == (0, 2)
    assert play(AWAY, AWAY, AWAY, 1) == (1, 4)
