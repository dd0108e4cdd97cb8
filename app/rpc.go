package main

import (
	"context"
	"errors"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/emptypb"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

const (
	rpcService = "shop.v1.Shop"
	rpcWork    = "/" + rpcService + "/Work"
)

// shopServer is what the generated code of shop.proto would call ShopServer.
// The service has one method and its messages are well-known types, so the
// description below is all the code there would be, and nobody needs protoc.
type shopServer interface {
	work(ctx context.Context, _ *emptypb.Empty) (*wrapperspb.StringValue, error)
}

var shopService = grpc.ServiceDesc{
	ServiceName: rpcService,
	HandlerType: (*shopServer)(nil),
	Methods:     []grpc.MethodDesc{{MethodName: "Work", Handler: handleWork}},
	Metadata:    "app/shop.proto",
}

func handleWork(srv any, ctx context.Context, decode func(any) error, intercept grpc.UnaryServerInterceptor) (any, error) {
	in := new(emptypb.Empty)
	if err := decode(in); err != nil {
		return nil, err
	}
	call := func(ctx context.Context, req any) (any, error) {
		return srv.(shopServer).work(ctx, req.(*emptypb.Empty))
	}
	if intercept == nil {
		return call(ctx, in)
	}
	return intercept(ctx, in, &grpc.UnaryServerInfo{Server: srv, FullMethod: rpcWork}, call)
}

// newRPC returns the gRPC server with the shop and health services.
func newRPC(s *server, traced ...grpc.ServerOption) (*grpc.Server, *health.Server) {
	srv := grpc.NewServer(append(traced, grpc.StreamInterceptor(s.endWithServer))...)
	srv.RegisterService(&shopService, s)
	h := health.NewServer()
	h.SetServingStatus(rpcService, healthpb.HealthCheckResponse_SERVING)
	healthpb.RegisterHealthServer(srv, h)
	return srv, h
}

// work is the gRPC twin of /work: it goes through the same faults and answers
// with the version.
func (s *server) work(ctx context.Context, _ *emptypb.Empty) (*wrapperspb.StringValue, error) {
	start := time.Now()
	err := s.injector.suffer(ctx)
	if errors.Is(err, errInjected) {
		err = status.Error(codes.Internal, err.Error())
	} else if err != nil {
		err = status.FromContextError(err).Err()
	}
	s.metrics.observeRPC(rpcService+"/Work", status.Code(err), time.Since(start))
	if err != nil {
		return nil, err
	}
	return wrapperspb.String(s.version), nil
}

// endWithServer ends streams when the lame-duck time is over. A health watch
// lasts as long as its client likes and would otherwise hold up every drain.
func (s *server) endWithServer(srv any, stream grpc.ServerStream, _ *grpc.StreamServerInfo, handle grpc.StreamHandler) error {
	ctx, cancel := context.WithCancel(stream.Context())
	defer cancel()
	defer context.AfterFunc(s.streams, cancel)()
	err := handle(srv, boundStream{stream, ctx})
	if s.streams.Err() != nil {
		return status.Error(codes.Unavailable, "server is shutting down")
	}
	return err
}

// boundStream is a stream with a shorter life.
type boundStream struct {
	grpc.ServerStream
	ctx context.Context
}

// Context returns the context that ends with the server, too.
func (b boundStream) Context() context.Context { return b.ctx }
