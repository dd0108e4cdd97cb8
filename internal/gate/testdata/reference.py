#!/usr/bin/env python3
"""Numbers for reference_test.go, by a program that shares nothing with package gate.

    python3 testdata/reference.py > testdata/reference.json

Everything is summed directly over exact fractions; logarithms have 50 digits.
Where the package is recursive (late starts, dispersion), this is not.
"""
import json
import random
from decimal import Decimal, getcontext
from fractions import Fraction
from math import comb, sqrt

getcontext().prec = 50


def ln(x):
    x = Fraction(x)
    return Decimal(x.numerator).ln() - Decimal(x.denominator).ln()


def log_tilt(nc, nb, k, omega):
    """ln sum_i C(nc,i) C(nb,k-i) omega^i / C(nc+nb,k), omega a Fraction."""
    p, q = omega.numerator, omega.denominator
    total = sum(comb(nc, i) * comb(nb, k - i) * p**i * q ** (k - i) for i in range(max(0, k - nb), min(k, nc) + 1))
    return ln(Fraction(total, comb(nc + nb, k) * q**k))


def log_ratio(t, omega):
    nc, nb, kc, kb = t
    return kc * ln(omega) - log_tilt(nc, nb, kc + kb, omega)


def dispersion(tables):
    """The divisor after these tables, from all windows at once."""
    factor, granted = 1.0, 1.0
    nc, nb, kc, kb = (sum(column) for column in zip(*tables)) if tables else (0, 0, 0, 0)
    if min(kc, nc - kc, kb, nb - kb) > 0:
        variance = lambda a: 1 / (Fraction(1, a) + 1 / (nc - a) + 1 / (kc + kb - a) + 1 / (nb - kc - kb + a))
        granted = max(1.0, float(variance(Fraction(kc)) / variance(Fraction((kc + kb) * nc, nc + nb))))
    for size in (1, 5, 15, 60):
        sums = []
        for w in range(len(tables) // size):
            excess = variance = Fraction(0)
            for nc, nb, kc, kb in tables[w * size:(w + 1) * size]:
                n, k = nc + nb, kc + kb
                excess += kc - Fraction(k * nc, n)
                if 0 < k < n:
                    variance += Fraction(k * nc * nb * (n - k), n * n * (n - 1))
            sums.append((excess, variance))
        pairs = list(zip(sums, sums[1:]))
        explained = sum((a[1] + b[1]) / 2 for a, b in pairs)
        if len(pairs) < 8 or explained < 8:
            continue
        squares = sum((a[0] - b[0]) ** 2 / 2 for a, b in pairs)
        factor = max(factor, float(squares / explained) / granted / (1 + 2 * sqrt(3 / len(pairs))))
    return factor


def late_starts(logs):
    """ln of the mean over all starts: 0.8 at once, 1/300 of the rest per block."""
    reserve, weights = 1 - 0.8, []
    for _ in logs:
        weights.append(reserve / 300)
        reserve -= reserve / 300
    total = Decimal(reserve)
    for start, weight in enumerate(weights):
        total += Decimal(weight + (0.8 if start == 0 else 0)) * sum(logs[start:]).exp()
    return total.ln()


def main():
    rng = random.Random(20240229)
    tilts = []
    shapes = [(1, 1), (1, 90), (10, 90), (100, 900), (1000, 1000), (2000, 37), (3, 5000)]
    for nc, nb in shapes:
        for k in sorted({1, (nc + nb) // 200 + 1, (nc + nb) // 2, nc + nb - 1}):
            for num, den in ((13, 10), (2, 1), (4, 1), (14, 1), (1, 2)):
                log_s = log_tilt(nc, nb, k, Fraction(num, den))
                tilts.append({"nc": nc, "nb": nb, "k": k, "omega": num / den, "log_s": float(log_s)})

    tables, level = [], 0.0
    for _ in range(150):
        level = 0.8 * level + rng.gauss(0, 0.1)
        share = min(max(0.4 + level, 0.01), 0.99)
        nc, nb = rng.randint(5, 40), rng.randint(60, 120)
        kc = sum(rng.random() < share for _ in range(nc))
        kb = sum(rng.random() < 0.35 for _ in range(nb))
        tables.append((nc, nb, kc, kb))
    divisors = [dispersion(tables[:t]) for t in range(len(tables))]
    run = {"tables": tables, "divisors": divisors, "fail": []}
    for omega in (Fraction(13, 10), Fraction(2), Fraction(4)):
        logs = [log_ratio(t, omega) / Decimal(d) for t, d in zip(tables, divisors)]
        run["fail"].append(float(late_starts(logs)))
    held, limit = Decimal(0), 3 * ln(20)
    for t, d in zip(tables, divisors):
        held = min(held - log_ratio(t, Fraction(2)) / Decimal(d), limit)
    run["pass"] = float(held)
    print(json.dumps({"tilts": tilts, "run": run}, indent=1))


main()
