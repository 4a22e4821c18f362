"""A certificate authority for the tests, by openssl: certificates that peers trust, that sign themselves, that have expired."""

import secrets
import subprocess
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Certificate:
    """PEM files: the certificate, its key, both in one, and whom a client must trust to accept it."""

    crt: Path
    key: Path
    both: Path
    trust: Path


class Authority:
    """Keeps its key and what it has issued below `folder`."""

    def __init__(self, folder):
        self.folder = folder
        folder.mkdir(parents=True)
        self.crt, self.key = folder / "authority.crt", folder / "authority.key"
        make(self.crt, self.key, "Authority of the tests", ["basicConstraints=critical,CA:TRUE",
                                                            "keyUsage=critical,keyCertSign"])

    def valid(self, *domains):
        """For these domains, which are its DNS-IDs; good for both ends of a connection, as SASL EXTERNAL needs."""
        return self.issue("valid", domains, ["-CA", self.crt, "-CAkey", self.key], self.crt)

    def expired(self, *domains):
        """As a valid one, but since yesterday no longer."""
        return self.issue("expired", domains, ["-CA", self.crt, "-CAkey", self.key], self.crt, days="-1")

    def self_signed(self, *domains):
        return self.issue("self-signed", domains, [], None)

    def issue(self, kind, domains, signer, trust, days="30"):
        stem = self.folder / f"{domains[0]}.{kind}"
        crt, key, both = (stem.with_name(f"{stem.name}.{suffix}") for suffix in ("crt", "key", "pem"))
        if not both.exists():
            names = ",".join(f"DNS:{domain}" for domain in domains)
            make(crt, key, domains[0], [f"subjectAltName={names}", "basicConstraints=critical,CA:FALSE",
                                        "extendedKeyUsage=serverAuth,clientAuth"], signer, days)
            both.write_text(key.read_text() + crt.read_text())
        return Certificate(crt, key, both, trust or crt)


def make(crt, key, name, extensions, signer=(), days="30"):
    """`signer` are openssl's words for who signs it; without, it signs itself."""
    request = crt.with_suffix(".csr")
    command = ["openssl", "req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-noenc", "-subj", f"/CN={name}",
               "-keyout", key, "-out", request]
    for extension in extensions:
        command += ["-addext", extension]
    openssl(command)
    openssl(["openssl", "x509", "-req", "-in", request, *(signer or ["-signkey", key]), "-copy_extensions", "copyall",
             "-set_serial", str(secrets.randbits(63)), "-days", days, "-out", crt])
    request.unlink()


def openssl(command):
    made = subprocess.run(command, capture_output=True, text=True, check=False)
    if made.returncode:
        raise SystemExit(f"openssl: {made.stderr}")
