/* Finds the status lines of answers. What is not static is checked by the
 * verifier once, and not on every path that leads to it. */
#pragma once

#define STATUS_LINE 12 /* bytes of it that are looked at */

/* status returns the status code of "HTTP/1.x NNN", 0 for anything else. */
static __always_inline __u32 status(__u64 version, __u32 code)
{
	__u8 a = (code >> 8) - '0', b = (code >> 16) - '0',
	     c = (code >> 24) - '0';

	if ((version & 0x00ffffffffffffffULL) != 0x2e312f50545448ULL ||
	    (__u8)code != ' ' || a < 1 || a > 9 || b > 9 || c > 9)
		return 0;
	return a * 100 + b * 10 + c;
}

/* status_at reads it from a packet. */
__noinline __u32 status_at(struct __sk_buff *skb, __u32 off)
{
	struct {
		__u64 version;
		__u32 code;
		__u32 unused;
	} line;

	if (bpf_skb_load_bytes(skb, off, &line, STATUS_LINE))
		return 0;
	return status(line.version, line.code);
}

#define LOOKS 90 /* at most in one segment, squared, of 8 bytes */
#define FOUND (1U << 31)

/* look looks for a status line that begins in the eight bytes at off. It
 * returns its place | FOUND, or where to go on, or 0 at the end. */
__noinline __u32 look(struct __sk_buff *skb, __u32 off)
{
	__u64 w, mark;

	if (bpf_skb_load_bytes(skb, off, &w, sizeof(w)))
		return 0; /* no room for a status line */
	mark = zero_byte(w ^ 0x4848484848484848ULL); /* H */
	if (!mark)
		return off + sizeof(w);
	off += first_byte(mark);
	return status_at(skb, off) ? off | FOUND : off + 1;
}

/* look_on looks some times. */
__noinline __u32 look_on(struct __sk_buff *skb, __u32 off)
{
	__u32 i;

	one_call for (i = 0; i < LOOKS; i++)
	{
		off = look(skb, off);
		if (!off || off & FOUND)
			break;
	}
	return off;
}

/* next_status returns where in the packet the next status line is, from off on;
 * 0 if none. Only answers that share a segment need it: those to pipelined
 * requests, and those behind a 1xx. */
__noinline __u32 next_status(struct __sk_buff *skb, __u32 off)
{
	__u32 i;

	one_call for (i = 0; i < LOOKS; i++)
	{
		off = look_on(skb, off);
		if (!off || off & FOUND)
			break;
	}
	return off & FOUND ? off & ~FOUND : 0;
}
