"""The version of this code, without reading package metadata at start-up."""

VERSION = "0.1.0"
