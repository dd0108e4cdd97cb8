//go:build ignore

// Shows the bucket function to the tests: a packet of eight bytes of duration
// in nanoseconds, padded to the size of a header, returns its bucket.

#include <sluice.h>

#include "bucket.h"

SLUICE_OBJECT("5.10");

SEC("xdp")
int bucket_test(struct xdp_md *ctx)
{
	void *data = (void *)(long)ctx->data;
	void *end = (void *)(long)ctx->data_end;

	if (data + sizeof(__u64) > end)
		return -1;
	return bucket(*(__u64 *)data);
}
