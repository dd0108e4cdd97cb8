/* The histogram's bucket of a duration, exactly as package histogram has it.
 * There is one way through it: the verifier goes along each, and a processor
 * guesses wrong which one is taken. */
#pragma once

#include "buckets.h"

/* ones is how many bits are set (Hacker's Delight, section 5-1). */
static __always_inline __u32 ones(__u32 w)
{
	w -= w >> 1 & 0x55555555;
	w = (w & 0x33333333) + (w >> 2 & 0x33333333);
	w = (w + (w >> 4)) & 0x0f0f0f0f;
	return w * 0x01010101 >> 24;
}

/* octave is the number of the leading bit of w, which is not 0. */
static __always_inline __u32 octave(__u32 w)
{
	w |= w >> 1;
	w |= w >> 2;
	w |= w >> 4;
	w |= w >> 8;
	w |= w >> 16;
	return ones(w) - 1;
}

/* above is how far a is above b, 0 if it is not. They are less than 2^63 apart.
 */
static __always_inline __u64 above(__u64 a, __u64 b)
{
	__s64 sign = (__s64)(a - b) >> 63;

	keep(sign); /* or the compiler makes it a branch */
	return (a - b) & ~sign;
}

static __always_inline __u32 bucket(__u64 ns)
{
	__u32 o, cell;
	__u64 c;

	ns = FIRST_EDGE + above(ns, FIRST_EDGE);
	ns -= above(ns, LAST_EDGE + 1);
	o = octave(ns >> LOWEST);
	cell = o << CELL_BITS |
	       (ns >> (o + LOWEST - CELL_BITS) & ((1 << CELL_BITS) - 1));
	keep(cell);
	c = cells[cell & (sizeof(cells) / sizeof(*cells) - 1)];
	/* One more behind the edge: the difference is negative then. */
	return (c >> EDGE_BITS) +
	       (((c & ((1ULL << EDGE_BITS) - 1)) - ns) >> 63);
}
