/* What every object of Sluice says of itself, beside its licence: the compiler
 * that made it and the oldest kernel it is meant for. bpf.ReadSpec reads both;
 * the kernel reads neither. */
#pragma once

#include <linux/bpf.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#define SLUICE_OBJECT(oldest_kernel)                                           \
	const char object_license[] SEC("license") = "GPL";                    \
	const char object_toolchain[] SEC("toolchain") = __clang_version__;    \
	const char object_min_kernel[] SEC("min_kernel") = oldest_kernel

/* linux/socket.h keeps these from user space. */
#define AF_INET 2
#define SOCK_STREAM 1

/* keep makes the compiler forget what it knows of a variable, so that it does
 * not optimise away a bound that the verifier needs to see. */
#define keep(x) asm volatile("" : "+r"(x))

/* within makes a size that is 1 to mask + 1 one that every verifier knows to be
 * so; some forget a lower bound, and no size may be 0. */
#define within(n, mask)                                                        \
	({                                                                     \
		__u32 _n = (n) - 1;                                            \
		keep(_n);                                                      \
		_n &= (mask);                                                  \
		keep(_n);                                                      \
		_n + 1;                                                        \
	})

/* one_call keeps a loop a loop. Unrolled, it calls from many places, and some
 * verifiers follow every chain of calls on its own: three loops of 20 in each
 * other took 40 ms. */
#define one_call _Pragma("clang loop unroll(disable)")
