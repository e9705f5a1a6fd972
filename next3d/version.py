"""The version, said once; pyproject.toml and `next3d --version` read it from here."""

VERSION = "0.1.0"
