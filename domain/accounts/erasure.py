"""The end of a person: nobody's member, signed in nowhere, and unreadable in the log. The books stay as they are."""

from collections.abc import Callable, Sequence

from domain.accounts.events import MemberRemoved, OrgDeleted, PersonErased
from domain.accounts.org import Org
from domain.accounts.person import Person, person_stream
from domain.kernel.errors import Conflict, NotFound, Unavailable
from domain.kernel.store import Change, Decision, Store
from domain.keys.events import KeyRevoked

Forget = Callable[[str], None]
"""Destroys the key of all that was sealed for a subject, as `Vault.erase` does."""


def erase_person(
    store: Store, forget: Forget, *, person: str, home: str, teams: Sequence[str], at: int, by: str
) -> int | None:
    """Takes the person out of `teams`, which are all that they are a member of, ends their sessions and their personal
    org `home` with its keys, all in one transaction; then destroys the keys by which their name, addresses and whatever
    they wrote could be read.

    Claims stay, so that the sign-up credit does not come twice; so do the books, and what tax law has us keep, which is
    sealed for the books. A repeat finishes what broke off in between. Raises NotFound for an unknown person, Conflict
    `last_owner` where a team would be left without an owner, and Unavailable where they have just joined another.
    """

    def leave(team: str) -> Callable[[Org], Decision]:
        def decide(state: Org) -> Decision:
            if person not in state.members:
                return []
            if [owner.person for owner in state.owners()] == [person]:
                raise Conflict(
                    "last_owner",
                    f"'{state.name}' would have no owner; make somebody else one first, or delete the org.",
                    param=team,
                )
            return [(f"org:{team}", MemberRemoved(org=team, person=person))]

        return decide

    def erase(state: Person) -> Decision:
        if not state.id:
            raise NotFound("not_found", "No such person.", param="id")
        if state.joined - {*teams}:
            raise Unavailable("ledger_unavailable", "You have joined another org just now; try again.", retry_after=1)
        return [(person_stream(person), PersonErased())] if state.exists else []

    def end_home(state: Org) -> Decision:
        if not state.exists:
            return []
        revoked = [
            (f"key:{key.id}", KeyRevoked(org=home, reason="person erased"))
            for key in state.keys.values()
            if key.revoked is None
        ]
        return [*revoked, (f"org:{home}", OrgDeleted(org=home))]

    position = store.change(
        *[Change(f"org:{team}", Org(), leave(team)) for team in teams],
        Change(person_stream(person), Person(), erase),
        Change(f"org:{home}", Org(), end_home),
        at=at,
        by=by,
    )
    for subject in (person_stream(person), home):
        forget(subject)
    return position
