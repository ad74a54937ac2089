"""A certificate authority of a test, with files for a server."""

import trustme


class Authority:
    """A certificate authority of a test, with files for a server."""

    def __init__(self, folder) -> None:
        self._ca, self._folder = trustme.CA(), folder
        self.certificate, self.key, self.client_ca = (folder / f"{name}.pem" for name in ("cert", "key", "ca"))
        self._ca.cert_pem.write_to_path(self.client_ca)
        self.root = self._ca.cert_pem.bytes()

    def issue(self, name="localhost", **options):
        """Write a new certificate of the server."""
        issued = self._ca.issue_cert(name, "127.0.0.1", **options)
        issued.private_key_pem.write_to_path(self.key)
        issued.cert_chain_pems[0].write_to_path(self.certificate)

    def client(self, name):
        """A client's key and certificate."""
        issued = self._ca.issue_cert(common_name=name)
        return issued.private_key_pem.bytes(), issued.cert_chain_pems[0].bytes()

    @property
    def settings(self):
        return {"tls_certificate": self.certificate, "tls_key": self.key}
