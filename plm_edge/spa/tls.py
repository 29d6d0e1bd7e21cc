"""A server's own certificate, and a device that knows it by its fingerprint."""

from __future__ import annotations

import datetime
import hashlib
import ipaddress
import socket
import ssl
from pathlib import Path

from plm_edge.base import files, folders
from plm_edge.base.errors import ExitCode, PlmEdgeError

_YEARS = 10


def own() -> tuple[Path, Path]:
    """Returns the files of this machine's certificate and key, made once and kept.

    Raises:
        PlmEdgeError: our data folder cannot be written.
    """
    folder = folders.ensure(folders.data() / "serve", "PLM_EDGE_DATA_DIR")
    certificate, key = folder / "spa-certificate.pem", folder / "spa-key.pem"
    if not (certificate.is_file() and key.is_file()):
        _make(certificate, key)
    return certificate, key


def _make(certificate: Path, key: Path) -> None:
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    secret = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "plm-edge spa")])
    now = datetime.datetime.now(datetime.timezone.utc)
    address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
    names = x509.SubjectAlternativeName([x509.DNSName("localhost"), address])
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(secret.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=365 * _YEARS))
        .add_extension(names, critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(secret, hashes.SHA256())
    )
    pem = secret.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    ).decode()
    files.write_text(key, pem, files.PRIVATE)
    files.write_text(certificate, made.public_bytes(serialization.Encoding.PEM).decode())


def fingerprint(certificate: Path) -> str:
    """Returns the SHA-256 of a certificate, in hexadecimal."""
    der = ssl.PEM_cert_to_DER_cert(certificate.read_text(encoding="ascii"))
    return hashlib.sha256(der).hexdigest()


def server_context(certificate: Path, key: Path) -> ssl.SSLContext:
    """Returns the context of a server."""
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    made.minimum_version = ssl.TLSVersion.TLSv1_2
    made.load_cert_chain(certificate, key)
    return made


def pinned(host: str, port: int, wanted: str, timeout: float) -> ssl.SSLContext:
    """Returns a context that trusts one certificate alone: that of this fingerprint.

    Asked for first, without anything of ours being sent; then every link must show the same.

    Raises:
        PlmEdgeError: the server shows another one.
        OSError: it cannot be reached.
    """
    asking = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    asking.check_hostname, asking.verify_mode = False, ssl.CERT_NONE
    with (
        socket.create_connection((host, port), timeout) as plain,
        asking.wrap_socket(plain) as link,
    ):
        der = link.getpeercert(binary_form=True) or b""
    found = hashlib.sha256(der).hexdigest()
    if found != wanted.lower().replace(":", ""):
        raise PlmEdgeError(
            "the server is not the one that is meant",
            f"its certificate is {found[:16]}…, and {wanted[:16]}… is expected",
            "compare with what plm-edge spa serve printed there; do not go on if it differs",
            ExitCode.DEVICE,
        )
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    made.minimum_version = ssl.TLSVersion.TLSv1_2
    made.check_hostname = False
    made.load_verify_locations(cadata=ssl.DER_cert_to_PEM_cert(der))
    return made
