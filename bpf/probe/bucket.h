/* The histogram's bucket of a duration, exactly as package histogram has it. */
#pragma once

#include "buckets.h"

/* The compiler must not find out that the mask could be left out: verifiers
 * before 6.12 lose the bound of an index on the way. */
#define EDGE(i)                                                                \
	edge_ns[({                                                             \
		__u32 _i = (i);                                                \
		keep(_i);                                                      \
		_i & 1023;                                                     \
	})]

static __always_inline __u32 bucket(__u64 ns)
{
	__u32 e = 0, cell, i;
	__u64 v = ns;

	if (ns <= FIRST_EDGE)
		return 0;
	if (ns > LAST_EDGE)
		return BUCKETS - 1;
	if (v >> 32) {
		v >>= 32;
		e += 32;
	}
	if (v >> 16) {
		v >>= 16;
		e += 16;
	}
	if (v >> 8) {
		v >>= 8;
		e += 8;
	}
	if (v >> 4) {
		v >>= 4;
		e += 4;
	}
	if (v >> 2) {
		v >>= 2;
		e += 2;
	}
	if (v >> 1)
		e += 1;
	if (e < 5)
		return 0; /* not reached: FIRST_EDGE is larger */
	cell = e * 32 + ((ns >> (e - 5)) & 31);
	if (cell >= CELLS)
		return BUCKETS - 1;
	i = cell_bucket[cell];
	/* A cell is a 32nd of an octave, and at most 1.42 buckets wide. */
	if (i < EDGES && ns > EDGE(i))
		i++;
	if (i < EDGES && ns > EDGE(i))
		i++;
	if (i < EDGES && ns > EDGE(i))
		i++;
	return i;
}
