"""The cheapest way to pair rows with columns."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def linear_sum_assignment(cost: Any) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Pair rows with columns so that the sum of the costs is least.

    Shortest augmenting paths for rectangular tables (D. F. Crouse, "On implementing 2D rectangular assignment
    algorithms", IEEE Transactions on Aerospace and Electronic Systems 52(4), 2016), in float64. Of equally cheap
    pairings it gives the one of SciPy's function of this name, which takes up columns in the same order.

    Args:
        cost: (n, m), finite or +inf (the pair is forbidden).

    Returns:
        Rows, rising, and their columns: int64 (min(n, m),) each.

    Raises:
        ValueError: a NaN or -inf, or no pairing without forbidden pairs.
    """
    table = np.asarray(cost, dtype=np.float64)
    if np.isnan(table).any() or (table == -np.inf).any():
        raise ValueError("the cost of a match is NaN or -inf; look at the predictions (a diverged training?)")
    if table.shape[0] > table.shape[1]:
        rows = _columns_of_rows(np.ascontiguousarray(table.T))
        order = np.argsort(rows, kind="stable")
        return rows[order], order
    columns = _columns_of_rows(table)
    return np.arange(len(columns)), columns


def _columns_of_rows(cost: NDArray[np.float64]) -> NDArray[np.int64]:
    """The column of each row, for a table with at least as many columns as rows."""
    count, width = cost.shape
    of_row, of_column = np.full(count, -1), np.full(width, -1)
    u, v = np.zeros(count), np.zeros(width)  # dual variables
    for start in range(count):
        path, reach, visited, sink, least = _shortest_path(cost, u, v, of_column, start)
        u[start] += least
        others = of_column[visited[:-1]]  # the rows on the way; the last column is free
        u[others] += least - reach[visited[:-1]]
        v[visited] -= least - reach[visited]
        column = sink
        while True:  # turn the path over: each row on it takes the column before it
            row = path[column]
            of_column[column] = row
            of_row[row], column = column, of_row[row]
            if row == start:
                break
    return of_row


def _shortest_path(
    cost: NDArray[np.float64], u: NDArray[np.float64], v: NDArray[np.float64], of_column: NDArray[np.int64], row: int
) -> tuple[NDArray[np.int64], NDArray[np.float64], list[int], int, float]:
    """The way from a row to a free column: predecessors, distances, columns on the way, the last one, its distance."""
    width = cost.shape[1]
    path, reach = np.full(width, -1), np.full(width, np.inf)
    remaining = np.arange(width)[::-1].copy()
    visited: list[int] = []
    least = 0.0
    while True:
        distance = least + cost[row, remaining] - u[row] - v[remaining]
        nearer = distance < reach[remaining]
        path[remaining[nearer]] = row
        reach[remaining[nearer]] = distance[nearer]
        known = reach[remaining]
        least = float(known.min())
        if least == np.inf:
            raise ValueError("no pairing without forbidden pairs (cost +inf)")
        nearest = (known == least).nonzero()[0]
        free = nearest[of_column[remaining[nearest]] == -1]
        place = free[-1] if len(free) else nearest[0]
        column = int(remaining[place])
        visited.append(column)
        if of_column[column] == -1:
            return path, reach, visited, column, least
        row = of_column[column]
        remaining[place] = remaining[-1]
        remaining = remaining[:-1]
