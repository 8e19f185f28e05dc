"""Tell how close to pi one comes."""

# EVOLVE-BLOCK-START
TERMS = 1000


def approximate():
    return 4 * sum((-1) ** k / (2 * k + 1) for k in range(TERMS))


# EVOLVE-BLOCK-END
print(approximate())
