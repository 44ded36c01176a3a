"""`CITATION.cff` is valid by the Citation File Format 1.2.0, and says what `pyproject.toml` says."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import jsonschema
import yaml

ROOT = Path(__file__).resolve().parents[2]
TEXT = {"type": "string", "minLength": 1}
TEXTS = {"type": "array", "minItems": 1, "uniqueItems": True, "items": TEXT}


def table(required: list[str], **properties: Any) -> dict[str, Any]:
    return {"type": "object", "required": required, "additionalProperties": False, "properties": properties}


# The keys of the format's schema that a citation of software may well have; others are mistakes here.
NAMES = (
    "affiliation",
    "alias",
    "email",
    "family-names",
    "given-names",
    "name-particle",
    "name-suffix",
    "orcid",
    "website",
)
AGENTS = {
    "type": "array",
    "minItems": 1,
    "uniqueItems": True,
    "items": {
        "anyOf": [
            table(["family-names"], **dict.fromkeys(NAMES, TEXT)),
            table(["name"], name=TEXT, email=TEXT, website=TEXT),
        ]
    },
}
IDENTIFIER = table(["type", "value"], type={"enum": ["doi", "url", "swh", "other"]}, value=TEXT, description=TEXT)
IDENTIFIERS = {"type": "array", "minItems": 1, "items": IDENTIFIER}
REFERENCE = table(
    ["authors", "title", "type"],
    authors=AGENTS,
    title=TEXT,
    type={"enum": ["article", "book", "conference-paper", "software"]},
    year={"type": "integer"},
    journal=TEXT,
    notes=TEXT,
    url=TEXT,
    doi=TEXT,
    identifiers=IDENTIFIERS,
)
SCHEMA = table(
    ["authors", "cff-version", "message", "title"],
    **{"cff-version": {"const": "1.2.0"}, "authors": AGENTS, "type": {"enum": ["dataset", "software"]}},
    **dict.fromkeys(["abstract", "doi", "license", "message", "repository-code", "title", "url", "version"], TEXT),
    **{"keywords": TEXTS, "date-released": {"type": "string", "pattern": r"^\d{4}-\d{2}-\d{2}$"}},
    identifiers=IDENTIFIERS,
    references={"type": "array", "items": REFERENCE},
)


def test_the_citation_is_valid_and_of_this_version() -> None:
    citation = yaml.load((ROOT / "CITATION.cff").read_text("utf-8"), Loader=yaml.BaseLoader)
    for reference in citation.get("references", []):
        reference["year"] = int(reference["year"])
    jsonschema.validate(citation, SCHEMA)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    assert {name: citation[name] for name in ("version", "license", "keywords")} == {
        name: project[name] for name in ("version", "license", "keywords")
    }
    assert citation["title"] == f"Hansa: {project['description'].rstrip('.').lower().replace('xla', 'XLA')}"
