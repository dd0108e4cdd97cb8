//go:build ignore

// Splits new connections to one front address between two listening sockets.
//
// sk_lookup (Linux 5.9) runs once for each new connection, before the kernel
// looks for a listener. Established connections never come here.
//
// The draw is a keyed hash of the connection's addresses and not a random
// number: the ACK that answers a SYN cookie is looked up anew, and only the
// listener that sent the cookie takes it.

#include <sluice.h>

#include <linux/in.h>

SLUICE_OBJECT("5.10");

#define SLOTS 2
#define FULL 10000 /* weights are in ten-thousandths */

struct {
	__uint(type, BPF_MAP_TYPE_SOCKMAP);
	__uint(max_entries, SLOTS);
	__type(key, __u32);
	__type(value, __u64);
} sockets SEC(".maps");

/* weight: share of slot 1, and the key of the hash */
enum { SHARE, SEED, WEIGHTS };

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, WEIGHTS);
	__type(key, __u32);
	__type(value, __u32);
} weight SEC(".maps");

/* A SYN sent again, or the ACK of a SYN cookie, counts again: the kernel does
 * not tell them from a first SYN here. */
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
	if (ctx->family == AF_INET)
		return !front_addr[0] && !front_addr[1] &&
		       front_addr[2] == bpf_htonl(0xffff) &&
		       ctx->local_ip4 == front_addr[3];
	return ctx->local_ip6[0] == front_addr[0] &&
	       ctx->local_ip6[1] == front_addr[1] &&
	       ctx->local_ip6[2] == front_addr[2] &&
	       ctx->local_ip6[3] == front_addr[3];
}

/* mix and finish are those of MurmurHash3_x86_32 (Appleby, public domain). */
static __always_inline __u32 mix(__u32 h, __u32 v)
{
	v *= 0xcc9e2d51;
	v = v << 15 | v >> 17;
	h ^= v * 0x1b873593;
	h = h << 13 | h >> 19;
	return h * 5 + 0xe6546b64;
}

static __always_inline __u32 finish(__u32 h)
{
	h = (h ^ h >> 16) * 0x85ebca6b;
	h = (h ^ h >> 13) * 0xc2b2ae35;
	return h ^ h >> 16;
}

/* draw returns a number below FULL, the same for the same two addresses. Those
 * of the other family are zero. */
static __always_inline __u32 draw(struct bpf_sk_lookup *ctx, __u32 seed)
{
	__u32 h = mix(seed, ctx->remote_port);

	h = mix(h, ctx->remote_ip4);
	h = mix(h, ctx->remote_ip6[0]);
	h = mix(h, ctx->remote_ip6[1]);
	h = mix(h, ctx->remote_ip6[2]);
	h = mix(h, ctx->remote_ip6[3]);
	h = mix(h, ctx->local_ip4);
	h = mix(h, ctx->local_ip6[3]);
	return (__u64)finish(h) * FULL >> 32;
}

/* assign gives the connection to the socket in a slot. It is false if the slot
 * is empty: the kernel empties it when the socket is closed, also by a crash.
 */
static __always_inline int assign(struct bpf_sk_lookup *ctx, __u32 slot,
				  int fallback)
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
	__u32 share_key = SHARE, seed_key = SEED, slot = 0;
	__u32 *share, *seed;

	if (!is_front(ctx))
		return SK_PASS;
	share = bpf_map_lookup_elem(&weight, &share_key);
	seed = bpf_map_lookup_elem(&weight, &seed_key);
	if (share && seed && draw(ctx, *seed) < *share)
		slot = 1;
	if (!assign(ctx, slot, 0))
		assign(ctx, !slot, 1);
	return SK_PASS;
}
