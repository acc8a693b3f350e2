"""Documents for whoever uses the product, as they stand in `api/docs`."""

from pathlib import Path

from fastapi import APIRouter, Depends, Response

import api.docs
from api.caller import public

router = APIRouter(tags=["Documents"], dependencies=[Depends(public)])

FOLDER = Path(api.docs.__path__[0])


@router.get("/docs/verify-ledger", response_class=Response)
def show_verify_ledger() -> Response:
    """How to check an exported ledger without us, and what its hashes are made of. Markdown."""
    return _text("verify_ledger.md", media_type="text/markdown")


@router.get("/docs/verify_ledger.py", response_class=Response)
def show_verify_ledger_script() -> Response:
    """The script that checks an exported ledger. It needs Python and nothing else."""
    return _text("verify_ledger.py", media_type="text/x-python")


@router.get("/docs/collections", response_class=Response)
def show_collections() -> Response:
    """What collections are, and how they are made, shared and put into force. Markdown."""
    return _text("collections.md", media_type="text/markdown")


@router.get("/docs/own-keys", response_class=Response)
def show_own_keys() -> Response:
    """How an org calls on its own keys and endpoints, for one call or saved. Markdown."""
    return _text("own_keys.md", media_type="text/markdown")


@router.get("/docs/webhooks", response_class=Response)
def show_webhooks() -> Response:
    """What webhooks are told, how to verify it, and when it is sent again. Markdown."""
    return _text("webhooks.md", media_type="text/markdown")


@router.get("/docs/monitoring", response_class=Response)
def show_monitoring() -> Response:
    """How collections are watched, when alerts speak, and what the status page rests on. Markdown."""
    return _text("monitoring.md", media_type="text/markdown")


@router.get("/docs/access", response_class=Response)
def show_access() -> Response:
    """Who may call what, route by route. Markdown."""
    return _text("access.md", media_type="text/markdown")


def _text(name: str, *, media_type: str) -> Response:
    return Response((FOLDER / name).read_bytes(), media_type=f"{media_type}; charset=utf-8")
