"""One contract of several, for models whose probabilities are averaged."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from fractions import Fraction

from segmodel.errors import ConfigurationError, ContractError
from segmodel.labels.classes import ClassTable
from segmodel.savedmodel.contract import Contract, MeasuredHalo
from segmodel.savedmodel.halo import usual_core_px
from segmodel.savedmodel.views import Views

_EQUAL = ("bands", "dtype", "value_range", "nodata_fill", "fixed_window")


def merge_contracts(contracts: Mapping[str, Contract], views: Views) -> Contract:
    """The contract of an ensemble.

    Args:
        contracts: Contracts of the models, by names for errors.
        views: Views of an image that each model labels.

    Raises:
        ConfigurationError: If a scale does not fit the models.
        ContractError: If the models differ in what they take or give; names field and models.
    """
    members = list(contracts.values())
    first = members[0]
    for field in _EQUAL:
        _check_equal(field, {name: getattr(member, field) for name, member in contracts.items()})
    _check_classes({name: member.classes for name, member in contracts.items()})
    stride = views.stride(member.stride for member in members)
    if first.fixed_window is not None:
        _check_fixed(first.fixed_window, stride, views)
    fields = [member.receptive_field for member in members]
    sides = [field // 2 for field in fields if field is not None]
    halo = views.context_px(max(member.halo.pixels for member in members))
    if first.fixed_window is None:
        halo = -(-halo // stride) * stride
    name = "ensemble of " + ", ".join(member.name for member in members)
    count = f"{len(members)} model{'s' if len(members) > 1 else ''}"
    return dataclasses.replace(
        first,
        name=name if len(members) > 1 else f"{first.name}, {views.count} views",
        architecture=f"mean of {count}, {views}",
        stride=stride,
        receptive_field=2 * views.context_px(max(sides)) + 1 if None not in fields else None,
        halo=MeasuredHalo(halo, usual_core_px(stride), None),
        gsd_range_m=_shared_gsd_range(contracts),
        bytes_per_pixel=None,
        parameters=None,
        calibration=None,
        training_data={},
        # Scores of the models are not those of their mean.
        metrics={},
        versions={},
    )


def _check_equal(field: str, values: Mapping[str, object]) -> None:
    (name, expected), *others = values.items()
    for other, value in others:
        if value != expected:
            raise ContractError(
                f"{field}: must be the same in all models of an ensemble: {name} has {expected}, "
                f"{other} has {value}; leave one of them out"
            )


def _check_classes(tables: Mapping[str, ClassTable]) -> None:
    (name, table), *others = tables.items()
    expected = set(zip(table.ids, table.names, strict=True))
    for other, found in others:
        entries = set(zip(found.ids, found.names, strict=True))
        for there, missing, only in ((name, other, expected - entries),
                                     (other, name, entries - expected)):  # fmt: skip
            if only:
                named = ", ".join(f"{number} {text!r}" for number, text in sorted(only)[:5])
                raise ContractError(
                    f"classes: must be the same in all models of an ensemble: {named} of {there} "
                    f"is not in {missing}; train them with one class table"
                )


def _check_fixed(fixed_window: int, stride: int, views: Views) -> None:
    if views.scales != (Fraction(1),):
        raise ConfigurationError(
            f"scales: the models take windows of {fixed_window} pixels only: leave scales out"
        )
    if fixed_window % stride:
        raise ContractError(
            f"fixed_window: {fixed_window} is no multiple of {stride}, the stride that the models "
            f"have in common: leave one of them out"
        )


def _shared_gsd_range(contracts: Mapping[str, Contract]) -> tuple[float, float] | None:
    """Ground sample distances in metres that all models were made for; None for any."""
    ranges = {name: c.gsd_range_m for name, c in contracts.items() if c.gsd_range_m is not None}
    if not ranges:
        return None
    low = max(least for least, _ in ranges.values())
    high = min(most for _, most in ranges.values())
    if low > high:
        given = ", ".join(f"{name} {a:g} to {b:g} m" for name, (a, b) in ranges.items())
        raise ContractError(
            f"gsd_range_m: there is none that all models were made for: {given}; leave one out"
        )
    return low, high
