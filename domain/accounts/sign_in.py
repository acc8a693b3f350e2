"""Signing in: who somebody is by what an identity provider says, the first time with a personal org and credit; and the
sessions in which they are signed in."""

from collections.abc import Callable
from dataclasses import dataclass

from domain.accounts.events import (
    AllSessionsEnded,
    Claimed,
    IdentityLinked,
    MemberAdded,
    OrgCreated,
    PersonSignedUp,
    SessionEnded,
    SessionOrgSwitched,
    SessionStarted,
    WorkspaceCreated,
)
from domain.accounts.org import Org
from domain.accounts.person import (
    Claim,
    Identity,
    Person,
    email_claim,
    identity_claim,
    mailbox_claim,
    person_stream,
)
from domain.kernel.clock import DAY
from domain.kernel.errors import NotFound, Unauthenticated, Unavailable
from domain.kernel.events import Event
from domain.kernel.store import Change, Decision, Reader, Store
from domain.keys.trial import end_trial
from domain.ledger.credit import SIGN_UP_GRANT, account_of
from domain.ledger.events import CreditGranted

SESSION_DAYS = 30
HOME_NAME = "Personal"
ATTEMPTS = 5

Seal = Callable[[str, str], str]
"""Seals a text under a subject, as `Vault.seal` does."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """What an identity provider says of somebody who has just signed in with it.

    `name`, `login` and `email` are plain text and leave only sealed. The digests are those of `domain.accounts.person`;
    `email_digest` is None unless the provider itself says that the address is verified: it links identities to one
    person, opens invitations and brings sign-up credit, once for each mailbox.
    """

    provider: str
    subject_digest: str
    name: str
    login: str
    email: str
    email_digest: str | None
    mailbox_digest: str

    @property
    def claim(self) -> str:
        return identity_claim(self.provider, self.subject_digest)


@dataclass(frozen=True, slots=True)
class SignedIn:
    """Who it is. `home` is their personal org; `new` says that they have just signed up."""

    person: str
    home: str
    new: bool


def sign_in(
    store: Store, seal: Seal, proof: Proof, *, person: str, org: str, workspace: str, credit: int, at: int
) -> SignedIn:
    """Finds the person, or signs them up.

    It is the person who signed in with this identity before; else the one to whom another identity brought the same
    verified e-mail address; else a new one, who becomes `person`, with a personal org `org`, its default `workspace`,
    and `credit` nano-rupees if the address is verified. Neither an identity nor a mailbox that was ever seen brings
    credit again, be it after erasure. All of it is one transaction, and of several at once only the first signs up.

    The ids are fresh ones of the caller's, and unused for a person who is known. Starts no session. Raises Unavailable
    where the ledger cannot be written.
    """
    for _ in range(ATTEMPTS):
        found = store.look(lambda read: _find(read, proof))
        if found.exists and found.identities.get(proof.claim) == _said(proof):
            return SignedIn(found.id, found.home, new=False)
        who = found.id or person
        decision = _Decision(
            proof=proof,
            expected=found.id,
            person=who,
            org=org,
            workspace=workspace,
            credit=credit,
            name=seal(person_stream(who), proof.name),
            login=seal(person_stream(who), proof.login),
            email=seal(person_stream(who), proof.email) if proof.email else "",
        )
        if store.locked(decision, at=at, by=person_stream(who)) is not None:
            return SignedIn(who, found.home or org, new=not found.id)
    raise Unavailable("ledger_unavailable", "Too many sign-ins at once; try again.", retry_after=1)


def start_session(
    store: Store, *, person: str, session: str, active: str, agent: str, address: str, expires: int, at: int
) -> int | None:
    """Begins a session of the person, who looks at the org `active`. `agent` and `address` are sealed under
    `person_stream(person)`. A repeat with the same id changes nothing.

    Raises Unauthenticated `no_session` for a person who is not known (any more).
    """

    def decide(state: Person) -> Decision:
        if not state.exists:
            raise Unauthenticated("no_session", "This account is gone; sign in again.")
        if session in state.sessions:
            return []
        started = SessionStarted(session=session, active=active, expires=expires, agent=agent, address=address)
        return [(person_stream(person), started)]

    return store.change(Change(person_stream(person), Person(), decide), at=at, by=person_stream(person))


def session_expiry(at: int) -> int:
    """When a session that begins now ends by itself, in microseconds since 1970."""
    return at + SESSION_DAYS * DAY


def end_session(store: Store, *, person: str, session: str, at: int) -> int | None:
    """Ends one session, on every process within a second. Nothing changes where there is no such session any more."""

    def decide(state: Person) -> Decision:
        return [(person_stream(person), SessionEnded(session=session))] if session in state.sessions else []

    return store.change(Change(person_stream(person), Person(), decide), at=at, by=person_stream(person))


def end_all_sessions(store: Store, *, person: str, at: int) -> int | None:
    """Signs the person out everywhere, on every process within a second."""

    def decide(state: Person) -> Decision:
        return [(person_stream(person), AllSessionsEnded())] if state.sessions else []

    return store.change(Change(person_stream(person), Person(), decide), at=at, by=person_stream(person))


def switch_org(store: Store, *, person: str, session: str, org: str, at: int) -> int | None:
    """Puts on record that the session looks at another org of the person's; the cookie is what says which from then on.

    Raises NotFound where the person is no member of such an org, Unauthenticated `no_session` for an ended session.
    """

    def is_member(state: Org) -> Decision:
        if person not in state.members:
            raise NotFound("not_found", "No such org; list yours with GET /me/orgs.", param="org")
        return []

    def decide(state: Person) -> Decision:
        if session not in state.sessions:
            raise Unauthenticated("no_session", "This session has ended; sign in again.")
        return [(person_stream(person), SessionOrgSwitched(session=session, active=org))]

    return store.change(
        Change(f"org:{org}", Org(), is_member),
        Change(person_stream(person), Person(), decide),
        at=at,
        by=person_stream(person),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Decision:
    """What follows from a proof, under the lock of the log; nothing, where the person is not the one that the texts
    were sealed for. `expected` is empty for somebody new."""

    proof: Proof
    expected: str
    person: str
    org: str
    workspace: str
    credit: int
    name: str
    login: str
    email: str

    def __call__(self, read: Reader) -> Decision:
        found = _find(read, self.proof)
        if found.id != self.expected:
            return []
        return self._linked(read, found) if found.exists else self._signed_up(read)

    def _signed_up(self, read: Reader) -> Decision:
        proof = self.proof
        claims = (proof.claim, *_email_claims(proof), *_mailbox_claims(proof))
        returning = any(read.count(claim) for claim in claims)
        signed_up = PersonSignedUp(name=self.name, home=self.org, returning=returning)
        facts: list[tuple[str, Event]] = [
            (person_stream(self.person), signed_up),
            (person_stream(self.person), self._identity()),
            *[(claim, Claimed(person=self.person)) for claim in claims],
            (f"org:{self.org}", OrgCreated(name=HOME_NAME, kind="personal", founder=self.person)),
            (f"workspace:{self.workspace}", WorkspaceCreated(org=self.org, name="Default", default=True)),
            (f"org:{self.org}", MemberAdded(org=self.org, person=self.person, role="owner")),
        ]
        if proof.email_digest is not None and not returning:
            facts += self._credit(self.org, spent=0)
        return facts

    def _linked(self, read: Reader, person: Person) -> Decision:
        """Another identity of a person who is known, or another address of an identity."""
        facts: list[tuple[str, Event]] = [(person_stream(person.id), self._identity())]
        if read.fold(self.proof.claim, Claim()).person != person.id:
            facts.append((self.proof.claim, Claimed(person=person.id)))
        for claim in _email_claims(self.proof):
            if _holder(read, self.proof) is None:
                facts.append((claim, Claimed(person=person.id)))
            account = account_of(read, person.home)
            [mailbox] = _mailbox_claims(self.proof)
            first = read.count(claim) == read.count(mailbox) == 0
            if read.count(mailbox) == 0:
                facts.append((mailbox, Claimed(person=person.id)))
            if first and not person.returning and SIGN_UP_GRANT not in account.lots:
                credit = self._credit(person.home, spent=account.spent)
                facts += [*credit, *end_trial(read, person.home)] if credit else []
        return facts

    def _identity(self) -> IdentityLinked:
        return IdentityLinked(
            provider=self.proof.provider,
            subject_digest=self.proof.subject_digest,
            login=self.login,
            email=self.email,
            email_digest=self.proof.email_digest or "",
        )

    def _credit(self, org: str, *, spent: int) -> Decision:
        if not self.credit:
            return []
        granted = CreditGranted(org=org, grant=SIGN_UP_GRANT, amount=self.credit, reason="sign-up credit", spent=spent)
        return [(f"account:{org}", granted)]


def _find(read: Reader, proof: Proof) -> Person:
    """The person whom the proof points to; one without an id where there is none."""
    person = _person(read, read.fold(proof.claim, Claim()).person)
    return person if person.exists else _holder(read, proof) or Person()


def _holder(read: Reader, proof: Proof) -> Person | None:
    """Whose verified address it is: theirs who showed it last, as long as an identity of theirs has it."""
    for claim in _email_claims(proof):
        person = _person(read, read.fold(claim, Claim()).person)
        if person.exists and proof.email_digest in person.email_digests:
            return person
    return None


def _person(read: Reader, person: str) -> Person:
    return read.fold(person_stream(person), Person()) if person else Person()


def _email_claims(proof: Proof) -> list[str]:
    """None or one."""
    return [] if proof.email_digest is None else [email_claim(proof.email_digest)]


def _mailbox_claims(proof: Proof) -> list[str]:
    """None or one: of an address that is not verified nothing follows."""
    return [] if proof.email_digest is None else [mailbox_claim(proof.mailbox_digest)]


def _said(proof: Proof) -> Identity:
    """What a person's identity is after this proof."""
    return Identity(proof.provider, proof.email_digest or "")
