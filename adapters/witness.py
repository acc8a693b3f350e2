"""Puts on record from where somebody changed what an org has configured, beside the change and in its transaction."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from adapters.eventstore import Numbered
from domain.accounts.events import Acted
from domain.accounts.sign_in import Seal
from domain.kernel.store import Decision

WITNESSED = ("org:", "workspace:", "key:", "trial:", "billing:", "routing:", "collection:", "monitor:")


@dataclass(frozen=True)
class Witness:
    """Of one call over HTTP, which came from `address` by a program that calls itself `agent`.

    Who is called by name is the person: what is kept of them is sealed for them, and goes when they are erased. What is
    kept of a key's calls is its org's.
    """

    seal: Seal
    new_id: Callable[[str], str]
    address: str
    agent: str

    def __call__(self, facts: Sequence[Numbered], by: str) -> Decision:
        """Nothing for changes of other things, such as money. Raises psycopg.Error if it cannot be sealed."""
        if not by.startswith(("user:", "key:")):
            return []
        org = next((_org(stream, event) for stream, _, event in facts if stream.startswith(WITNESSED)), "")
        if not org:
            return []
        subject = by if by.startswith("user:") else org
        address, agent = self.seal(subject, self.address), self.seal(subject, self.agent)
        return [(f"act:{self.new_id('act')}", Acted(facts=len(facts), subject=subject, address=address, agent=agent))]


def _org(stream: str, event: object) -> str:
    if stream.startswith("org:"):
        return stream.removeprefix("org:")
    return str(getattr(event, "org", "") or getattr(event, "owner", ""))
