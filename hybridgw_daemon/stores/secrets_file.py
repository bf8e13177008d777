"""The key-encryption key in a file, `secrets.json`: sealed under a passphrase, or in clear by the person's own choice.

`passphrase`: Argon2id (RFC 9106; libsodium's MODERATE: 256 MiB, about half a second) makes a key of the passphrase,
XChaCha20-Poly1305 seals the KEK under it; salt and costs stand in the file and are its associated data.
`insecure-file`: the KEK itself, for demos, tests and machines with an encrypted disk of one's own; `doctor` tells.
The file has mode 0600 and is written once. Source: protocol/SPEC.md, "Sealing".
"""

from __future__ import annotations

import secrets
import unicodedata
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import msgspec
from nacl.bindings import (
    crypto_aead_xchacha20poly1305_ietf_decrypt,
    crypto_aead_xchacha20poly1305_ietf_encrypt,
    crypto_pwhash_alg,
    crypto_pwhash_ALG_ARGON2ID13,
)
from nacl.exceptions import CryptoError
from nacl.pwhash import argon2id

from hybridgw_daemon.core.rest import KEK_BYTES, NONCE_BYTES
from hybridgw_protocol.codec import encode_canonical
from hybridgw_protocol.errors import BadValue, HybridGWError, SecretsLocked
from hybridgw_protocol.runtime import MIN_PASSPHRASE_BYTES

from .private_files import is_readable_by_others, read_private, write_private
from .secret_kinds import (
    COMMAND_AGAIN,
    COMMAND_INSECURE,
    COMMAND_KEYRING,
    COMMAND_PASSPHRASE,
    Cause,
    SecretKind,
    SecretStoreInfo,
    locked,
)
from .time_limit import TimeLimited

FILE_NAME: Final = "secrets.json"
CREDENTIAL_NAME: Final = "hybridgw-passphrase"  # LoadCredential= of a systemd unit
MAX_FILE_BYTES: Final = 4_096
MAX_PASSPHRASE_BYTES: Final = 1_024
MAX_OPS: Final = 32  # a damaged file must not cost hours or all memory
MAX_MEMORY_BYTES: Final = 2 * 1024**3
FD_LIMIT_S: Final = 5.0
_VERSION: Final = 1
_COMMANDS: Final = {
    SecretKind.KEYRING: COMMAND_KEYRING,
    SecretKind.PASSPHRASE: COMMAND_PASSPHRASE,
    SecretKind.INSECURE_FILE: COMMAND_INSECURE,
}


class Sealed(msgspec.Struct, frozen=True, tag_field="kind", tag="passphrase"):
    """The file under a passphrase. ops, mem_bytes: Argon2id costs; salt 16, nonce 24, sealed 48 bytes (base64)."""

    version: int
    ops: int
    mem_bytes: int
    salt: bytes
    nonce: bytes
    sealed: bytes


class Plain(msgspec.Struct, frozen=True, tag_field="kind", tag="insecure-file"):
    """The file without protection. key: 32 bytes (base64)."""

    version: int
    key: bytes


