"""Measure what a model accepts by sending small requests."""

from __future__ import annotations

import json
import shlex

import click

from ccproxy.cli.command import FiniteRange, Options, command
from ccproxy.cli.confirmation import confirm
from ccproxy.cli.render.terminal import show
from ccproxy.cli.selection import complete_label, open_entry
from ccproxy.config.fleet import Entry, Fleet
from ccproxy.errors import CcproxyError
from ccproxy.ipc.control_messages import ProbeReply
from ccproxy.supervisor.control.worker_requests import probe_model
from ccproxy.text import printable


@command(
    "ccproxy probe kimi",
    "ccproxy probe kimi --model kimi-k3 --yes",
    "ccproxy probe kimi --overflow             # also send a request that is too long",
    "ccproxy probe kimi --export               # rows to contribute to providers.toml",
)
@click.argument("label", shell_complete=complete_label)
@click.option(
    "--model", default="", help="The model's name at the provider.  [default: the opus model]"
)
@click.option(
    "--max-cost",
    type=FiniteRange(min=0),
    default=0.01,
    show_default=True,
    help="Stop measuring once this much has been spent, in US dollars.",
)
@click.option(
    "--overflow",
    is_flag=True,
    help="Also send one request that is too long. A server that accepts it charges for it.",
)
@click.option("--yes", is_flag=True, help="Do not ask for confirmation.")
@click.option("--export", is_flag=True, help="Print the results as rows for providers.toml.")
def probe(
    options: Options,
    label: str,
    model: str,
    max_cost: float,
    *,
    overflow: bool,
    yes: bool,
    export: bool,
) -> None:
    """
    Measure what a model of LABEL accepts by sending small requests.

    After a restart of the entry, the result overrides the catalogue for this model at this address.
    The result is a file in state/profiles; to undo it, delete that file. Only the Chat Completions
    API is measured, including the longest answer and how streams end. With --overflow, the result
    shows whether ccproxy recognizes the refusal of a prompt that is too long.
    """
    fleet, entry = open_entry(options, label)
    if export:
        _export(fleet, entry)
        return
    plan = probe_model(fleet, entry.label, model, overflow=overflow)
    words = ["ccproxy", "probe", entry.label, "--model", plan.model, f"--max-cost={max_cost:g}"]
    fix = shlex.join([*words, *(["--overflow"] if overflow else []), "--yes"])
    confirm(_question(plan, max_cost), yes=yes, fix=fix)
    reply = probe_model(fleet, entry.label, plan.model, most=max_cost, overflow=overflow)
    spent = "" if reply.dollars is None else f", ${reply.dollars:.4f}"
    show(f"{printable(reply.model)}: {reply.measured} quirks measured "
         f"({reply.requests} requests{spent}).")  # fmt: skip
    for line in reply.differs:
        show(f"  {printable(line)}")
    if not reply.differs:
        show("  all match the assumed values")
    for line in reply.limits:
        show(f"  {printable(line)}")
    if reply.stopped:
        show(f"Stopped at the limit of ${max_cost:g}; the remaining quirks were not measured.")
    show(f"Never measured: {', '.join(reply.unmeasured)}")
    show(f"To apply it: ccproxy restart {entry.label}")


def _question(plan: ProbeReply, max_cost: float) -> str:
    cost = _price(None if plan.dollars is None else min(plan.dollars, max_cost))
    question = f"Send up to {plan.requests} small requests to {plan.model}, for at most {cost}"
    if plan.overflow_tokens:
        price = _price(plan.overflow_dollars)
        question += f", and one of {plan.overflow_tokens} tokens, for {price} if it is accepted"
    return question + "?"


def _price(dollars: float | None) -> str:
    return "an unknown price" if dollars is None else f"${dollars:.4f}"


def _export(fleet: Fleet, entry: Entry) -> None:
    """Print the measured quirks that differ from the assumed ones; raise if none were measured."""
    from ccproxy.config.catalogue.measured_profiles import profiles_path, read_profiles
    from ccproxy.config.worker_config import load_worker

    config = load_worker(entry.env_file, entry=entry)
    profiles = read_profiles(profiles_path(fleet.state, config.base_url))
    if profiles is None:
        fix = f"ccproxy probe {entry.label}"
        raise CcproxyError(f"nothing has been measured at this address\n  fix: {fix}")
    for name, model in profiles.models.items():
        show(f"[[{profiles.provider or 'PRESET'}.models]] # measured {model.date}")
        show(f"names = [{_toml(name)}]")
        fields = (f"{field} = {_toml(model.quirks[field])}" for field in model.differs)
        show(f"quirks = {{ {', '.join(fields)} }}")
        if model.max_output:
            show(f"# longest answer: {model.max_output} tokens (the catalogue's max_output)")
        if model.overflow:
            show(f"# refusal of a too-long request, not recognized: {printable(model.overflow)}")


def _toml(value: object) -> str:
    """Return *value* as TOML, which is JSON for strings, numbers, booleans and lists of them."""
    return json.dumps(value, ensure_ascii=False)
