# EVOLVE-BLOCK-START
"""Function minimization example"""

import numpy as np


def search_algorithm(iterations=1000, bounds=(-5, 5)):
    """A simple random search."""
    best_x, best_y = np.random.uniform(*bounds), np.random.uniform(*bounds)
    best_value = evaluate_function(best_x, best_y)
    for _ in range(iterations):
        x, y = np.random.uniform(*bounds), np.random.uniform(*bounds)
        value = evaluate_function(x, y)
        if value < best_value:
            best_value, best_x, best_y = value, x, y
    return best_x, best_y, best_value


# EVOLVE-BLOCK-END


def evaluate_function(x, y):
    """The complex function to minimize"""
    return np.sin(x) * np.cos(y) + np.sin(x * y) + (x**2 + y**2) / 20


def run_search():
    return search_algorithm()


if __name__ == "__main__":
    print(f"Found minimum at {run_search()}")
