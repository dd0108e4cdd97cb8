//go:build ignore

// Splits new connections to one front address between two listening sockets.
//
// sk_lookup (Linux 5.9) runs once for each new connection, before the kernel
// looks for a listener. Established connections never come here.

#include <linux/bpf.h>
#include <linux/in.h>
#include <linux/in6.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#define SLOTS 2
#define FULL 10000 /* weights are in ten-thousandths */

struct {
	__uint(type, BPF_MAP_TYPE_SOCKMAP);
	__uint(max_entries, SLOTS);
	__type(key, __u32);
	__type(value, __u64);
} sockets SEC(".maps");

/* weight: share of slot 1 */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
} weight SEC(".maps");

struct count {
	__u64 assigned; /* connections given to the slot */
	__u64 fallback; /* of these, because the drawn slot was empty */
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, SLOTS);
	__type(key, __u32);
	__type(value, struct count);
} counts SEC(".maps");

/* The front: port in host order, address in network order. An address of
 * zeroes is every address. IPv4 is ::ffff:a.b.c.d. */
volatile const __u32 front_port = 0;
volatile const __u32 front_addr[4] = {};

static __always_inline int is_any(void)
{
	return !front_addr[0] && !front_addr[1] && !front_addr[3] &&
	       (!front_addr[2] || front_addr[2] == bpf_htonl(0xffff));
}

static __always_inline int is_front(struct bpf_sk_lookup *ctx)
{
	if (ctx->protocol != IPPROTO_TCP || ctx->local_port != front_port)
		return 0;
	if (is_any())
		return 1;
	if (ctx->family == 2 /* AF_INET */)
		return !front_addr[0] && !front_addr[1] && front_addr[2] == bpf_htonl(0xffff) &&
		       ctx->local_ip4 == front_addr[3];
	return ctx->local_ip6[0] == front_addr[0] && ctx->local_ip6[1] == front_addr[1] &&
	       ctx->local_ip6[2] == front_addr[2] && ctx->local_ip6[3] == front_addr[3];
}

/* assign gives the connection to the socket in a slot. It is false if the slot
 * is empty: the kernel empties it when the socket is closed, also by a crash. */
static __always_inline int assign(struct bpf_sk_lookup *ctx, __u32 slot, int fallback)
{
	struct bpf_sock *sk = bpf_map_lookup_elem(&sockets, &slot);
	struct count *n;
	long err;

	if (!sk)
		return 0;
	err = bpf_sk_assign(ctx, sk, 0);
	bpf_sk_release(sk);
	if (err)
		return 0;
	n = bpf_map_lookup_elem(&counts, &slot);
	if (n) {
		n->assigned++;
		n->fallback += fallback;
	}
	return 1;
}

SEC("sk_lookup")
int split(struct bpf_sk_lookup *ctx)
{
	__u32 zero = 0, slot = 0;
	__u32 *share;

	if (!is_front(ctx))
		return SK_PASS;
	share = bpf_map_lookup_elem(&weight, &zero);
	if (share && bpf_get_prandom_u32() % FULL < *share)
		slot = 1;
	if (!assign(ctx, slot, 0))
		assign(ctx, !slot, 1);
	return SK_PASS;
}

char LICENSE[] SEC("license") = "GPL";
