/* The TCP segment in a packet, and which of its bytes are new. */
#pragma once

/* segment is the payload of one TCP segment. */
struct segment {
	__u32 off; /* of the payload, from the IP header */
	__u32 len;
	__u32 seq;
	__u32 syn; /* it asks for a connection */
	__u32 dice;
};

#define EXTENSIONS 4	   /* headers in front of TCP */
#define EXTENSIONS_LEN 256 /* and their bytes, all together */

/* extensions moves l3 behind the extension headers of IPv6 (RFC 8200, section
 * 4). It is 0 if TCP comes then. */
static __always_inline int extensions(void *data, void *end, __u8 next,
				      __u32 *l3)
{
	__u32 i, off = *l3;

	for (i = 0; i < EXTENSIONS; i++) {
		__u8 *header;

		if (next != IPPROTO_HOPOPTS && next != IPPROTO_ROUTING &&
		    next != IPPROTO_DSTOPTS)
			break;
		keep(off);
		if (off > EXTENSIONS_LEN)
			return -1;
		header = data + off;
		if ((void *)(header + 2) > end)
			return -1;
		next = header[0];
		off += (header[1] + 1) * 8;
	}
	if (next != IPPROTO_TCP || off > EXTENSIONS_LEN)
		return -1;
	*l3 = off;
	return 0;
}

/* parse is 0 for a TCP segment; without payload its len is 0. */
static __always_inline int parse(struct __sk_buff *skb, struct segment *s)
{
	void *data = (void *)(long)skb->data;
	void *end = (void *)(long)skb->data_end;
	struct tcphdr *tcp;
	__u32 l3;

	if (skb->protocol == bpf_htons(ETH_P_IP)) {
		struct iphdr *ip = data;

		if ((void *)(ip + 1) > end || ip->protocol != IPPROTO_TCP)
			return -1;
		l3 = ip->ihl * 4;
		if (l3 < sizeof(*ip) || l3 > 60)
			return -1;
	} else if (skb->protocol == bpf_htons(ETH_P_IPV6)) {
		struct ipv6hdr *ip = data;

		if ((void *)(ip + 1) > end)
			return -1;
		l3 = sizeof(*ip);
		if (ip->nexthdr != IPPROTO_TCP &&
		    extensions(data, end, ip->nexthdr, &l3))
			return -1;
	} else {
		return -1;
	}
	keep(l3);
	if (l3 > EXTENSIONS_LEN)
		return -1;
	tcp = data + l3;
	if ((void *)(tcp + 1) > end)
		return -1;
	s->off = l3 + tcp->doff * 4;
	s->len = skb->len > s->off ? skb->len - s->off : 0;
	s->syn = tcp->syn && !tcp->ack;
	s->seq = bpf_ntohl(tcp->seq);
	s->dice = tcp->seq ^ tcp->ack_seq;
	return 0;
}

/* blur makes the verifier forget what it knows of a number, or it follows each
 * way to get it to the end. any is a number that it knows nothing of. */
#define blur(x, any)                                                           \
	({                                                                     \
		(x) ^= (any);                                                  \
		keep(x);                                                       \
		(x) ^= (any);                                                  \
	})

/* fresh reports whether a segment has bytes that were not seen before, cuts off
 * those that were, and takes note of it. */
static __always_inline int fresh(struct segment *s, __u32 *next, __u8 *seen)
{
	__u32 end = s->seq + s->len, old;

	if (*seen) {
		if ((__s32)(end - *next) <= 0)
			return 0;
		if ((__s32)(*next - s->seq) > 0) {
			old = *next - s->seq;
			s->seq += old;
			s->off += old;
			s->len -= old;
		}
	}
	*next = end;
	*seen = 1;
	blur(s->off, end);
	blur(s->len, end);
	return 1;
}

/* known_method reports whether a segment begins with a method of RFC 9110 or
 * 5789. It is for connections whose beginning was not seen: one of our own to
 * somebody must not be taken for one that we answer. */
static __always_inline int known_method(struct __sk_buff *skb,
					const struct segment *s)
{
	__u32 word = 0;

	if (s->len < 4 || bpf_skb_load_bytes(skb, s->off, &word, 4))
		return 0;
	switch (bpf_ntohl(word)) {
	case 0x47455420: /* "GET " */
	case 0x504f5354: /* "POST" */
	case 0x50555420: /* "PUT " */
	case 0x48454144: /* "HEAD" */
	case 0x44454c45: /* "DELE" */
	case 0x50415443: /* "PATC" */
	case 0x4f505449: /* "OPTI" */
	case 0x434f4e4e: /* "CONN" */
	case 0x54524143: /* "TRAC" */
		return 1;
	}
	return 0;
}

/* answers_here reports whether a socket looks like one that was accepted: its
 * own port is not one that the kernel picks, and the other one is. */
static __always_inline int answers_here(struct bpf_sock *sk)
{
	return sk->src_port < 32768 && bpf_ntohs(sk->dst_port) >= 32768;
}