class PassphraseSource:
    """Where the passphrase comes from, never the command line of a process: that is for all to see.

    The first that is there counts: *value*, what can be read from descriptor *fd*, the file *credential*. One final
    line break is not part of it. It is read once, on first use, and kept for the next try.
    """

    def __init__(
        self,
        *,
        value: bytes | None = None,
        fd: int | None = None,
        credential: Path | None = None,
        limit_s: float = FD_LIMIT_S,
    ) -> None:
        """Args: limit_s: for reading the descriptor to its end."""
        self._limit_s = limit_s
        self._value = value
        self._fd = fd
        self._credential = credential

    @classmethod
    def from_environment(cls, environment: Mapping[str, str], *, fd: int | None = None) -> PassphraseSource:
        """With the credential that systemd hands over. Args: environment: of the process; only the folder is in it."""
        folder = environment.get("CREDENTIALS_DIRECTORY")
        return cls(fd=fd, credential=Path(folder) / CREDENTIAL_NAME if folder else None)

    def __repr__(self) -> str:
        return "PassphraseSource(<hidden>)"

    def read(self) -> bytes | None:
        """UTF-8 in composed form (NFC), so that every keyboard's spelling is one; None if there is no source.

        Raises: SecretsLocked: the descriptor does not end in time, or cannot be read; BadValue: empty or too long.
        """
        if self._value is None and self._fd is not None:
            self._value = self._read_fd(self._fd)
            self._fd = None
        if self._value is None and self._credential is not None:
            self._value = read_private(self._credential, MAX_PASSPHRASE_BYTES + 2)
        if self._value is None:
            return None
        line = self._value.removesuffix(b"\n").removesuffix(b"\r")
        if not line or len(line) > MAX_PASSPHRASE_BYTES:
            raise BadValue(f"A passphrase has 1 to {MAX_PASSPHRASE_BYTES} bytes, this one {len(line)}.")
        try:
            return unicodedata.normalize("NFC", line.decode()).encode()
        except UnicodeDecodeError:
            return line

    def _read_fd(self, fd: int) -> bytes:
        def read_all() -> bytes:
            with open(fd, "rb") as file:
                return file.read(MAX_PASSPHRASE_BYTES + 3)

        try:
            return TimeLimited(self._limit_s, "passphrase").call(read_all)
        except (OSError, TimeoutError) as error:
            raise locked(
                Cause.NO_PASSPHRASE, f"No passphrase can be read from descriptor {fd}.", COMMAND_PASSPHRASE
            ) from error


class FileStore:
    """See SecretStore; what both kinds share."""

    kind: SecretKind

    def __init__(self, folder: Path) -> None:
        self.path = folder / FILE_NAME

    def describe(self) -> SecretStoreInfo:
        """See SecretStore."""
        return SecretStoreInfo(self.kind, str(self.path))

    def _read(self) -> Sealed | Plain | None:
        content = read_file(self.path)
        if content is None:
            return None
        if kind_of(content) is not self.kind:
            raise other_store(kind_of(content))
        return content

    def _write(self, content: Sealed | Plain) -> None:
        write_private(self.path, msgspec.json.format(msgspec.json.encode(content), indent=2) + b"\n", replace=False)


class PassphraseStore(FileStore):
    """See SecretStore. Args: ops, mem_bytes: costs of Argon2id for a new file; an old one keeps its own."""

    kind = SecretKind.PASSPHRASE

    def __init__(
        self,
        folder: Path,
        source: PassphraseSource,
        *,
        ops: int = argon2id.OPSLIMIT_MODERATE,
        mem_bytes: int = argon2id.MEMLIMIT_MODERATE,
    ) -> None:
        super().__init__(folder)
        self._source = source
        self._ops = ops
        self._mem_bytes = mem_bytes

    def load(self) -> bytes | None:
        """See SecretStore."""
        content = self._read()
        if not isinstance(content, Sealed):
            return None
        # From outside the passphrase nothing here is secret, so a readable file is no reason to refuse.
        try:
            return crypto_aead_xchacha20poly1305_ietf_decrypt(
                content.sealed, _associated(content), content.nonce, self._stretch(content)
            )
        except CryptoError as error:
            raise locked(Cause.WRONG_PASSPHRASE, "The passphrase is wrong.", COMMAND_PASSPHRASE) from error

    def create(self, entropy: bytes) -> bytes:
        """See SecretStore."""
        _check(entropy)
        passphrase = self._source.read()
        if passphrase is not None and len(passphrase) < MIN_PASSPHRASE_BYTES:
            raise BadValue(f"A new passphrase has at least {MIN_PASSPHRASE_BYTES} characters, this one is shorter.")
        salt, nonce = secrets.token_bytes(argon2id.SALTBYTES), secrets.token_bytes(NONCE_BYTES)
        content = Sealed(_VERSION, self._ops, self._mem_bytes, salt, nonce, b"")
        sealed = crypto_aead_xchacha20poly1305_ietf_encrypt(
            entropy, _associated(content), nonce, self._stretch(content)
        )
        self._write(msgspec.structs.replace(content, sealed=sealed))
        return entropy

    def _stretch(self, content: Sealed) -> bytes:
        passphrase = self._source.read()
        if passphrase is None:
            raise locked(
                Cause.NO_PASSPHRASE,
                "The key of this profile is kept under a passphrase, and none was given. Type it when asked, hand it "
                f"over on a file descriptor, or as systemd credential {CREDENTIAL_NAME}.",
                COMMAND_PASSPHRASE,
            )
        try:
            return crypto_pwhash_alg(
                KEK_BYTES, passphrase, content.salt, content.ops, content.mem_bytes, crypto_pwhash_ALG_ARGON2ID13
            )
        except (CryptoError, MemoryError, RuntimeError) as error:
            raise locked(
                Cause.LOCKED,
                f"Not enough memory for the passphrase: {content.mem_bytes // 2**20} MiB are needed for a second.",
                COMMAND_PASSPHRASE,
            ) from error


