"""Who made a package: an Ed25519 signature (RFC 8032) over the manifest, checked by a key that the
receiver already has.

A hash says that a package is what somebody sent; only a signature says who. A set that was made to
mislead the networks trained on it looks like any other.
"""

from __future__ import annotations

import functools
import hashlib
import os
from pathlib import Path

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)

from medddist.base.errors import InputError, shown
from medddist.base.files import write_bytes

PRIVATE, PUBLIC = "private.pem", "public.pem"
MAX_KEY_BYTES = 10_000


def make_keys(folder: Path) -> str:
    """A new pair, private.pem (readable by its owner alone) and public.pem; the public key's
    fingerprint.

    Raises InputError where either is there already: a lost private key cannot be made again.
    """
    folder = Path(folder)
    for name in (PRIVATE, PUBLIC):
        if (folder / name).exists():
            raise InputError(
                shown(folder / name), "is there already, and is not replaced", "give another folder"
            )
    key = Ed25519PrivateKey.generate()
    folder.mkdir(parents=True, exist_ok=True)
    handle = os.open(folder / PRIVATE, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with open(handle, "wb") as file:
        file.write(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    write_bytes(
        folder / PUBLIC,
        key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo),
    )
    return fingerprint(key.public_key())


def signed(manifest: bytes, key_file: Path) -> bytes:
    """The signature (64 bytes) of a manifest by the private key in a file."""
    load = functools.partial(load_pem_private_key, password=None)
    return _loaded(key_file, load, Ed25519PrivateKey, f"{PRIVATE} of `medddist package-key`").sign(
        manifest
    )


def require_signature(signature: bytes, manifest: bytes, key_file: Path) -> str:
    """The fingerprint of the public key in a file, if the signature is by it; InputError otherwise."""
    key = _loaded(key_file, load_pem_public_key, Ed25519PublicKey, f"{PUBLIC} of the sender's")
    try:
        key.verify(signature, manifest)
    except InvalidSignature:
        raise InputError(
            f"its signature is not by the key in {shown(key_file)}; ask the sender, and do "
            "not use it"
        ) from None
    return fingerprint(key)


def fingerprint(key: Ed25519PublicKey) -> str:
    """SHA-256 of the key's 32 bytes: what two people compare by telephone."""
    return hashlib.sha256(key.public_bytes(Encoding.Raw, PublicFormat.Raw)).hexdigest()


def _loaded(path: Path, load, kind: type, wanted: str):
    try:
        with open(path, "rb") as file:
            key = load(file.read(MAX_KEY_BYTES))
    except (OSError, ValueError, TypeError, UnsupportedAlgorithm) as problem:
        reason = (
            problem.strerror
            if isinstance(problem, OSError)
            else "it is no key in PEM without a password"
        )
        raise InputError(
            shown(path), f"cannot be read as a key ({reason})", f"give {wanted}"
        ) from None
    if not isinstance(key, kind):
        raise InputError(shown(path), "is another kind of key", f"give {wanted}")
    return key
