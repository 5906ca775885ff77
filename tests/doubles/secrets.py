"""Made-up secrets of every known shape, and text that only looks like one; put together here so that no scanner finds them."""

from __future__ import annotations

PEM = "\n".join(
    ["-----BEGIN RSA PRIVATE" + " KEY-----", *(f"MIIEpAIBAAKCAQEA{number}x7Vn{'Qb3kZ0' * 7}" for number in range(8)), "Ab3=",
     "-----END RSA PRIVATE" + " KEY-----"]
)  # fmt: skip
_PGP = (
    "-----BEGIN PGP PRIVATE"
    + " KEY BLOCK-----\nVersion: GnuPG v2\n\nlQOYBGVx"
    + "k2Jd" * 14
    + "\n=aB3d\n-----END PGP PRIVATE"
    + " KEY BLOCK-----"
)
_ENCRYPTED = (
    "-----BEGIN RSA PRIVATE" + " KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,0123456789ABCDEF\n\n"
    + "MIIEpAIBAAKCAQEA" * 4 + "\nAb3=\n-----END RSA PRIVATE" + " KEY-----"
)  # fmt: skip
_WEB = "eyJhbGciOiJIUzI1NiJ9" + ".eyJzdWIiOiIxMjM0NTY3ODkwIn0" + ".dozjgNryP4J3jVmNHl0w5N_XgL0n3I9"

# (name, text); what stands before the first `|` and after the second one stays
KINDS = [
    ("private key", PEM),
    ("private key", PEM.replace("\n", "\\n")),
    ("private key", _PGP),
    ("private key", _ENCRYPTED),
    ("api key", "sk" + "-" + "a1B2" * 12),
    ("api key", "sk" + "-proj-" + "a1_B-" * 12),
    ("api key", "sk" + "-ant-api03-" + "x" * 60 + "-AA"),
    ("api key", "sk" + "_live_" + "a1B2" * 6),
    ("api key", "AI" + "za" + "SyA-b_" * 5 + "12345"),
    ("github token", "gh" + "p_" + "a1B2" * 9),
    ("github token", "github" + "_pat_" + "11ABCDEFG0" * 6),
    ("gitlab token", "gl" + "pat-" + "a1B2-" * 4),
    ("aws key", "AKIA" + "IOSFODNN7EXAMPLE"),
    ("aws secret key", "aws_secret_access_key = |" + "wJalrXUtnFEMI/K7MDENG" + "/bPxRfiCYEXAMPLEKEY|"),
    ("aws secret key", 'AWS_SECRET_ACCESS_KEY="|' + "wJalrXUtnFEMI/K7MDENG" + "/bPxRfiCYEXAMPLEKEY|"),
    ("slack token", "xo" + "xb-1234567890-abcdEFGH"),
    ("npm token", "npm" + "_" + "a1B2" * 9),
    ("pypi token", "pypi" + "-AgEIcHlwaS5vcmc" + "a1B2_" * 12),
    ("hugging face token", "hf" + "_" + "a1B2c" * 7),
    ("age key", "AGE-SECRET" + "-KEY-1" + "QPZRY9X8" * 7),
    ("oauth secret", "GOC" + "SPX-" + "a1B2_-" * 5),
    ("web token", _WEB),
    ("web token", "eyJ0eXAiOiJKV1QiLCJhbGciOiJSUzI1NiJ9" + "..abcDEF.ghiJKL"),
    ("authorization", "Authorization: Bearer |" + "tok3n.part+x/y==|"),
    ("authorization", "authorization=basic |" + "dXNlcjpwYXNz|"),
    ("authorization", 'Authorization\\": \\"Bearer |' + "abcdefgh|"),
    ("authorization", "curl -H ' Bearer |" + "0123456789abcdef|"),
    ("password in an address", "postgres://|" + "alice:p4ss!word|@"),
]  # fmt: skip

NO_SECRETS = [
    "task-list-of-the-project-and-more", "risk-assessment-and-mitigation-plan", "disk-usage-of-the-whole-machine",
    "sk-learn-compatible-estimators-and-transformers", "a sk- b", "ghp_ and gho_", "theghp_abcdefghijklmnopqrstuvwxyz",
    "https://example.org:8080/a?b=c@d", "http://[::1]:8080/@x", "mailto:alice@example.org", "git@github.com:a/b.git", "s://a@b",
    "https://user@host/path", "a bearer of responsibilities; Bearer authentication-and-authorization", "Authorization: Bearer $TOKEN",
    "Authorization: see the manual", "-----BEGIN CERTIFICATE-----\nMIIDdzCCAl+gAwIBAgIEAgAAuTANBgkqhkiG\n-----END CERTIFICATE-----",
    "look for `-----BEGIN RSA PRIVATE KEY-----` in files", "| --- |-----| ----- |", "eyJ", "{eyJhIjoxfQ}", "AKIA, ASIA and AIza",
    "WAKIAIOSFODNN7EXAMPLEX", "npm_config_registry=x", "hf_hub_download(repo)", "pypi-server", "xoxb-", "key = sk-short",
    "9e107d9d372bb6826bd81d3542a419d6 2fd4e1c67a2d28fced849ee1bb76e7391b93eb12", "550e8400-e29b-41d4-a716-446655440000",
    "sha256-47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=", "é" * 300, "\x00\x1b[31m\r\n", "x" * 1000, "", " ",
]  # fmt: skip
