"""Who made a package: an Ed25519 signature (RFC 8032) over the manifest.

A hash says that a package is what somebody sent; only a signature says who. A set that was made to
mislead the networks trained on it looks like any other. It is checked with a key that the receiver
already has.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization as pem
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from medddist.base.errors import InputError, shown
from medddist.base.files import write_bytes
from medddist.sharing.manifest import SIGNATURE

PRIVATE, PUBLIC = "private.pem", "public.pem"
MAX_KEY_BYTES = 10_000


def make_keys(folder: str | Path) -> str:
    """Write a new pair, private.pem (for its owner alone) and public.pem; return its fingerprint.

    Raises InputError where either already exists: a lost private key cannot be made again.
    """
    folder = Path(folder)
    for name in (PRIVATE, PUBLIC):
        if (folder / name).exists():
            reason = "already exists, and is not replaced"
            raise InputError(shown(folder / name), reason, "give another folder")
    private = Ed25519PrivateKey.generate()
    public = private.public_key()
    folder.mkdir(parents=True, exist_ok=True)
    handle = os.open(folder / PRIVATE, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with open(handle, "wb") as file:
        kind = pem.Encoding.PEM, pem.PrivateFormat.PKCS8, pem.NoEncryption()
        file.write(private.private_bytes(*kind))
    kind = pem.Encoding.PEM, pem.PublicFormat.SubjectPublicKeyInfo
    write_bytes(folder / PUBLIC, public.public_bytes(*kind))
    return fingerprint(public)


def signed(manifest: bytes, key_file: Path) -> bytes:
    """Return the signature (64 bytes) of a manifest by the private key in a file."""
    load = lambda content: pem.load_pem_private_key(content, password=None)
    key = _loaded(key_file, load, Ed25519PrivateKey, f"{PRIVATE} of `medddist package-key`")
    return key.sign(manifest)


def require_signature(signature: bytes, manifest: bytes, key_file: Path) -> str:
    """Return the fingerprint of the public key in a file.

    Raises InputError unless the manifest is signed by it.
    """
    key = _loaded(key_file, pem.load_pem_public_key, Ed25519PublicKey, f"{PUBLIC} of the sender")
    try:
        key.verify(signature, manifest)
    except InvalidSignature:
        reason = f"is not by the key in {shown(key_file)}"
        raise InputError(SIGNATURE, reason, "do not use the package, and ask the sender") from None
    return fingerprint(key)


def fingerprint(key: Ed25519PublicKey) -> str:
    """Return the SHA-256 of the key's 32 bytes, which two people can compare by telephone."""
    return hashlib.sha256(key.public_bytes_raw()).hexdigest()


def _loaded(path: Path, load: Callable[[bytes], Any], kind: type, wanted: str) -> Any:
    try:
        with open(path, "rb") as file:
            key = load(file.read(MAX_KEY_BYTES))
    except (OSError, ValueError, TypeError, UnsupportedAlgorithm) as problem:
        cause = getattr(problem, "strerror", "not in PEM without a password")
        reason = f"cannot be read as a key ({cause})"
        raise InputError(shown(path), reason, f"give {wanted}") from None
    if not isinstance(key, kind):
        raise InputError(shown(path), "is another kind of key", f"give {wanted}")
    return key
