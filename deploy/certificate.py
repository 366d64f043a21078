"""`python deploy/certificate.py --folder FOLDER`: have a certificate for TLS, self-signed if there is none.

For a first try: browsers warn of it. Certificates that are there are left alone, whoever made them.
"""

import argparse
import ipaddress
import os
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

DAYS = 365
CHAIN, KEY = "fullchain.pem", "privkey.pem"  # as certbot calls them


def main() -> int:
    """Make both files, or neither."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, required=True)
    folder = parser.parse_args().folder
    there = [name for name in (CHAIN, KEY) if (folder / name).exists()]
    if there == [CHAIN, KEY]:
        certificate = x509.load_pem_x509_certificate((folder / CHAIN).read_bytes())
        print(f"The certificate is valid until {certificate.not_valid_after_utc:%Y-%m-%d}.")
        return 0
    if there:
        print(f"{folder} has {there[0]} without the other of {CHAIN} and {KEY}.", file=sys.stderr)
        return 1
    try:
        make(folder, names() or ["localhost"])
    except OSError as error:
        print(f"{folder} has no certificate and cannot get one: {error.strerror}.", file=sys.stderr)
        return 1
    print(f"Made a self-signed certificate for {DAYS} days: browsers will warn of it.")
    return 0


def names() -> list[str]:
    """Return the names that the platform answers to; to Django `.example.org` is that name and all below it."""
    allowed = [name.strip() for name in os.environ.get("ALLOWED_HOSTS", "").split(",") if name.strip()]
    return [each for name in allowed for each in ([name[1:], f"*{name}"] if name.startswith(".") else [name])]


def make(folder: Path, names: list[str]) -> None:
    """Write a new key, which only its owner and group can read, and a certificate of it."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0][:64])])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))  # clocks differ
        .not_valid_after(now + timedelta(days=DAYS))
        .add_extension(x509.SubjectAlternativeName([_general(name) for name in names]), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    _write(folder / KEY, private, 0o640)
    _write(folder / CHAIN, certificate.public_bytes(serialization.Encoding.PEM), 0o644)


def _general(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name.strip("[]")))
    except ValueError:
        return x509.DNSName(name)


def _write(path: Path, content: bytes, mode: int) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(descriptor, "wb") as file:
        os.fchmod(descriptor, mode)  # whatever the umask
        file.write(content)


if __name__ == "__main__":
    sys.exit(main())
