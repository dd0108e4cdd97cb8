/* Reads header blocks of HTTP/2 (HPACK, RFC 7541) as far as counting needs it:
 * which status an answer has, which status a gRPC call ended with, which trace
 * a request belongs to.
 *
 * Of the dynamic table only what matters of each field is kept. An encoder
 * refers to a field by how many were added since, so additions are counted;
 * evictions need not be known, since nobody refers to what was evicted. Fields
 * that a segment or frame cut are put together in window. */
#pragma once

#include "record.h"

#define KNOWN                                                                  \
	128	 /* fields remembered of a dynamic table: 4096 bytes hold 97   \
		    statuses, the shortest that matter */
#define LOAD 128 /* bytes read at once */
#define CARRY 96 /* of a field that was cut */
#define INTERESTING 64 /* no value that matters is longer */
#define DYNAMIC 62     /* the first index of the dynamic table */

/* Names that matter. */
enum name {
	OTHER,
	STATUS,
	GRPC_STATUS,
	TRACEPARENT,
};

/* known is a field of the dynamic table. */
struct known {
	__u16 value;
	__u8 name;
	__u8 round; /* how often its place was given away before */
};

/* fields is what is known of the header blocks of one direction. */
struct fields {
	__u32 added;  /* to the dynamic table */
	__u32 skip;   /* bytes to pass over, the rest of a field */
	__u32 have;   /* valid bytes in window */
	__u32 at;     /* where in the window the reading is */
	__u32 number; /* read last */
	__u8 kept;    /* bytes of window that are from the segment before */
	__u8 astray;  /* the dynamic table is not known any more */
	__u8 value;   /* a long name was passed over, its value comes */
	__u8 name;    /* of the field that is read, */
	__u8 adding;  /* which is added to the dynamic table */
	/* what the block said so far */
	__u8 grpc; /* NO_GRPC: nothing */
	__u8 unused;
	__u16 status;
	__u16 last_at; /* when last was added */
	struct trace trace;
	struct trace last;	   /* in the dynamic table */
	struct known known[KNOWN]; /* the n-th that was added at n % KNOWN */
	__u8 window[256 + 8];
};

/* The compiler must not find out that a mask could be left out. */
#define INSIDE(i)                                                              \
	({                                                                     \
		__u32 _i = (i);                                                \
		keep(_i);                                                      \
		_i & 255;                                                      \
	})
#define BYTE(f, i) ((f)->window[INSIDE(i)])
#define WORD(f, i) (*(__u64 *)&(f)->window[INSIDE(i)])

/* varint reads an integer with a prefix of some bits (RFC 7541, 5.1), whose
 * mask is in f->number, to there. */
static __always_inline void varint(struct fields *f)
{
	__u32 at = forget(f->at), mask = forget(f->number);
	__u32 n = BYTE(f, at) & mask, shift, k;
	__u8 b;

	at++;
	if (n == mask) {
		for (k = 0, shift = 0; k < 4; k++, shift += 7) {
			b = BYTE(f, at);
			at++;
			n += (__u32)(b & 0x7f) << shift;
			if (!(b & 0x80))
				break;
		}
	}
	forget(f->at) = at;
	forget(f->number) = n;
}

/* digits reads a number of at most three digits, in Huffman's code or not. */
static __always_inline void digits(struct fields *f, __u32 at, __u32 len,
				   int huffman)
{
	__u32 n = 0, bits, k, code;

	if (!huffman) {
		for (k = 0; k < 3; k++) {
			code = BYTE(f, at + k) - '0';
			if (k >= len || code > 9)
				break;
			n = n * 10 + code;
		}
		forget(f->number) = n;
		return;
	}
	bits = (__u32)BYTE(f, at) << 16;
	bits |= len > 1 ? (__u32)BYTE(f, at + 1) << 8 : 0xff00;
	bits |= len > 2 ? BYTE(f, at + 2) : 0xff;
	for (k = 0; k < 3; k++) {
		code = (bits >> 19) & 31; /* 0, 1, 2 have five bits */
		if (code <= 2) {
			n = n * 10 + code;
			bits = (bits << 5) | 31;
		} else {
			code = (bits >> 18) & 63; /* 3 … 9 have six */
			if (code < 25 || code > 31)
				break;
			n = n * 10 + code - 22;
			bits = (bits << 6) | 63;
		}
		bits &= 0xffffff;
	}
	forget(f->number) = n;
}

/* name_at tells names as HPACK writes them: by Huffman's code both long ones
 * have 8 bytes. */
static __always_inline void name_at(struct fields *f, __u32 at, __u32 len,
				    int huffman)
{
	__u64 w = WORD(f, at);
	__u32 rest = (__u32)WORD(f, at + 8) & 0xffffff;

	f->name = OTHER;
	if (huffman && len == 8) {
		if (w == 0x8fda3412b2c8ca9aULL)
			f->name = GRPC_STATUS;
		else if (w == 0x3fa9851d6b21834dULL)
			f->name = TRACEPARENT;
	} else if (huffman && len == 5) {
		if ((w & 0xffffffffffULL) == 0xa3368d84b8ULL)
			f->name = STATUS;
	} else if (!huffman && len == 7) {
		if ((w & 0xffffffffffffffULL) == 0x7375746174733aULL)
			f->name = STATUS;
	} else if (!huffman && len == 11) {
		if (w == 0x6174732d63707267ULL && rest == 0x737574)
			f->name = GRPC_STATUS;
		else if (w == 0x7261706563617274ULL && rest == 0x746e65)
			f->name = TRACEPARENT;
	}
}

/* remembered is the field that an index of the dynamic table means, 0 if that
 * is not known. */
