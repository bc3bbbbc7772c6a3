"""No bytes of a stranger cost a worker much time; how the costs grow: `tests.tools.growth`."""

from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path

import pytest

from tests.tools.growth import Meter, Route, Shape, all_routes, metering, signed_shapes, strangers

GROUP = 32  # requests that are sent side by side
# Of CPU time, for a group; 0.13 and 0.57 are seen, and one request to a cubic regex took 15 s.
STRANGERS_S, SIGNED_S = 1.0, 4.0


@pytest.fixture(scope="module")
def meter(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Meter]:
    with metering(tmp_path_factory.mktemp("server")) as meter:
        yield meter


def too_dear(meter: Meter, route: Route, shapes: Sequence[Shape], limit_s: float) -> list[str]:
    """Return the groups that cost more than `limit_s`."""
    groups = [shapes[at : at + GROUP] for at in range(0, len(shapes), GROUP)]
    costs = (meter.cost(route, *((one.wire(route, one.size), one) for one in g)) for g in groups)
    return [
        f"{cost / 1e9:.2f} s at {route}: {[shape.name for shape in group]}"
        for group, cost in zip(groups, costs, strict=True)
        if cost / 1e9 > limit_s
    ]


def test_no_request_of_a_stranger_costs_much(meter: Meter, tmp_path: Path) -> None:
    shapes = list(strangers())

    found = [too_dear(meter, one, shapes, STRANGERS_S) for one in all_routes(tmp_path)]

    assert len(shapes) > 200
    assert list(chain(*found)) == []


def test_no_signed_body_costs_much(meter: Meter) -> None:
    by_route: dict[Route, list[Shape]] = {}
    for route, shape in signed_shapes():
        by_route.setdefault(route, []).append(shape)

    found = [too_dear(meter, route, shapes, SIGNED_S) for route, shapes in by_route.items()]

    assert list(chain(*found)) == []
