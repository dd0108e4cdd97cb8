package probe

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"strconv"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

func serveGRPC(l net.Listener) error {
	return grpc.NewServer(grpc.UnknownServiceHandler(serveCall)).Serve(l)
}

// serveCall does what each message asks for: waits, sends messages, and at the
// end of them returns the code of the last one.
func serveCall(_ any, s grpc.ServerStream) error {
	var code int
	for {
		var m wrapperspb.StringValue
		if err := s.RecvMsg(&m); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return err
		}
		ask, err := url.ParseQuery(m.Value)
		if err != nil {
			return err
		}
		code, _ = strconv.Atoi(ask.Get("code"))
		wait, _ := time.ParseDuration(ask.Get("wait"))
		select {
		case <-time.After(wait):
		case <-s.Context().Done():
			return status.FromContextError(s.Context().Err()).Err()
		}
		messages, _ := strconv.Atoi(ask.Get("messages"))
		for range messages {
			if err := s.SendMsg(&m); err != nil {
				return err
			}
		}
	}
	if code == 0 {
		return nil
	}
	return status.Error(codes.Code(code), "as asked")
}

func dialGRPC(t testing.TB, addr string) *grpc.ClientConn {
	t.Helper()
	c, err := grpc.NewClient("passthrough:///"+addr, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// call sends messages and reads what is answered. The result is the code that
// the client sees.
func call(ctx context.Context, c *grpc.ClientConn, messages ...string) codes.Code {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	s, err := c.NewStream(ctx, &grpc.StreamDesc{ClientStreams: true, ServerStreams: true}, "/sluice.Test/Call")
	if err != nil {
		return status.Code(err)
	}
	for _, m := range messages {
		if err := s.SendMsg(wrapperspb.String(m)); err != nil {
			break
		}
	}
	_ = s.CloseSend()
	for err == nil {
		err = s.RecvMsg(&wrapperspb.StringValue{})
	}
	if errors.Is(err, io.EOF) {
		return codes.OK
	}
	return status.Code(err)
}

func TestEveryCallIsCountedByItsCode(t *testing.T) {
	t.Parallel()
	s := start(t)
	p := s.watch(t, Options{})
	c := dialGRPC(t, s.grpc)
	var want Counts
	for code := range GRPCCodes {
		for form, ask := range map[string]string{"trailers": "messages=1&code=%d", "trailers only": "code=%d"} {
			for range 1 + code%3 {
				if got := call(t.Context(), c, fmt.Sprintf(ask, code)); got != codes.Code(code) {
					t.Fatalf("the client got %v in %s, want %d", got, form, code)
				}
				want.GRPC[code]++
				want.Classes[2]++
			}
		}
	}
	got := eventually(t, p, func(c Counts) bool { return c.GRPC == want.GRPC })
	if got.GRPC != want.GRPC || got.Classes != want.Classes {
		t.Errorf("counted %v, %v; want %v, %v", got.GRPC, got.Classes, want.GRPC, want.Classes)
	}
	if got.Failed() != want.Failed() {
		t.Errorf("%d failed, want %d", got.Failed(), want.Failed())
	}
	if n := got.Complete.Count(); n != got.Requests {
		t.Errorf("%d calls, %d last bytes", got.Requests, n)
	}
}

func TestHowACallStreamsDoesNotMatter(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		messages []string
		code     codes.Code
	}{
		"unary":                         {messages: []string{"messages=1"}},
		"the server streams":            {messages: []string{"messages=500"}},
		"the server streams, and fails": {messages: []string{"messages=500&code=14"}, code: codes.Unavailable},
		"the client streams":            {messages: []string{"", "", "", "", "messages=1"}},
		"both stream":                   {messages: []string{"messages=3", "messages=3", "messages=3", "messages=9"}},
		"neither sends anything":        {},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := start(t)
			p := s.watch(t, Options{})
			c := dialGRPC(t, s.grpc)
			const calls = 20
			for range calls {
				if got := call(t.Context(), c, tt.messages...); got != tt.code {
					t.Fatalf("the client got %v, want %v", got, tt.code)
				}
			}
			got := eventually(t, p, func(c Counts) bool { return c.GRPC[tt.code] == calls })
			if got.GRPC[tt.code] != calls || got.Classes != oks(calls) || got.InFlight() != 0 {
				t.Errorf("counted %v, %v, %d in flight; want %d of code %v", got.GRPC, got.Classes, got.InFlight(), calls, tt.code)
			}
		})
	}
}

func TestCallsThatTheClientGivesUpAreAborted(t *testing.T) {
	t.Parallel()
	s := start(t)
	p := s.watch(t, Options{})
	c := dialGRPC(t, s.grpc)
	if got := call(t.Context(), c, "messages=1"); got != codes.OK { // and the connection is there
		t.Fatal(got)
	}
	const calls = 10
	var all sync.WaitGroup
	giveUp := func(ctx context.Context, code codes.Code) {
		for range calls {
			all.Go(func() {
				if got := call(ctx, c, "wait=1h"); got != code {
					t.Errorf("the client got %v, want %v", got, code)
				}
			})
		}
	}
	gone, cancel := context.WithCancel(t.Context())
	defer cancel()
	giveUp(gone, codes.Canceled)
	eventually(t, p, func(c Counts) bool { return c.Begun == 1+calls })
	cancel()
	all.Wait()
	// A call whose time is up before its turn comes is never made: there is enough.
	late, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	giveUp(late, codes.DeadlineExceeded)
	all.Wait()
	// A server that sees the deadline itself answers with code 4 or resets the
	// stream: which of the two is first is a race, and either is a failure.
	got := eventually(t, p, func(c Counts) bool { return c.InFlight() == 0 })
	if got.Begun != 1+2*calls || got.Requests+got.Aborted != 1+2*calls || got.Failed() < calls {
		t.Errorf("%d begun, %d answered, %d aborted, %d failed; want %d of which none is left", got.Begun, got.Requests, got.Aborted, got.Failed(), 1+2*calls)
	}
}

func TestTwentyThousandCallsAreCounted(t *testing.T) {
	t.Parallel()
	s := start(t)
	p := s.watch(t, Options{})
	const workers, each = 100, 200
	var all sync.WaitGroup
	for i := range 4 {
		c := dialGRPC(t, s.grpc)
		for range workers / 4 {
			all.Go(func() {
				for n := range each {
					want := codes.Code((n + i) % 5 / 4 * 14)
					if got := call(t.Context(), c, fmt.Sprintf("messages=1&code=%d", want)); got != want {
						t.Errorf("the client got %v, want %v", got, want)
					}
				}
			})
		}
	}
	all.Wait()
	const calls = workers * each
	got := eventually(t, p, func(c Counts) bool { return c.Complete.Count() == calls })
	if got.GRPC[0] != calls*4/5 || got.GRPC[14] != calls/5 || got.Classes != oks(calls) || got.Complete.Count() != calls {
		t.Errorf("counted %v, %v; want %d, a fifth with code 14", got.GRPC, got.Classes, calls)
	}
}
