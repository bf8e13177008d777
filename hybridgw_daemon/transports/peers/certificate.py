"""The throw-away TLS certificate of one run: made by the `cryptography` library in a short-lived process of its own.

The library would cost a daemon memory for as long as it runs, and is needed for a few milliseconds. `python -m` of this
module prints key and certificate (PEM) into its caller's pipe and ends; nothing is kept. The certificate names nobody:
who a device is, is proved over it (protocol/SPEC.md, "Authentication").
"""

from __future__ import annotations

import asyncio
import os
import ssl
import sys
import tempfile
from pathlib import Path
from typing import Final

from hybridgw_protocol.errors import StateError

MAKE_S: Final = 30.0  # it takes 0.2 s; a machine that starts may be busy


async def make_certificate() -> bytes:
    """A new Ed25519 key and its self-signed certificate, PEM, one behind the other. Raises: StateError."""
    try:
        child = await asyncio.create_subprocess_exec(
            sys.executable, "-m", __name__, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
        )  # fmt: skip
    except OSError as error:
        raise StateError("The certificate for direct links could not be made: no process was started.") from error
    try:
        async with asyncio.timeout(MAKE_S):
            pem, _ = await child.communicate()
    except BaseException as error:
        if child.returncode is None:
            child.kill()
            await child.wait()
        if isinstance(error, TimeoutError):
            raise StateError("The certificate for direct links was not made in time.") from error
        raise
    if child.returncode or b"-----END CERTIFICATE-----" not in pem:
        raise StateError("The certificate for direct links could not be made.")
    return pem


def server_context(pem: bytes, folder: Path) -> tuple[ssl.SSLContext, bytes]:
    """TLS 1.3 with this key and certificate. Returns: the context, and the certificate in DER.

    OpenSSL reads keys from files only: it lies in *folder* for that moment, for nobody else to read.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.num_tickets = 0  # nobody resumes: each connection is proved anew
    handle, name = tempfile.mkstemp(prefix="lan-", dir=folder)  # with mode 0600
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(pem)
        context.load_cert_chain(name)
    finally:
        Path(name).unlink()
    begin = pem.index(b"-----BEGIN CERTIFICATE-----")
    return context, ssl.PEM_cert_to_DER_cert(pem[begin:].decode())


def client_context() -> ssl.SSLContext:
    """TLS 1.3 that takes any certificate: which one it was is compared by the conversation."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def _make() -> bytes:
    from datetime import UTC, datetime  # noqa: PLC0415 - of the short-lived process

    from cryptography import x509  # noqa: PLC0415
    from cryptography.hazmat.primitives import serialization  # noqa: PLC0415
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey  # noqa: PLC0415

    key = Ed25519PrivateKey.generate()
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "hybridgw")])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(datetime(2000, 1, 1, tzinfo=UTC))  # the same for all: it tells nothing about this clock
        .not_valid_after(datetime(2100, 1, 1, tzinfo=UTC))
        .sign(key, None)
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return private + certificate.public_bytes(serialization.Encoding.PEM)


if __name__ == "__main__":
    sys.stdout.buffer.write(_make())
