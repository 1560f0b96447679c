"""
List the models of a fleet for the user's choice: Claude Code's picker and `GET /v1/models`.

Models are named `LABEL:tier` or `LABEL:model`. Claude Code shows ten rows and scrolls through the
rest, so the models of the session's own entry come first, and tiers precede other models. One line
shows about 28 characters of the title and 60 of the description.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, replace

from ccproxy.routing.entry_references import FleetModels, ModelChain
from ccproxy.routing.names import ModelRef, RoutingEntry
from ccproxy.text import format_tokens, printable


@dataclass(frozen=True, slots=True, kw_only=True)
class ListedModel:
    """A model of the fleet."""

    ref: ModelRef
    title: str
    description: str
    window: int | None
    """The context window in tokens, or None if unknown."""

    @property
    def name(self) -> str:
        """The name that clients send."""
        return str(self.ref)


def list_models(
    models: FleetModels[RoutingEntry],
    label: str,
    others: Iterable[str],
    *,
    running: Collection[str] | None = None,
) -> tuple[ListedModel, ...]:
    """
    Return the models of the entry *label*, then those of the *others*.

    If *running* is given, the entries that are not running come last and show the command that
    starts them.
    """
    if running is not None:
        others = sorted(others, key=lambda other: other not in running)
    labels = tuple(others)
    listed = [*_tiers(models, label), *_further(models, label)]
    for models_of in (_tiers, _further):
        for other in labels:
            listed += models_of(models, other)
    stopped = set() if running is None else {*labels} - {label, *running}
    return tuple(
        replace(one, description=f"not running: ccproxy start {one.ref.label}")
        if one.ref.label in stopped
        else one
        for one in listed
    )


def by_title(models: Iterable[ListedModel]) -> dict[str, ListedModel]:
    """Return the first model with each title, because several tiers may use the same model."""
    first: dict[str, ListedModel] = {}
    for model in models:
        first.setdefault(model.title, model)
    return first


def _tiers(models: FleetModels[RoutingEntry], label: str) -> Iterator[ListedModel]:
    """Yield the tiers of *label* that have a model."""
    for chain in models.chains(label):
        if chain.config is not None:
            yield _listed(chain, chain.config, tier=chain.refs[0].model)


def _further(models: FleetModels[RoutingEntry], label: str) -> Iterator[ListedModel]:
    """Yield the other models listed by the preset of *label*."""
    config = models.config(label)
    if config is None:
        return
    tiers = {name.lower() for name in config.models.tiers()}
    for name in config.models.listed():
        if name.lower() not in tiers:
            yield _listed(models.chain(ModelRef(label, name)), config, tier="")


def _listed(chain: ModelChain[RoutingEntry], config: RoutingEntry, *, tier: str) -> ListedModel:
    ref = chain.refs[0]
    model = printable(chain.model)
    is_own = config.label == ref.label
    window = config.target(chain.model).window
    price = config.models.price(chain.model)
    facts = [
        tier,
        f"{format_tokens(window)} window" if window else "window unknown",
        f"${price.input:.4g}/${price.output:.4g} per Mtok" if price is not None else "",
    ]
    return ListedModel(
        ref=ref,
        title=f"{ref.label} · {model}" if is_own else f"{ref.label} · {config.label}:{model}",
        description=" · ".join(filter(None, facts)),
        window=window,
    )
