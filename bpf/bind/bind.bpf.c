//go:build ignore

// Lets two versions of a service with the same fixed ports live side by side:
// inside the control group, a TCP socket that asks for a port gets another one.
//
// cgroup/bind4 and bind6: Linux 4.17; sock_release: 5.9.

#include <sluice.h>

#include <linux/in.h>

SLUICE_OBJECT("5.10");

#ifndef IPPROTO_MPTCP
#define IPPROTO_MPTCP 262
#endif

/* requested: socket cookie → the port that the service asked for */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 1024);
	__type(key, __u64);
	__type(value, __u32);
} requested SEC(".maps");

struct given {
	__u64 cookie; /* of the first socket that asked */
	__u32 port;
	__u32 unused;
};

/* moved: port asked for → port given to the first socket that asked, while it
 * lives. Who asks after it gets the same one, so that sockets that share a port
 * (SO_REUSEPORT, or one each for IPv4 and IPv6) go on sharing one, and those
 * that must not are refused as ever. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1024);
	__type(key, __u32);
	__type(value, struct given);
} moved SEC(".maps");

static __always_inline int move(struct bpf_sock_addr *ctx)
{
	__u32 port = bpf_ntohs((__u16)ctx->user_port);
	__u64 cookie;
	struct given *shared;

	if (ctx->type != SOCK_STREAM || ctx->protocol != IPPROTO_TCP || !port)
		return 1;
	cookie = bpf_get_socket_cookie(ctx);
	bpf_map_update_elem(&requested, &cookie, &port, BPF_ANY);
	shared = bpf_map_lookup_elem(&moved, &port);
	ctx->user_port = shared ? bpf_htons((__u16)shared->port) : 0;
	return 1;
}

SEC("cgroup/bind4")
int bind4(struct bpf_sock_addr *ctx)
{
	return move(ctx);
}

SEC("cgroup/bind6")
int bind6(struct bpf_sock_addr *ctx)
{
	return move(ctx);
}

/* remember notes which port the first socket got. */
static __always_inline int remember(struct bpf_sock *sk)
{
	struct given g = { .cookie = bpf_get_socket_cookie(sk) };
	__u32 *asked = bpf_map_lookup_elem(&requested, &g.cookie);

	if (!asked)
		return 1;
	g.port = sk->src_port; /* host order */
	bpf_map_update_elem(&moved, asked, &g, BPF_NOEXIST);
	return 1;
}

/* A version that listens with MPTCP cannot be put into a sockmap. Refused here,
 * Go (and any program that can do without) falls back to plain TCP. */
SEC("cgroup/sock_create")
int no_mptcp(struct bpf_sock *sk)
{
	return sk->protocol != IPPROTO_MPTCP;
}

SEC("cgroup/post_bind4")
int post_bind4(struct bpf_sock *sk)
{
	return remember(sk);
}

SEC("cgroup/post_bind6")
int post_bind6(struct bpf_sock *sk)
{
	return remember(sk);
}

/* The port that a closed socket had may be anybody's next. */
SEC("cgroup/sock_release")
int forget(struct bpf_sock *sk)
{
	__u64 cookie = bpf_get_socket_cookie(sk);
	__u32 *asked = bpf_map_lookup_elem(&requested, &cookie);
	struct given *g;

	if (!asked)
		return 1;
	g = bpf_map_lookup_elem(&moved, asked);
	if (g && g->cookie == cookie)
		bpf_map_delete_elem(&moved, asked);
	bpf_map_delete_elem(&requested, &cookie);
	return 1;
}
