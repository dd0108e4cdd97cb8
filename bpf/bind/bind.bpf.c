//go:build ignore

// Lets two versions of a service with the same fixed ports live side by side:
// inside the control group, a TCP socket that asks for a port gets another one.
//
// cgroup/bind4 and bind6: Linux 4.17.

#include <linux/bpf.h>
#include <linux/in.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#ifndef IPPROTO_MPTCP
#define IPPROTO_MPTCP 262
#endif
#define SOCK_STREAM 1

/* requested: socket cookie → the port that the service asked for */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 1024);
	__type(key, __u64);
	__type(value, __u32);
} requested SEC(".maps");

/* moved: port asked for → port given to the first socket that asked, so that
 * sockets that share a port (SO_REUSEPORT) go on sharing one. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1024);
	__type(key, __u32);
	__type(value, __u32);
} moved SEC(".maps");

static __always_inline int move(struct bpf_sock_addr *ctx)
{
	__u32 port = bpf_ntohs((__u16)ctx->user_port);
	__u64 cookie;
	__u32 *shared;

	if (ctx->type != SOCK_STREAM || !port)
		return 1;
	cookie = bpf_get_socket_cookie(ctx);
	bpf_map_update_elem(&requested, &cookie, &port, BPF_ANY);
	shared = bpf_map_lookup_elem(&moved, &port);
	ctx->user_port = shared ? bpf_htons((__u16)*shared) : 0;
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
	__u64 cookie = bpf_get_socket_cookie(sk);
	__u32 *asked = bpf_map_lookup_elem(&requested, &cookie);
	__u32 port;

	if (!asked)
		return 1;
	port = sk->src_port; /* host order */
	bpf_map_update_elem(&moved, asked, &port, BPF_NOEXIST);
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

char LICENSE[] SEC("license") = "GPL";
