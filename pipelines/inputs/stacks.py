"""Which files are the bands of one scene: by their names, as satellites are delivered."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated

from pydantic import Field, StrictFloat

from pipelines.run.plan import InputFile
from segmodel.errors import ConfigurationError
from segmodel.settings import OneOf, parsed_toml, settings

FINEST = "finest"
_SCENE, _BAND = "{scene}", "{band}"
_PARTS = re.compile(r"(\*\*/|\*\*|\*|\?|\[[^\]]+\]|\{scene\}|\{band\})")
_PLAIN = {"**/": r"(?:[^/]+/)*", "**": r".*", "*": r"[^/]*", "?": r"[^/]"}


@settings("")
class StackSettings:
    """Band files that are one scene: a file for `--stack`."""

    pattern: str
    """Paths of band files below the folder of `--input`, with `{scene}` in place of what the files
    of a scene share, `{band}` in place of what tells its bands apart, and wildcards. Without a
    slash it is about names in any folder."""
    bands: dict[str, str] = Field(default_factory=dict)
    """Names of bands, each with what stands for `{band}` in its files. Without this table, bands
    are called as their files are."""
    grid: str = FINEST
    """Grid of the scene: that of the named band, or of the band with the smallest pixels."""
    resampling: Annotated[str, OneOf(["nearest", "average"])] = "nearest"
    """How bands on other grids get onto it; `average` is for those with smaller pixels."""
    nodata: StrictFloat | None = None
    """Value that stands for nodata in files that name none."""


@dataclass(frozen=True)
class StackRule:
    """How files become stacks.

    Args:
        settings: What the user stated.

    Raises:
        ConfigurationError: If the pattern has no `{scene}` or no `{band}`.
    """

    settings: StackSettings

    def __post_init__(self) -> None:
        for word in (_SCENE, _BAND):
            if word not in self.settings.pattern:
                raise ConfigurationError(
                    f"--stack: the pattern {self.settings.pattern} must have {word}, as in "
                    f"'{{scene}}_SR_{{band}}.TIF'"
                )
        if self.settings.grid not in (FINEST, *self.settings.bands) and self.settings.bands:
            known = ", ".join((FINEST, *self.settings.bands))
            raise ConfigurationError(
                f"--stack: grid must be one of {known}, got {self.settings.grid!r}"
            )

    @classmethod
    def read(cls, text: str) -> "StackRule":
        """The rule of `--stack`: a pattern, or a TOML file.

        Raises:
            ConfigurationError: If it is neither.
        """
        if _SCENE in text or _BAND in text:
            return cls(StackSettings(pattern=text))
        with parsed_toml(text) as document:
            return cls(StackSettings(**document))

    @cached_property
    def _expression(self) -> re.Pattern[str]:
        pattern = self.settings.pattern
        parts = _PARTS.split(pattern if "/" in pattern else f"**/{pattern}")
        values = "|".join(map(re.escape, self.settings.bands.values())) or r"[^/]+?"
        names = {_SCENE: r"(?P<scene>[^/]+)", _BAND: f"(?P<band>{values})"}
        found = ""
        for part in parts:
            if part in names:
                found += names[part]
                # Where it stands again, it stands for the same.
                names[part] = f"(?P={part[1:-1]})"
            elif _PARTS.fullmatch(part):
                found += _PLAIN.get(part) or part.replace("[!", "[^", 1)
            else:
                found += re.escape(part)
        return re.compile(found)

    def match(self, name: str) -> tuple[str, str] | None:
        """Scene and band of a file, by its path below the folder of the input; None if it is none.

        >>> rule = StackRule(StackSettings(pattern="LC0*/{scene}_SR_{band}.TIF"))
        >>> rule.match("LC08_1/LC08_1_SR_B4.TIF"), rule.match("LC08_1/LC08_1_QA.TIF")
        (('LC08_1', 'B4'), None)
        """
        found = self._expression.fullmatch(name)
        return None if found is None else (found["scene"], found["band"])


@dataclass(frozen=True)
class BandFiles:
    """The files of one scene.

    Args:
        folder: Folder of their input root in the run directory.
        scene: What stands for `{scene}`.
        files: Files by what stands for `{band}`; a band may be there at several resolutions.
    """

    folder: str
    scene: str
    files: dict[str, list[InputFile]]

    @property
    def every(self) -> list[InputFile]:
        """All files."""
        return [file for files in self.files.values() for file in files]


def group_bands(
    files: Iterable[InputFile], rule: StackRule
) -> tuple[list[BandFiles], list[InputFile]]:
    """Files by scene and band, in the order in which scenes are found, and files of no scene."""
    found: dict[tuple[str, str], BandFiles] = {}
    others = []
    for file in files:
        matched = rule.match(file.name)
        if matched is None:
            others.append(file)
            continue
        scene, band = matched
        stack = found.setdefault((file.folder, scene), BandFiles(file.folder, scene, {}))
        stack.files.setdefault(band, []).append(file)
    return list(found.values()), others


def bands_of(
    stack: BandFiles, rule: StackRule, wanted: Sequence[str], known: frozenset[str]
) -> dict[str, str]:
    """Names of the bands of a scene in their order, each with what stands for `{band}`.

    Args:
        stack: Files of the scene.
        rule: How files become stacks, which may say so.
        wanted: Names of bands that the model takes.
        known: What stands for `{band}` in all scenes together.
    """
    if rule.settings.bands:
        return rule.settings.bands
    by_name = {band.casefold(): band for band in sorted(known)}
    if any(name.casefold() in by_name for name in wanted):
        return {name: by_name.get(name.casefold(), name) for name in wanted}
    return {band: band for band in sorted(stack.files)}
