"""Pi, from random points in a square: any program that takes arguments and prints a result."""

import json
import random
import sys

seed, points = map(int, sys.argv[1:])
random.seed(seed)
inside = sum(random.random() ** 2 + random.random() ** 2 < 1 for _ in range(points))
print(json.dumps({"pi": 4 * inside / points}))
