"""From fastText's hidden vectors to labels and probabilities: hierarchical softmax, softmax and independent logistic.

The arithmetic is that of `loss.cc` of fastText 0.9.2, operation by operation and in its precision (single, with double
inside `std_log` and the sigmoid), so that labels and scores are equal to the bit where the C library's `expf` and
`log` are the same. Scores are `exp(log(p + 1e-5))`, for hierarchical softmax a product of such factors: up to about
1e-5 a factor too high, and so sometimes above 1.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

LOG_OFFSET = 1e-5

LOWEST_LOG = np.float32(math.log(LOG_OFFSET))
"""The library gives no prediction below this logarithm, even when asked for a threshold of 0."""

SIGMOID_STEPS = 512
SIGMOID_RANGE = 8
"""The library's independent logistic loss reads its sigmoid from a table of 512 steps from -8 to 8."""


@njit(nogil=True, cache=True)
def safe_log(probability):
    """Return `log(p + 1e-5)` of a single-precision probability, in single precision."""
    return np.float32(math.log(np.float64(probability) + LOG_OFFSET))


@njit(nogil=True, cache=True)
def activation(hidden, at, weights, columns, scales, row):
    """Return the dot product of the hidden vector at `at` with one output row, summed in order."""
    total = np.float32(0)
    for column in range(columns):
        total += weights[row * columns + column] * hidden[at + column]
    return np.float32(total * scales[row])


@njit(nogil=True, cache=True)
def branch_logs(value):
    """Return the logarithms of the probabilities of the left and of the right branch of a node."""
    right = np.float32(1.0 / np.float64(np.float32(np.float32(1) + np.exp(-value))))
    left = np.float32(1.0 - np.float64(right))
    return safe_log(left), safe_log(right)


@njit(nogil=True, cache=True)
def best_leaf(hidden, at, weights, columns, scales, left, right, nodes, logs):
    """Return `(leaf, log probability)` of the most probable leaf, -1 when none is probable enough.

    Depth first, left before right, skipping what cannot win; of equally probable leaves the last one wins.
    """
    labels = (len(left) + 1) // 2
    best = np.int64(-1)
    best_log = LOWEST_LOG
    nodes[0] = len(left) - 1
    logs[0] = np.float32(0)
    depth = 1
    while depth > 0:
        depth -= 1
        node = nodes[depth]
        log = logs[depth]
        if log < best_log:
            continue
        if left[node] < 0:
            best = np.int64(node)
            best_log = log
            continue
        left_log, right_log = branch_logs(activation(hidden, at, weights, columns, scales, node - labels))
        nodes[depth] = right[node]
        logs[depth] = np.float32(log + right_log)
        nodes[depth + 1] = left[node]
        logs[depth + 1] = np.float32(log + left_log)
        depth += 2
    return best, best_log


@njit(nogil=True, cache=True)
def hierarchical_output(
    hidden, counts, weights, columns, scales, left, right, path, turns, target, labels, scores, target_scores
):
    """Fill in the best label, its score and the target's score of each hidden vector, by hierarchical softmax.

    `hidden`: float32, flat, one row a text of which the first `columns` count; `counts`: 0 where there is no vector.
    `left`, `right`: children of each node of the tree, -1 for leaves. `path`, `turns`: output rows from the root to
    the target and whether to turn right there; `target` -1: no target. Missing values: label -1, score NaN.
    """
    padded = len(hidden) // max(len(counts), 1)
    nodes = np.empty(len(left) + 2, np.int32)
    logs = np.empty(len(left) + 2, np.float32)
    for document in range(len(counts)):
        labels[document] = -1
        scores[document] = np.nan
        target_scores[document] = np.nan
        if counts[document] == 0:
            continue
        at = document * padded
        best, best_log = best_leaf(hidden, at, weights, columns, scales, left, right, nodes, logs)
        if best >= 0:
            labels[document] = best
            scores[document] = np.exp(best_log)
        if target >= 0:
            log = np.float32(0)
            for step in range(len(path)):
                left_log, right_log = branch_logs(activation(hidden, at, weights, columns, scales, path[step]))
                log = np.float32(log + (right_log if turns[step] else left_log))
            target_scores[document] = np.exp(log)


@njit(nogil=True, cache=True)
def all_activations(hidden, at, weights, columns, scales, output):
    """Fill `output` with the activations of all rows, two at a time: each sum must wait for its own additions."""
    for first in range(0, len(output), 2):
        second = min(first + 1, len(output) - 1)
        one = np.float32(0)
        other = np.float32(0)
        for column in range(columns):
            one += weights[first * columns + column] * hidden[at + column]
            other += weights[second * columns + column] * hidden[at + column]
        output[first] = one * scales[first]
        output[second] = other * scales[second]


@njit(nogil=True, cache=True)
def sigmoid_steps():
    """Return the library's table of the sigmoid, float32."""
    table = np.empty(SIGMOID_STEPS + 1, np.float32)
    for step in range(SIGMOID_STEPS + 1):
        x = np.float32(np.float32(step * 2 * SIGMOID_RANGE) / np.float32(SIGMOID_STEPS) - np.float32(SIGMOID_RANGE))
        table[step] = np.float32(1.0 / (1.0 + np.float64(np.exp(-x))))
    return table


@njit(nogil=True, cache=True)
def flat_output(hidden, counts, weights, columns, scales, softmax, target, labels, scores, target_scores):
    """Fill in the best label, its score and the target's score of each hidden vector, from one output row a label.

    `softmax` true: probabilities that add up to 1; false: each label for itself (losses `ova` and `ns`). The other
    arguments are those of `hierarchical_output`.
    """
    padded = len(hidden) // max(len(counts), 1)
    output = np.empty(len(scales), np.float32)
    sigmoid = sigmoid_steps()
    for document in range(len(counts)):
        labels[document] = -1
        scores[document] = np.nan
        target_scores[document] = np.nan
        if counts[document] == 0:
            continue
        all_activations(hidden, document * padded, weights, columns, scales, output)
        if softmax:
            highest = output.max()
            total = np.float32(0)
            for label in range(len(output)):
                output[label] = np.float32(math.exp(np.float64(np.float32(output[label] - highest))))
                total += output[label]
            for label in range(len(output)):
                output[label] = np.float32(output[label] / total)
        else:
            for label in range(len(output)):
                x = output[label]
                if x < -SIGMOID_RANGE:
                    output[label] = np.float32(0)
                elif x > SIGMOID_RANGE:
                    output[label] = np.float32(1)
                else:
                    step = np.float32(np.float32(x + np.float32(SIGMOID_RANGE)) * np.float32(SIGMOID_STEPS))
                    output[label] = sigmoid[np.int64(np.float32(step / np.float32(SIGMOID_RANGE)) / np.float32(2))]
        best_log = np.float32(-np.inf)
        for label in range(len(output)):
            log = safe_log(output[label])
            if log >= best_log:  # of equally probable labels the library returns the last
                labels[document] = label
                best_log = log
        scores[document] = np.exp(best_log)
        if target >= 0:
            target_scores[document] = np.exp(safe_log(output[target]))
