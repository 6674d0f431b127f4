"""Matching the classes of two label sets by name, spelling and a curated table of synonyms.

The table covers COCO, YouTube-VIS 2019, 2021 and 2022, and OVIS, in all directions. It contains
only synonyms, no broader or narrower classes (``parrot`` does not match COCO's ``bird``).
"""

from __future__ import annotations

import re

SYNONYMS: tuple[tuple[str, ...], ...] = (
    # YouTube-VIS 2019 names its car class after sedans; OVIS has one class for road vehicles,
    # mostly cars, with this spelling
    ("car", "sedan", "Vehical"),
    ("motorcycle", "motorbike"),
    ("frisbee", "flying_disc"),
)

HOMONYMS = {"mouse": "keyboard"}
"""Ambiguous names, each with a class whose presence determines the meaning."""


def match_rows(source: list[str], target: list[str]) -> list[int | None]:
    """For each target class the index of the matching source class, or None.

    Exact matches come first, then spelling variants (case, ``_``, ``-`` or
    space), then synonyms. No source class matches two target classes.
    """
    rows: dict[str, int] = {}
    for spell in (str, canonical_name, _first_synonym):
        free = {spell(name): i for i, name in enumerate(source) if i not in rows.values()}
        for name in target:
            if name not in rows and spell(name) in free and _same_thing(name, source, target):
                rows[name] = free.pop(spell(name))
    return [rows.get(name) for name in target]


def canonical_name(name: str) -> str:
    """Normalised spelling: ``giant_panda`` for ``Giant_panda``, ``giant panda``, ..."""
    return re.sub(r"[\s_-]+", "_", name.strip()).casefold()


_FIRST = {canonical_name(name): canonical_name(group[0]) for group in SYNONYMS for name in group}


def _first_synonym(name: str) -> str:
    return _FIRST.get(canonical_name(name), canonical_name(name))


def _same_thing(name: str, source: list[str], target: list[str]) -> bool:
    """False for a name with different meanings in the two label sets."""
    companion = HOMONYMS.get(canonical_name(name))
    if companion is None:
        return True
    in_source, in_target = (companion in map(canonical_name, names) for names in (source, target))
    return in_source == in_target
