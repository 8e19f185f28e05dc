"""Constructor-based packing of 26 circles in the unit square."""

# EVOLVE-BLOCK-START
import numpy as np


def construct_packing():
    """Place 26 circles on rings; returns centers (26, 2), radii (26,) and their sum."""
    centers = np.zeros((26, 2))
    centers[0] = [0.5, 0.5]
    for i in range(8):
        angle = 2 * np.pi * i / 8
        centers[i + 1] = [0.5 + 0.3 * np.cos(angle), 0.5 + 0.3 * np.sin(angle)]
    for i in range(16):
        angle = 2 * np.pi * i / 16
        centers[i + 9] = [0.5 + 0.7 * np.cos(angle), 0.5 + 0.7 * np.sin(angle)]
    centers = np.clip(centers, 0.01, 0.99)
    radii = compute_max_radii(centers)
    return centers, radii, np.sum(radii)


def compute_max_radii(centers):
    radii = np.minimum(centers, 1 - centers).min(axis=1)
    for i in range(len(radii)):
        for j in range(i + 1, len(radii)):
            apart = np.linalg.norm(centers[i] - centers[j])
            if radii[i] + radii[j] > apart:
                scale = apart / (radii[i] + radii[j])
                radii[i] *= scale
                radii[j] *= scale
    return radii


# EVOLVE-BLOCK-END


def run_packing():
    """Fixed entry point."""
    return construct_packing()


def visualize(centers, radii):
    import matplotlib.pyplot as plt

    plt.scatter(centers[:, 0], centers[:, 1], s=radii)
    plt.show()


if __name__ == "__main__":
    visualize(*run_packing()[:2])