static __always_inline struct known *remembered(struct fields *f, __u32 index)
{
	__u32 n = f->added - (index - DYNAMIC);
	struct known *k = &f->known[n & (KNOWN - 1)];

	if (!f->astray && n && k->round == (__u8)(n / KNOWN))
		return k;
	if (!f->astray)
		add_total(DESYNCED, 1);
	f->astray = 1;
	return 0;
}

static __always_inline void note(struct fields *f, __u32 name, __u32 value)
{
	if (name == STATUS && !f->status)
		f->status = value;
	else if (name == GRPC_STATUS)
		f->grpc = value;
}

/* indexed takes note of a field that stands in a table as a whole. Of the
 * static table 8 to 14 are statuses. */
static __always_inline void indexed(struct fields *f, __u32 index)
{
	const __u64 codes = 200ULL | 204ULL << 9 | 206ULL << 18 | 304ULL << 27 |
			    400ULL << 36 | 404ULL << 45 | 500ULL << 54;
	struct known *k;

	if (index >= 8 && index <= 14) {
		note(f, STATUS, codes >> (index - 8) * 9 & 511);
	} else if (index >= DYNAMIC) {
		k = remembered(f, index);
		if (!k)
			return;
		note(f, k->name, k->value);
		if (k->name == TRACEPARENT && k->value == f->last_at)
			f->trace = f->last;
	}
}

/* add_field adds the field that was read to the dynamic table. */
static __always_inline void add_field(struct fields *f)
{
	__u32 n = ++f->added;
	struct known *k = &f->known[n & (KNOWN - 1)];

	k->name = f->name;
	k->value = f->number;
	k->round = n / KNOWN;
	if (f->name == TRACEPARENT) {
		k->value = f->last_at = n;
		f->last = f->trace;
	}
}

/* keep_trace keeps the trace id of a value "00-<32 digits>-…". */
static __always_inline void keep_trace(struct fields *f, __u32 at, int huffman)
{
	if (huffman) { /* "00-" has 16 bits */
		if ((WORD(f, at) & 0xffff) != 0x1600)
			return;
		*(__u64 *)&f->trace.id[0] = WORD(f, at + 2);
		*(__u64 *)&f->trace.id[8] = WORD(f, at + 10);
		*(__u64 *)&f->trace.id[16] = WORD(f, at + 18);
		f->trace.form = HUFFMAN;
		return;
	}
	if ((WORD(f, at) & 0xffffff) != 0x2d3030)
		return;
	*(__u32 *)&f->trace.id[0] = hex4(WORD(f, at + 3));
	*(__u32 *)&f->trace.id[4] = hex4(WORD(f, at + 11));
	*(__u32 *)&f->trace.id[8] = hex4(WORD(f, at + 19));
	*(__u32 *)&f->trace.id[12] = hex4(WORD(f, at + 27));
	f->trace.form = BINARY;
}

/* read_value reads a literal value of the field f->name. It is 0 if the window
 * ends before. */
static __always_inline int read_value(struct fields *f)
{
	__u32 at = forget(f->at), len;
	int huffman = BYTE(f, at) & 0x80;

	if (at >= f->have)
		return 0;
	f->number = 0x7f;
	varint(f);
	at = forget(f->at);
	len = forget(f->number);
	if (at > f->have)
		return 0;
	if (f->name != OTHER && len <= INTERESTING) {
		if (at + len > f->have)
			return 0;
		if (f->name == TRACEPARENT)
			keep_trace(f, at, huffman);
		else
			digits(f, at, len, huffman);
		note(f, f->name, forget(f->number));
	}
	if (f->adding)
		add_field(f);
	f->at = at + len;
	return 1;
}

/* read_name reads the name of a literal field whose index is in f->number. It
 * is 0 if the window ends before, or if the name goes beyond it. */
static __always_inline int read_name(struct fields *f)
{
	__u32 at = forget(f->at), len = forget(f->number);
	struct known *k;
	int huffman;

	if (at >= f->have)
		return 0;
	f->name = OTHER;
	if (len) {
		if (len >= 8 && len <= 14)
			f->name = STATUS;
		else if (len >= DYNAMIC) {
			k = remembered(f, len);
			f->name = k ? k->name : OTHER;
		}
		return 1;
	}
	huffman = BYTE(f, at) & 0x80;
	f->number = 0x7f;
	varint(f);
	at = forget(f->at);
	len = forget(f->number);
	if (at > f->have)
		return 0;
	if (at + len >= f->have) {
		if (len <= INTERESTING)
			return 0;
		f->value = 1; /* pass over it: no long name matters */
	} else {
		name_at(f, at, len, huffman);
	}
	f->at = at + len;
	return 1;
}

/* read_field reads the field at f->at, which is then behind it, maybe beyond
 * the window. It is 0 if the window has not enough of it. */
static __always_inline int read_field(struct fields *f)
{
	__u8 b = BYTE(f, forget(f->at));

	if (f->value) { /* of a field with a long name */
		f->name = OTHER;
		if (!read_value(f))
			return 0;
		f->value = 0;
		return 1;
	}
	if (b & 0x80)
		f->number = 0x7f;
	else if (b & 0x40)
		f->number = 0x3f;
	else if (b & 0x20) /* a new size of the table */
		f->number = 0x1f;
	else
		f->number = 0x0f;
	varint(f);
	if (forget(f->at) > f->have)
		return 0;
	if (b & 0x80) {
		indexed(f, forget(f->number));
		return 1;
	}
	if ((b & 0xe0) == 0x20)
		return 1;
	f->adding = b & 0x40;
	if (!read_name(f))
		return 0;
	if (f->value)
		return 1;
	return read_value(f);
}
