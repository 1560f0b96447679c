"""Test the keys of a new proxy with one request each, before anything is written."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import click

from ccproxy.cli.command import Options
from ccproxy.cli.commands.session.keys import KEY_ERRORS
from ccproxy.cli.render.terminal import notify, print_error
from ccproxy.cli.setup.new_proxy import NewProxy, preset_of
from ccproxy.cli.setup.questions import ask_endpoint, endpoint_name, paste_keys
from ccproxy.cli.setup.server_models import find_api
from ccproxy.cli.setup.temporary_worker import temporary_worker
from ccproxy.config.env_text import masked_key
from ccproxy.config.fleet import Fleet
from ccproxy.config.worker_config import WorkerConfig
from ccproxy.ipc.control_messages import KeyTest
from ccproxy.text import counted, printable

_FIXES = {
    "authentication_error": "check the key, and that it was issued by this provider",
    "permission_error": "check that the key may use this model",
    "billing_error": "check the account's balance",
    "not_found_error": "check the model, and the address (--base-url)",
    "invalid_request_error": "check the provider and the model (--preset, --model)",
    "rate_limit_error": "wait, or add a second key",
}
_OTHER_FIX = "check the address (--base-url), and that the provider can be reached from here"
_MISSING_PATH_FIX = "check the address (--base-url) and the API (--api)"
_PER_KEY = {*KEY_ERRORS, "rate_limit_error"}
"""Failures that depend on the key. Any other failure would repeat with every key."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Results:
    working: Sequence[str]
    failed: Sequence[str]
    """Includes the keys that were not tested because the failure does not depend on the key."""
    is_key_error: bool
    other_api: str = ""
    """The API that the server supports instead of the one that was tested."""


def test_keys(options: Options, proxy: NewProxy, fleet: Fleet, *, is_interactive: bool) -> NewProxy:
    """
    Test every key; return the proxy with the keys that the user chooses to keep.

    Raises:
        SystemExit: If a key fails and the user cancels or cannot be prompted; the code is 4 if
            the provider rejected the key.

    """
    tested: Sequence[str] = ()
    while True:
        results = _run_tests(options, proxy, fleet, tested)
        tested = results.working
        if results.other_api:
            notify(options, f"The server works with PROVIDER_API={results.other_api}; using that")
            proxy = replace(proxy, api=results.other_api)
            continue
        if not results.failed:
            return proxy
        if results.is_key_error:
            _name_other_endpoints(proxy)
        action = _choose(results, proxy) if is_interactive else "cancel"
        match action:
            case "keep":
                return replace(proxy, keys=tuple(results.working))
            case "add":
                return proxy
            case "endpoint":
                preset = preset_of(proxy.preset)
                name = endpoint_name(preset, ask_endpoint(preset))
                proxy, tested = replace(proxy, endpoint=name, base_url=""), ()
            case "retype":
                proxy = replace(proxy, keys=(*results.working, *paste_keys()))
            case _:
                notify(options, "Nothing was written.")
                raise SystemExit(4 if results.is_key_error else 1)


def _choose(results: _Results, proxy: NewProxy) -> str:
    """Ask what to do about the failed keys."""
    actions = {
        "retype": "enter other keys",
        "add": "add all keys anyway",
        "cancel": "write nothing",
    }
    default = "cancel"
    if results.working:
        actions = {"keep": f"keep the {counted(len(results.working), 'working key')}", **actions}
        default = "keep"
    if not (results.is_key_error or results.working):
        del actions["retype"]
    if results.is_key_error and preset_of(proxy.preset).endpoints:
        actions = {"endpoint": "use another region or plan", **actions}
    print_error("".join(f"  {name:<8} {text}\n" for name, text in actions.items()).rstrip())
    choice = click.Choice(list(actions), case_sensitive=False)
    answer: str = click.prompt("What now?", type=choice, default=default, err=True)
    return answer


def _name_other_endpoints(proxy: NewProxy) -> None:
    """Name the provider's other regions and plans: a key is valid at only one of them."""
    preset = preset_of(proxy.preset)
    urls = {endpoint.name: preset.at(endpoint).base_url for endpoint in preset.endpoints}
    current = proxy.base_url or urls.get(proxy.endpoint) or preset.base_url
    others = {name: url for name, url in urls.items() if url != current}
    if others:
        print_error("  The key may belong to another region or plan of this provider:")
        width = max(map(len, others))
        for name, url in others.items():
            print_error(f"    --endpoint {name:<{width}}  {url}")


def _run_tests(options: Options, proxy: NewProxy, fleet: Fleet, tested: Sequence[str]) -> _Results:
    """Send one request per key that is not in *tested*, and report each result as it arrives."""
    config = proxy.config(fleet)
    working: list[str] = []
    failed: list[str] = []
    is_key_error = False
    keys = proxy.keys or ("",)  # a provider without keys is tested too
    with temporary_worker(config, proxy.env_text) as test_key:
        for number, key in enumerate(keys, 1):
            if key in tested:
                working.append(key)
                continue
            result = test_key(f"k{number}")
            if result.is_missing_path and (api := _other_api(proxy, config)):
                return _Results(working=working, failed=[], is_key_error=False, other_api=api)
            _report(options, result, key, number=number, count=len(keys))
            if result.ok:
                working.append(key)
                continue
            failed.append(key)
            is_key_error = is_key_error or result.kind in KEY_ERRORS
            if result.kind not in _PER_KEY:
                rest = keys[number:]
                failed += rest
                if rest:
                    notify(options, f"  {counted(len(rest), 'other key')} not tested")
                break
    if working and (line := _price_line(config)):
        notify(options, line)
    return _Results(working=working, failed=failed, is_key_error=is_key_error)


def _other_api(proxy: NewProxy, config: WorkerConfig) -> str:
    """Return the API that the server supports instead; empty if unknown or chosen by the user."""
    if proxy.api or not proxy.base_url:
        return ""
    return find_api(config.base_url, config.api_keys)


def _report(options: Options, result: KeyTest, key: str, *, number: int, count: int) -> None:
    name = "" if not key else f"key {number} of {count} " * (count > 1) + f"{masked_key(key)}  "
    if result.ok:
        mark = click.style("✓", fg="green")
        notify(options, f"  {mark} {name}works  ({result.seconds:.1f} s)")
        return
    mark = click.style("✗", fg="red")
    text = f"{result.status} {printable(result.message)}"
    otherwise = _MISSING_PATH_FIX if result.is_missing_path else _OTHER_FIX
    fix = _FIXES.get(str(result.kind), otherwise)
    print_error(f"  {mark} {name}{text}\n    fix: {fix}")


def _price_line(config: WorkerConfig) -> str:
    """Return the main model's price; empty if it is unknown."""
    model = config.models.big
    price = config.models.price(model) if model else None
    if price is None:
        return ""
    return f"  {model}: ${price.input:g} in, ${price.output:g} out per 1M tokens"
