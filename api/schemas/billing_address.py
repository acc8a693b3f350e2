"""Billing addresses, PIN codes and the low-balance threshold as callers write and read them."""

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from api.schemas.money import Amount, Rupees
from domain.payments.billing import pin_hint
from domain.payments.document import Buyer
from domain.payments.states import STATES


class NewBillingAddress(BaseModel):
    """`name`, `address` and `state` are needed always, and a `gstin` in a special economic zone."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "example": {
                "name": "Acme Software Private Limited",
                "address": ["4th Floor, Prestige Tower", "Residency Road"],
                "city": "Bengaluru",
                "pin": "560025",
                "state": "29",
                "gstin": "29AAGCB7383J1Z4",
                "email": "accounts@acme.example",
            }
        },
    )

    name: str
    address: list[str] = Field(description="One to four lines")
    city: str = ""
    pin: str = ""
    state: str = Field(description="The State's GST code, two digits")
    gstin: str | None = None
    email: str = ""
    special_zone: bool = Field(default=False, description="A unit in or developer of a special economic zone")

    def buyer(self) -> Buyer:
        return Buyer(
            name=self.name,
            address=tuple(self.address),
            city=self.city,
            pin=self.pin,
            state=self.state,
            gstin=self.gstin,
            email=self.email,
            special_zone=self.special_zone,
        )


class BillingAddress(BaseModel):
    name: str
    address: list[str]
    city: str
    pin: str
    state: str
    state_name: str
    gstin: str | None
    email: str
    special_zone: bool
    hint: str | None = Field(description="What looks wrong but was taken, such as a PIN code of another State")


class StateRow(BaseModel):
    code: str
    name: str


class PinHint(BaseModel):
    """Where a PIN code may be, the likeliest State first. It helps to fill in a form; no tax follows from it."""

    pin: str
    states: list[StateRow]
    city: str | None


class LowBalance(BaseModel):
    model_config = ConfigDict(extra="forbid", json_schema_extra={"example": {"threshold_inr": 100}})

    threshold_inr: Rupees | None


class LowBalanceRow(BaseModel):
    threshold_inr: Amount | None


def address_row(buyer: Buyer) -> dict[str, Any]:
    return {
        "name": buyer.name,
        "address": list(buyer.address),
        "city": buyer.city,
        "pin": buyer.pin,
        "state": buyer.state,
        "state_name": STATES[buyer.state].name,
        "gstin": buyer.gstin,
        "email": buyer.email,
        "special_zone": buyer.special_zone,
        "hint": pin_hint(buyer),
    }
