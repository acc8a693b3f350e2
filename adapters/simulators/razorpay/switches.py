"""What can be made to go wrong, as data. `PUT /_simulator/switches` sets all of it, what is left out to its default;
`PATCH` changes what it names."""

from typing import Annotated, Literal

import msgspec

_Seconds = Annotated[float, msgspec.Meta(ge=0)]
_Count = Annotated[int, msgspec.Meta(ge=0)]


class Switches(msgspec.Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """Times are simulated ones unless they say otherwise."""

    # Calls of the API whose "METHOD /path" contains `api_path`, the next `api_times` of them (null: all)
    api_path: str = ""
    api_times: _Count | None = None
    api_status: Annotated[int, msgspec.Meta(ge=0, le=599)] = 0
    """Answered instead; 0 is none."""
    api_cut: bool = False
    """The connection breaks instead of an answer."""
    api_carried_out: bool = False
    """What is then answered wrongly, or not, has been done all the same."""
    api_sleep_seconds: _Seconds = 0
    """Real seconds before the answer."""

    wrong_key_status: Literal[400, 401] = 401
    receipts_unique: bool = False
    list_lag_seconds: _Seconds = 0
    """Lists show what was true so long ago."""

    # Payments
    auto_capture: bool = True
    auto_refund_seconds: _Seconds = 5 * 86_400
    """An authorised payment that nobody captures goes back after so long."""
    unanswered_seconds: _Seconds = 600
    """A payment of which the bank says nothing fails after so long …"""
    late_seconds: _Seconds = 2 * 86_400
    """… and one with the outcome `late` is authorised so long after that."""

    # Refunds
    refund_seconds: _Seconds = 1
    """`pending` for so long; 0 is processed at once."""
    refund_fails: bool = False

    # Webhooks
    webhook_duplicates: Annotated[int, msgspec.Meta(ge=0, le=100)] = 0
    """So many more deliveries of each event, with the same event id."""
    webhook_reordered: bool = False
    """The events of one payment wait for each other and go out last first, one after the other."""
    webhook_delay_seconds: _Seconds = 0
    webhook_dropped: tuple[str, ...] = ()
    """Names of events that are never delivered; "*" is every one."""
    webhook_signature: Literal["good", "old_secret", "missing", "wrong"] = "good"
    webhook_retry_speed: Annotated[float, msgspec.Meta(gt=0)] = 1
    """How many times faster than Razorpay a failed delivery is tried again."""
    webhook_patience_seconds: _Seconds = 5
    """Real seconds for an answer."""
