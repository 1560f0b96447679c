"""The models of one proxy as text, for `models`."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ccproxy.cli.render.table import Column, table
from ccproxy.config.worker_config import WorkerConfig
from ccproxy.providers.catalogue import ModelFacts
from ccproxy.providers.pricing import Price
from ccproxy.routing.tiers import TIERS
from ccproxy.text import printable

_COLUMNS = (
    Column(head="MODEL"),
    Column(head="WINDOW", align_right=True),
    Column(head="OUTPUT", align_right=True, drop_order=5),
    Column(head="TAKES", drop_order=4),
    Column(head="EFFORTS", drop_order=2),
    Column(head="DIALECT", drop_order=3),
    Column(head="$ PER MILLION", drop_order=6),
    Column(head="NOTE", drop_order=1),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelRow:
    """One model of a proxy, known from its settings, the catalogue or the provider's list."""

    id: str
    tiers: tuple[str, ...]
    window: int | None
    max_output: int | None
    images: bool
    pdf: bool
    efforts: tuple[str, ...]
    api: str
    price: Price | None
    facts: ModelFacts | None
    """The model's row in the catalogue, or None."""
    is_offered: bool | None = None
    """Whether the provider lists the model; None if the provider's list was not requested."""

    @property
    def is_retired(self) -> bool:
        """True if the catalogue lists the model as retired."""
        return self.facts is not None and self.facts.status == "retired"

    def as_json(self) -> dict[str, Any]:
        """Return the row for `models --json`."""
        facts = self.facts
        return {
            "id": self.id,
            "tiers": list(self.tiers),
            "window": self.window,
            "max_output": self.max_output,
            "images": self.images,
            "pdf": self.pdf,
            "efforts": list(self.efforts),
            "api": self.api,
            "price": self.price.as_fields() if self.price else None,
            "status": facts.status if facts else None,
            "retires": (facts.retires or None) if facts else None,
            "successor": (facts.successor or None) if facts else None,
            "source": facts.source if facts else None,
            "date": facts.date if facts else None,
            "offered": self.is_offered,
        }


def model_rows(config: WorkerConfig, provider_models: Sequence[str] | None) -> list[ModelRow]:
    """Return the models of *config*: those of its tiers, the catalogue and *provider_models*."""
    # Without a preset, the rows describe any known model, not the models of this server.
    listed_names = config.models.rows if config.provider else ()
    names = dict.fromkeys((*config.models.tiers(), *listed_names, *(provider_models or ())))
    listed = None if provider_models is None else {name.lower() for name in provider_models}
    return [_row(config, name, listed) for name in names]


def _row(config: WorkerConfig, name: str, listed: set[str] | None) -> ModelRow:
    models, target = config.models, config.target(name)
    facts = models.card(name).facts
    quirks = target.quirks
    return ModelRow(
        id=name,
        tiers=tuple(tier for tier in TIERS if models.tier(tier) == name),
        window=target.window,
        max_output=target.max_output,
        images=quirks.images,
        pdf=quirks.pdf != "text" or target.api == "messages",
        efforts=quirks.efforts,
        api=target.api,
        price=models.price(name),
        facts=facts,
        is_offered=None if listed is None else name.lower() in listed,
    )


def model_table(rows: Sequence[ModelRow], *, width: int | None) -> list[str]:
    """Return the lines of the table of *rows*."""
    return table(_COLUMNS, [_cells(row) for row in rows], width=width, indent="  ")


def _cells(row: ModelRow) -> tuple[str, ...]:
    takes = ["text", *(["images"] if row.images else []), *(["PDF"] if row.pdf else [])]
    mark = f" ({', '.join(row.tiers)})" if row.tiers else ""
    return (
        f"{printable(row.id)}{mark}",
        _count(row.window),
        _count(row.max_output),
        ", ".join(takes),
        "/".join(row.efforts) or "–",
        row.api,
        price_text(row.price) if row.price else "–",
        ", ".join(_notes(row)),
    )


def _count(number: int | None) -> str:
    return "–" if number is None else f"{number:,}"


def price_text(price: Price) -> str:
    """Return `2/10, cached 0.2; above 200,000: 4/15; off-peak: 1/5`."""
    parts = [f"{price.input:g}/{price.output:g}"]
    if price.cache_read is not None:
        parts[0] += f", cached {price.cache_read:g}"
    parts += [f"above {tier.above:,}: {tier.input:g}/{tier.output:g}" for tier in price.tiers]
    if price.off_peak is not None:
        parts.append(f"off-peak: {price.off_peak.input:g}/{price.off_peak.output:g}")
    return "; ".join(parts)


def _notes(row: ModelRow) -> Iterator[str]:
    facts = row.facts
    if facts is None:
        yield "not in the catalogue"
    elif facts.retires:
        is_over = facts.retires <= time.strftime("%Y-%m-%d", time.gmtime())
        yield f"{'retired' if is_over else 'retires'} {facts.retires}"
    elif facts.status != "current":
        yield facts.status
    if facts is not None and facts.successor:
        yield f"then {facts.successor}"
    if row.is_offered is False:
        yield "not offered"


def difference(rows: Sequence[ModelRow]) -> Mapping[str, list[str]]:
    """Return the names that only the provider lists, and those that only the catalogue contains."""
    return {
        "only_offered": [row.id for row in rows if row.is_offered and row.facts is None],
        "only_known": [
            row.id
            for row in rows
            if row.is_offered is False and row.facts is not None and not row.is_retired
        ],
    }
