# EVOLVE-BLOCK-START
def sort(values):
    for i in range(len(values)):
        for j in range(len(values) - 1 - i):
            if values[j] > values[j + 1]:
                values[j], values[j + 1] = values[j + 1], values[j]
    return values


# EVOLVE-BLOCK-END
