"""The declarations of settings: complete, read and documented."""

from __future__ import annotations

import inspect

import pytest

from ccproxy.config import added_feature_settings, provider_keys, worker_config
from ccproxy.config import consistency as rules
from ccproxy.config import settings as s
from ccproxy.config.services import service_settings
from ccproxy.config.team import gateway_settings, tls_files


def test_every_setting_is_declared_once():
    declared = [one for one in vars(s).values() if isinstance(one, s.Setting)]
    assert list(s.SETTINGS) == declared
    names = [name for setting in s.SETTINGS for name in setting.names]
    assert len(names) == len(set(names))


def test_every_setting_is_read():
    readers = (worker_config, rules, provider_keys)
    parts = (added_feature_settings, service_settings, gateway_settings, tls_files)
    source = "".join(map(inspect.getsource, (*readers, *parts)))
    unread = {
        name
        for name, one in vars(s).items()
        if isinstance(one, s.Setting) and one is not s.CUSTOM_HEADER and f"s.{name}" not in source
    }
    assert unread == set()


@pytest.mark.parametrize("setting", s.SETTINGS, ids=lambda setting: setting.name)
def test_a_setting_has_meaning_and_example(setting):
    assert setting.meaning
    assert "\n" not in setting.meaning
    assert setting.example
    assert setting.names[0] == setting.name


@pytest.mark.parametrize(
    "setting",
    [one for one in s.SETTINGS if "…" not in one.example],
    ids=lambda setting: setting.name,
)
def test_an_example_is_valid(setting):
    assert setting.parse(setting.example) is not None
