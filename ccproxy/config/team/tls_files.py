"""The certificate of a proxy that serves https, read from TLS_CERT and TLS_KEY."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ccproxy.config import settings as s
from ccproxy.config.reader import EnvReader
from ccproxy.files import display_path, open_regular

if TYPE_CHECKING:
    import ssl

_OTHERS = stat.S_IWGRP | stat.S_IRWXO
"""Permissions that other users must not have; the group may read, as with mounted secrets."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsFiles:
    """A certificate with its chain, and its private key."""

    certificate: Path
    key: Path

    def load(self) -> ssl.SSLContext:
        """
        Return the TLS context of a server with this certificate.

        Raises:
            OSError: If a file is unreadable, or the key does not match (`ssl.SSLError`).
        """
        import ssl  # imported here because most commands do not need it

        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.set_alpn_protocols(["http/1.1"])
        # Without a password callback, OpenSSL would prompt on the terminal.
        context.load_cert_chain(self.certificate, self.key, password=lambda: "")
        return context


def read_tls(env: EnvReader) -> TlsFiles | None:
    """Return the certificate and its key, or None for http; note mistakes in *env*."""
    certificate, key = env.value(s.TLS_CERT), env.value(s.TLS_KEY)
    if certificate is None or key is None:
        for value, missing in ((certificate, s.TLS_KEY), (key, s.TLS_CERT)):
            if value is not None:
                fix = f"add {missing.name}={missing.example}"
                env.note(value, f"{value.name} needs {missing.name}", fix=fix)
        return None
    if not env.read(s.PUBLIC_URL).startswith("https://"):
        text = "TLS_CERT needs PUBLIC_URL, the https:// address for which it was issued"
        env.note(certificate, text, fix=f"add PUBLIC_URL={s.PUBLIC_URL.example}")
    if None in (env.read(s.TLS_CERT), env.read(s.TLS_KEY)):
        return None
    files = TlsFiles(certificate=env.path(certificate.text), key=env.path(key.text))
    try:
        for path in (files.certificate, files.key):
            os.close(open_regular(path))  # OpenSSL would block on a FIFO
        files.load()
        if files.key.stat().st_mode & _OTHERS:
            fix = f"chmod 600 {display_path(files.key)}"
            env.note(key, "the file of TLS_KEY can be read or changed by other users", fix=fix)
    except OSError as error:
        text = f"TLS_CERT and TLS_KEY cannot be used: {error.strerror or error}"
        fix = "name a certificate and its key in PEM form, without a password"
        env.note(certificate, text, fix=fix)
    return files
