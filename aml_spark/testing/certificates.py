"""A certificate authority of the emulator's own, made anew at each start, and the certificate of its server."""

from __future__ import annotations

import contextlib
import datetime as dt
import ipaddress
import ssl
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import certifi
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization.pkcs12 import PKCS12Certificate, serialize_java_truststore
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

_JAVA_PASSWORD = "changeit"  # noqa: S105 - of a file with nothing secret in it; Java wants one
LIFETIME = dt.timedelta(days=7)


@contextlib.contextmanager
def made(folder: Path, names: tuple[str, ...]) -> Iterator[tuple[Path, Path]]:
    """Make an authority and, signed by it, a server's certificate.

    Args:
        folder: gets `authority.pem`, `ca.pem` and, for Java, `ca.p12`; and `server.pem` with the server's key for as
            long as the block runs.
        names: host names, with `*.` for all below one; 127.0.0.1 is always among them.

    Returns:
        `ca.pem`, with the authority for clients, and the server's certificate with its key.
    """
    authority_key, authority = _authority()
    key = ec.generate_private_key(ec.SECP256R1())
    hosts = [x509.DNSName(name) for name in ("localhost", *names)]
    addresses = [x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    certificate = (
        _builder("aml-spark emulator", authority.subject, key)
        .add_extension(x509.SubjectAlternativeName([*hosts, *addresses]), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(authority_key.public_key()), critical=False)
        .sign(authority_key, hashes.SHA256())
    )
    ca_file, own = folder / "ca.pem", authority.public_bytes(serialization.Encoding.PEM)
    authority_file(ca_file).write_bytes(own)
    # With the authorities behind it that everybody trusts, and this Python: what is set to this file asks other hosts,
    # too, such as Java for jars, and a company's proxy may answer.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # cryptography doesn't like the serial numbers of some authorities
        authorities = x509.load_pem_x509_certificates(own + Path(certifi.where()).read_bytes())
        for found in ssl.create_default_context().get_ca_certs(binary_form=True):
            with contextlib.suppress(ValueError):  # what it refuses of what OpenSSL takes
                authorities.append(x509.load_der_x509_certificate(found))
    authorities = list(dict.fromkeys(authorities))
    ca_file.write_bytes(b"".join(found.public_bytes(serialization.Encoding.PEM) for found in authorities))
    trusted = [PKCS12Certificate(found, None) for found in authorities]
    password = serialization.BestAvailableEncryption(_JAVA_PASSWORD.encode())
    ca_file.with_suffix(".p12").write_bytes(serialize_java_truststore(trusted, password))
    pair = folder / "server.pem"
    pair.touch(mode=0o600)
    try:
        pair.write_bytes(_pem(key, certificate))
        yield ca_file, pair
    finally:
        pair.unlink()


def authority_file(ca_file: Path) -> Path:
    """The file with the authority alone. Clients read theirs for each connection, and all the others take 50 ms."""
    return ca_file.with_name("authority.pem")


def java_options(ca_file: Path) -> str:
    """What tells Java to trust the authority, and the others in the file."""
    trusted = {
        "trustStore": ca_file.with_suffix(".p12"),
        "trustStoreType": "PKCS12",
        "trustStorePassword": _JAVA_PASSWORD,
    }
    return " ".join(f'"-Djavax.net.ssl.{name}={value}"' for name, value in trusted.items())


def self_signed(subject: str, key: Any) -> bytes:
    """A key and its certificate that nobody but itself vouches for, as PEM."""
    certificate = _builder(subject, _name(subject), key).sign(key, hashes.SHA256())
    return _pem(key, certificate)


def _pem(key: Any, certificate: x509.Certificate) -> bytes:
    plain = serialization.NoEncryption()
    private = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain)
    return bytes(private + certificate.public_bytes(serialization.Encoding.PEM))


def _authority() -> tuple[ec.EllipticCurvePrivateKey, x509.Certificate]:
    key = ec.generate_private_key(ec.SECP256R1())
    name = _name("aml-spark emulator CA")
    usage = {
        "digital_signature": False,
        "content_commitment": False,
        "key_encipherment": False,
        "data_encipherment": False,
        "key_agreement": False,
        "encipher_only": False,
        "decipher_only": False,
    }
    certificate = (
        _builder("aml-spark emulator CA", name, key)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(x509.KeyUsage(key_cert_sign=True, crl_sign=True, **usage), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    return key, certificate


def _builder(subject: str, issuer: x509.Name, key: Any) -> x509.CertificateBuilder:
    now = dt.datetime.now(dt.timezone.utc)
    return (
        x509.CertificateBuilder()
        .subject_name(_name(subject))
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(minutes=5))
        .not_valid_after(now + LIFETIME)
    )


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])
