"""Where Razorpay tells what happened to payments, refunds and disputes.

It is believed for its signature alone, and only as a hint where to look: what counts is what Razorpay's API says then.
"""

import logging

from fastapi import APIRouter, Depends, Request, Response
from starlette.concurrency import run_in_threadpool

from adapters.wiring import App
from api.caller import Services, public
from api.counter import ACTOR, Counter
from domain.kernel.errors import Conflict, Invalid, NotFound, TooLarge, Unavailable
from domain.payments.ports import WebhookNotice
from domain.payments.refunds import note_refund

BYTES_MAX = 256_000
"""Far above what Razorpay sends, which is below 10 kB."""

router = APIRouter(tags=["Webhooks"], dependencies=[Depends(public)])
_log = logging.getLogger(__name__)


@router.post("/webhooks/razorpay", include_in_schema=False)
async def take_webhook(request: Request, app: Services) -> Response:
    """200 once all that follows is on record; then it is not told again. 4xx and 5xx are told again, with growing
    pauses, for a day, after which Razorpay tells us nothing more at all: so whatever it signed, and no repeat would
    mend, is 200 too. The sweep finds payments in any case."""
    gateway = app.till.gateway
    raw = await _body(request)
    if not gateway.webhook_is_signed(raw, request.headers.get("x-razorpay-signature")):
        raise Invalid("invalid_signature", "The body was not signed with the webhook's secret, or no secret is set.")
    try:
        notice = gateway.parse_webhook(raw)
    except Invalid:
        _log.exception("Razorpay signed a webhook that we cannot read")
        return Response(status_code=200)
    if notice.payment is not None:
        try:
            await _counter(request, app).look(notice.payment)
            if notice.refund is not None or notice.dispute is not None:
                await run_in_threadpool(_note_return, app, notice)
        except NotFound:
            _log.error("Razorpay told of %s, but does not know it: another account's webhook?", notice.payment.id)
        except Conflict as refusal:
            _log.error("Razorpay told of %s, but will not say more: %s", notice.payment.id, refusal)
    return Response(status_code=200)


def _note_return(app: App, notice: WebhookNotice) -> None:
    at, payment = app.clock(), notice.payment
    assert payment is not None
    if notice.dispute is not None:
        app.chargebacks.look(notice.dispute.id, at=at, by=ACTOR)
    if notice.refund is not None:
        try:
            note_refund(app.refunds, notice, at=at, by=ACTOR)
            app.returns.note(payment.order, payment.id, notice.refund.id, at=at, by=ACTOR)
        except NotFound as early:
            raise Unavailable("payments_unavailable", early.message) from early


def _counter(request: Request, app: App) -> Counter:
    state = request.app.state
    if not hasattr(state, "counter"):
        state.counter = Counter(app)
    counter: Counter = state.counter
    return counter


async def _body(request: Request) -> bytes:
    """The body, byte for byte. Raises TooLarge before all of a long one has come."""
    raw = bytearray()
    async for piece in request.stream():
        raw += piece
        if len(raw) > BYTES_MAX:
            raise TooLarge("payload_too_large", f"A webhook has at most {BYTES_MAX} bytes.")
    return bytes(raw)
