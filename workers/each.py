"""How a job goes through many things: one that cannot be done must not keep the others from being done."""

import logging
from collections.abc import Callable, Iterable
from typing import TypeVar

from domain.kernel.errors import Unavailable
from domain.kernel.mail import MailDelayed

_log = logging.getLogger(__name__)
_Thing = TypeVar("_Thing")


def each(
    things: Iterable[_Thing],
    act: Callable[[_Thing], int],
    *,
    named: Callable[[_Thing], str],
    away: type[Exception] | tuple[()] = (),
    silences_max: int = 1,
) -> int:
    """Acts on one after the other and answers the sum of what that answers; what fails has its turn in the next run.

    So many failures of the kind `away` in a row, which is Unavailable or a MailDelayed, mean that what all of them need
    cannot be reached, and not that one is at fault: the rest waits for the next run. `named` is for the log.
    """
    done = silences = 0
    for thing in things:
        try:
            done += act(thing)
            silences = 0
        except (MailDelayed, Unavailable) as error:
            _log.warning("%s is not done now: %s", named(thing), error)
            silences = silences + 1 if isinstance(error, away) else 0
            if silences == silences_max:
                break
        except Exception:  # whatever it is, the others must have their turn
            _log.exception("%s is not done, the others go on", named(thing))
            silences = 0
    return done
