"""The description of the API for machines."""

from typing import Any

from fastapi import APIRouter, Depends, Request

from api.caller import public
from api.schemas.document import describe

router = APIRouter(tags=["Documentation"], dependencies=[Depends(public)])


@router.get("/openapi.json")
async def show_openapi(request: Request) -> dict[str, Any]:
    """This document: every route with examples and its error codes."""
    state = request.app.state
    if not hasattr(state, "document"):
        state.document = describe(request.app)
    document: dict[str, Any] = state.document
    return document
