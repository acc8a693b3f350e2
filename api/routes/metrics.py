"""Measurements for whoever runs the product."""

from fastapi import APIRouter, Depends, Response

from api.caller import operator
from api.errors import documented

router = APIRouter(tags=["Operators"], dependencies=[Depends(operator)])


@router.get("/metrics", response_class=Response, responses=documented("invalid_api_key", "forbidden_scope"))
def show_metrics() -> Response:
    """Prometheus' text format, of this process. With BR_OPERATOR_TOKEN as bearer; while none is set, locally."""
    from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

    return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)