class InsecureFileStore(FileStore):
    """See SecretStore. The key lies in the file as it is."""

    kind = SecretKind.INSECURE_FILE

    def load(self) -> bytes | None:
        """See SecretStore."""
        content = self._read()
        if not isinstance(content, Plain):
            return None
        if is_readable_by_others(self.path):
            raise locked(
                Cause.EXPOSED,
                f"Other users of this machine may read {self.path}, which holds the key in clear.",
                f"chmod 600 '{self.path}'",
            )
        return content.key

    def create(self, entropy: bytes) -> bytes:
        """See SecretStore."""
        _check(entropy)
        self._write(Plain(_VERSION, entropy))
        return entropy

    def describe(self) -> SecretStoreInfo:
        """See SecretStore."""
        return SecretStoreInfo(
            self.kind,
            str(self.path),
            "The key lies in a file without protection: whoever can read this disk can read all that is sealed.",
        )


def read_file(path: Path) -> Sealed | Plain | None:
    """The file, checked; None if there is none. Raises: SecretsLocked: damaged; StorageUnavailable."""
    raw = read_private(path, MAX_FILE_BYTES)
    if raw is None:
        return None
    try:
        content = msgspec.json.decode(raw, type=Sealed | Plain)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise _damaged(path, "cannot be read") from error
    if content.version != _VERSION:
        raise _damaged(path, f"has version {content.version}; a newer program wrote it")
    if isinstance(content, Plain):
        fits = len(content.key) == KEK_BYTES
    else:
        sizes = (len(content.salt), len(content.nonce), len(content.sealed))
        fits = sizes == (argon2id.SALTBYTES, NONCE_BYTES, KEK_BYTES + 16)
        fits = fits and argon2id.OPSLIMIT_MIN <= content.ops <= MAX_OPS
        fits = fits and argon2id.MEMLIMIT_MIN <= content.mem_bytes <= MAX_MEMORY_BYTES
    if not fits:
        raise _damaged(path, "has a value out of bounds")
    return content


def kept_kind(folder: Path) -> SecretKind | None:
    """Which store of files holds the key of this profile; None if none does, or the file cannot be read."""
    try:
        content = read_file(folder / FILE_NAME)
    except HybridGWError:
        return None  # told when the key is opened
    return None if content is None else kind_of(content)


def kind_of(content: Sealed | Plain) -> SecretKind:
    """Which kind of store wrote it."""
    return SecretKind.PASSPHRASE if isinstance(content, Sealed) else SecretKind.INSECURE_FILE


def other_store(kind: SecretKind) -> SecretsLocked:
    """The key is in another kind of store than the one asked for."""
    return locked(Cause.OTHER_STORE, f"The key of this profile is kept by the store '{kind}'.", _COMMANDS[kind])


def _damaged(path: Path, why: str) -> SecretsLocked:
    return locked(Cause.DAMAGED, f"{path} {why}. Put a copy of it back; it is never overwritten.", COMMAND_AGAIN)


def _check(entropy: bytes) -> None:
    if len(entropy) != KEK_BYTES:
        raise ValueError(f"A key-encryption key has {KEK_BYTES} bytes.")


def _associated(content: Sealed) -> bytes:
    return encode_canonical(["hgw-kek-1", content.version, "argon2id", content.ops, content.mem_bytes, content.salt])
