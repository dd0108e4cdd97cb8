//go:build ignore

// Writes exemplars as fast as the tests ask for, one for each packet: into the
// ring that the probe has, in the probe's way and in one that wakes a reader.

#include <sluice.h>

#include "record.h"

SLUICE_OBJECT("5.10");

SEC("tc")
int noted(struct __sk_buff *ctx)
{
	struct outcome o = { .now = bpf_ktime_get_ns(), .status = 503 };

	(void)ctx;
	tell(1, &o, 0);
	return 0;
}

SEC("tc")
int woken(struct __sk_buff *ctx)
{
	struct exemplar *e;

	(void)ctx;
	e = bpf_ringbuf_reserve(&exemplars, sizeof(*e), 0);
	if (!e) {
		add_total(UNTOLD, 1);
		return 0;
	}
	__builtin_memset(e, 0, sizeof(*e));
	e->at_ns = bpf_ktime_get_ns();
	e->ticket = 1;
	bpf_ringbuf_submit(e, 0);
	return 0;
}
